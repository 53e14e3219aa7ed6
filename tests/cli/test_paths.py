"""A path is a name: whatever characters a store's folder has, the whole way works in it."""

import os
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS
from tests.cli.conftest import Command, write_csv
from tests.places import full
from tests.scoring.making import make_model, make_network

NAMES = ["runs[1]", "a*b", "what?", "{x} {0}", "50% %20 #1", "grüße aus köln", "[!a-z]**", "-[0-9]", "a\\b'c\"d$HOME"]


def way(digitrec: Command, store: Store, options: list[str]) -> None:
    """Ingest, score, promote, roll back, list, verify, and the scheduled run with a file in landing/."""

    def run(*tokens: object) -> str:
        ended = digitrec(*options, *tokens)
        assert ended.code == 0, (tokens, ended.err)
        return ended.out

    make_model(store, "quick-00000001")
    make_model(store, "quick-00000002", make_network(seed=2))
    run("ingest", write_csv(Path("first.csv"), rows=5), "--dataset", "first")
    assert "scored in" in run("score", "--dataset", "first")
    assert "already published" in run("score", "--dataset", "first")
    assert "quick-00000001 (entry 3" in run("promote", "quick-00000001")
    assert "quick-00000002 (entry 4" in run("rollback")
    assert "quick-00000002" in run("models", "history")
    assert "first" in run("list", "datasets")
    assert "champion" in run("list", "models")
    landing = Path(full(store, "landing"))
    landing.mkdir()
    os.utime(write_csv(landing / "second.csv", rows=7), (0, 0))
    assert "7 rows" in run("score")
    assert "nothing to score" in run("score")
    assert run("list", "predictions").count("\n") == 2
    assert "2 predictions" in run("verify")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_way_in_a_named_store(digitrec: Command, tmp_path: Path, name: str) -> None:
    """By --store; nothing outside it is touched."""
    store = Store.at(tmp_path / name / "store")
    way(digitrec, store, ["--store", store.url])
    assert {path.name for path in tmp_path.iterdir()} == {name, "first.csv"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_way_in_the_working_folder(
    digitrec: Command, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default store, ./store, of an oddly named working folder."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    way(digitrec, Store.at("store"), [])


def test_a_training_in_a_named_store(digitrec: Command, tmp_path: Path) -> None:
    """Checkpoints, logs and plots are written, found and sealed there too."""
    generator = np.random.default_rng(0)
    rows = np.column_stack([np.arange(400) % 10, generator.integers(0, 256, (400, 784))])
    np.savetxt("train.csv", rows, fmt="%d", delimiter=",", header="label," + ",".join(KAGGLE_PIXELS), comments="")
    store = tmp_path / "[1] {x}* 50%20#?ü" / "store"
    assert digitrec("--store", store, "ingest", "train.csv").code == 0
    trained = digitrec("--store", store, "train", "--preset", "quick")
    assert trained.code == 0, trained.err
    assert digitrec("--store", store, "verify").code == 0
    assert "was trained before" in digitrec("--store", store, "train", "--preset", "quick").out
