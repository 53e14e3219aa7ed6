"""`digitrec doctor`."""

import os
import time
from pathlib import Path

import pytest

from digitrec.catalog.pending import noted
from digitrec.catalog.store import Store
from tests.cli.conftest import Command, refused
from tests.scoring.making import make_dataset, make_images, make_model


def test_the_doctor_finds_a_healthy_place(digitrec: Command) -> None:
    """Exit 0 where everything needed is there; the lack of a champion is a hint, with what to do. Nothing is left in
    the store."""
    ended = digitrec("doctor")
    assert ended.code == 0, ended.out
    assert "-- champion: none yet → digitrec ingest train.csv, then digitrec train" in ended.out
    assert "ok disk space" in ended.out
    assert not [path for path in Path("store").rglob("*") if path.is_file()]
    make_model(Store.at("store"))
    assert "ok champion: quick-00000001" in digitrec("doctor").out


def test_the_doctor_names_what_is_ill(digitrec: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store that is a file, and servers that do not answer: exit 78, and a line each with what to do."""
    (tmp_path / "store").write_text("a file")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("DIGITREC_DASK", "tcp://127.0.0.1:9")
    ended = digitrec("doctor")
    assert ended.code == 78
    ill = [line.split(":")[0] for line in ended.out.splitlines() if line.startswith("!!")]
    assert ill == ["!! store", "!! dask", "!! prefect"]
    assert "3 of" in ended.err


def test_the_index_is_rebuilt_when_it_is_asked_for(digitrec: Command) -> None:
    """Datasets whose notes are gone are noted and scored again; the doctor says which. Without being asked it lists
    nothing, and removes nothing."""
    store = Store.at("store")
    make_model(store)
    for name in ("a", "b"):
        make_dataset(store, name, make_images(4))
    assert digitrec("score", "--dataset", "b").code == 0
    store.storage.delete("pending/a")
    store.storage.put("datasets/a/stray.parquet", b"")
    old = time.time() - 8 * 86_400
    os.utime("store/datasets/a/stray.parquet", (old, old))
    told = digitrec("doctor").out
    assert "index: " not in told
    assert "debris: " not in told
    assert "nothing to score" in digitrec("score").out
    ended = digitrec("doctor", "--rebuild-index")
    assert ended.code == 0, ended.out
    assert "ok index: 1 (a) noted to be scored" in ended.out
    assert "ok debris: 1 (datasets/a/stray.parquet) removed" in ended.out
    assert noted(store) == ["a"]
    assert "a: scored in" in digitrec("score").out
    again = digitrec("doctor", "--rebuild-index").out
    assert "ok index: nothing noted" in again
    assert "ok debris: nothing removed" in again
    assert digitrec("verify").code == 0
    assert Path(next(Path("store/predictions/a").iterdir()), "submission.csv").exists()


def test_a_note_of_nothing_delays_nothing(digitrec: Command) -> None:
    """Its dataset never came, is labelled, or is scored: the scheduled run does the rest, and says nothing of it."""
    store = Store.at("store")
    make_model(store)
    make_dataset(store, "labelled", make_images(3), labels=make_images(3)[:, 0] % 10)
    make_dataset(store, "scored", make_images(4))
    assert digitrec("score").code == 0
    make_dataset(store, "new", make_images(5))
    for name in ("ghost", "labelled", "scored"):
        store.storage.put(f"pending/{name}", b"")
    ended = digitrec("score")
    assert ended.code == 0, ended.err
    assert [line.split(":")[0] for line in ended.out.splitlines() if "scored in" in line] == ["new"]
    assert noted(store) == ["ghost"]  # one that may still come


def test_the_doctor_on_a_store_of_an_earlier_digitrec(digitrec: Command) -> None:
    """A line with the reason and the remedy, and exit 78; nothing is swept in it."""
    store = Store.at("store")
    make_model(store)
    for path in Path("store").rglob("*.json"):
        path.write_text(path.read_text().replace('"format": 3', '"format": 2'))
    before = sorted(Path("store").rglob("*"))
    ended = digitrec("doctor", "--rebuild-index")
    assert ended.code == 78
    assert "of an earlier digitrec" in ended.out
    assert sorted(Path("store").rglob("*")) == before
    refused(digitrec("models", "history"), 78, "of an earlier digitrec")
