"""A store that an earlier digitrec has made is refused as a whole, in one line."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog.marker import MARKER
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT, KAGGLE_PIXELS
from digitrec.errors import OldStore
from digitrec.options import ScoreOptions
from digitrec.scoring.run import score
from tests.cli.conftest import Command, refused
from tests.scoring.making import make_dataset, make_images, make_model, settings_for


@pytest.fixture
def old(digitrec: Command) -> Store:
    """Datasets, a champion and predictions, all of the format before this one."""
    store = Store.at("store")
    make_model(store)
    make_dataset(store, "train", make_images(8), labels=np.arange(8, dtype=np.uint8))
    make_dataset(store, "x", make_images(5))
    assert digitrec("score").code == 0
    store.storage.delete(MARKER)  # that one had none
    Path("new.csv").write_text(",".join(KAGGLE_PIXELS) + "\n" + ",".join(["0"] * 784) + "\n")
    for path in Path(store.url).rglob("*.json"):
        path.write_text(path.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT - 1}'))
    return store


@pytest.mark.parametrize(
    "tokens",
    [
        ["list", "datasets"],
        ["list", "models"],
        ["list", "predictions"],
        ["score"],
        ["score", "--dataset", "x"],
        ["score", "--dry-run"],
        ["train"],
        ["train", "--dataset", "train"],
        ["verify"],
        ["verify", "store/datasets/x"],
        ["models", "history"],
        ["models", "show", "quick-00000001"],
        ["promote", "quick-00000001"],
        ["rollback"],
        ["rejects", "x"],
        ["ingest", "new.csv"],
        ["score", "new.csv"],
    ],
)
def test_each_command_says_so(digitrec: Command, old: Store, tokens: list[str]) -> None:
    """Exit 78; the store, both formats and the remedy in one line; nothing in it is changed."""
    before = {path: path.stat().st_mtime_ns for path in Path(old.url).rglob("*") if path.is_file()}
    ended = digitrec(*tokens)
    refused(
        ended,
        78,
        old.url,
        f"has format {FORMAT - 1}, of an earlier digitrec, and this one reads {FORMAT}",
        "name a new one with --store and ingest the sources again",
    )
    assert {path: path.stat().st_mtime_ns for path in Path(old.url).rglob("*") if path.is_file()} == before


def test_the_library_adds_nothing_to_it(digitrec: Command, old: Store) -> None:
    """`digitrec.score`, where there is no champion: the bundled model is not put into such a store."""
    shutil.rmtree(Path(old.url, "models"))
    before = set(Path(old.url).rglob("*"))
    with pytest.raises(OldStore, match=f"has format {FORMAT - 1}"):
        score(old, ScoreOptions(), settings_for(old))
    assert set(Path(old.url).rglob("*")) == before
