"""The night's ingest of landing/: each content once, each file heard, nobody stopped by another."""

import json
import os
import time
from pathlib import Path

import pytest

from digitrec.errors import Corrupt
from digitrec.ingest import landing
from digitrec.ingest.landing import ingest_landing
from digitrec.store.layout import Store

from .files import KAGGLE, UNLABELLED, csv_of, lines_of, write

LONG_AGO = time.time() - 3600


def land(store: Store, name: str, data: bytes, modified: float = LONG_AGO) -> Path:
    path = Path(store.full("landing")) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, data)
    os.utime(path, (modified, modified))
    return path


def test_every_new_file_becomes_a_dataset(store: Store) -> None:
    """Labelled or not, compressed or not, in folders too; landing/ itself is not touched."""
    land(store, "a.csv", csv_of())
    land(store, "b.csv.gz", csv_of(UNLABELLED))
    land(store, "monday/c.csv", csv_of(rows=900))
    before = sorted(Path(store.full("landing")).rglob("*"))
    report = ingest_landing(store)
    assert [entry.rows for entry in report.ingested] == [3, 3, 900]
    assert (report.refused, report.waiting, report.known) == ((), (), 0)
    assert sorted(Path(store.full("landing")).rglob("*")) == before


def test_nothing_is_done_twice(store: Store) -> None:
    """A second night, another name, a touched file: the same content is known."""
    land(store, "a.csv", csv_of())
    ingest_landing(store)
    assert ingest_landing(store).known == 1
    land(store, "copy.csv", csv_of())
    land(store, "a.csv", csv_of(), LONG_AGO + 1)
    report = ingest_landing(store)
    assert (report.ingested, report.known) == ((), 2)


def test_the_same_name_with_new_content_is_a_new_dataset(store: Store) -> None:
    """Whoever sends digits.csv each day gets a dataset each day."""
    land(store, "digits.csv", csv_of())
    (first,) = ingest_landing(store).ingested
    land(store, "digits.csv", csv_of(first=9))
    (second,) = ingest_landing(store).ingested
    assert first.dataset != second.dataset
    assert first.dataset.startswith("digits-")


def test_a_file_that_was_just_touched_waits(store: Store) -> None:
    """It may still be growing. A hidden file is an upload under way."""
    path = land(store, "young.csv", csv_of(), time.time())
    land(store, ".upload.csv", b"half")
    assert ingest_landing(store).waiting == ("young.csv",)
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert len(ingest_landing(store).ingested) == 1


def test_a_refused_file_stops_nobody_and_is_listed_each_night(store: Store) -> None:
    """Without being looked at again."""
    land(store, "a.csv", b"hello\n")
    land(store, "b.csv", csv_of())
    first, second = ingest_landing(store), ingest_landing(store)
    assert [entry.rows for entry in first.ingested] == [3]
    assert [entry.path for entry in first.refused] == ["a.csv"]
    assert second.refused == first.refused
    assert "refused: a.csv: " in "\n".join(second.lines())


def test_refused_files_are_tried_again_when_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer digitrec may read what an older one refused."""
    header, *_ = lines_of(KAGGLE, 0)
    land(store, "a.csv", header + b"\n1,2\n")
    ingest_landing(store)
    assert len(ingest_landing(store, retry_refused=True).refused) == 1
    real = landing.ingest
    with monkeypatch.context() as newer:
        newer.setattr(landing, "ingest", lambda *args, **more: real(store, [write(Path("b.csv"), csv_of())], args[2]))
        assert len(ingest_landing(store, retry_refused=True).ingested) == 1
    assert ingest_landing(store).known == 1


def test_what_is_no_file_is_refused_without_being_opened(store: Store) -> None:
    """A pipe must not hang the night, a broken link not stop it."""
    land(store, "a.csv", csv_of())
    os.mkfifo(store.full("landing/pipe.csv"))
    os.utime(store.full("landing/pipe.csv"), (LONG_AGO, LONG_AGO))
    Path(store.full("landing/broken.csv")).symlink_to("nowhere")
    report = ingest_landing(store)
    assert [entry.path for entry in report.refused] == ["broken.csv", "pipe.csv"]
    assert len(report.ingested) == 1


def test_the_ledger_is_what_counts_the_cache_only_saves_time(store: Store) -> None:
    """A damaged cache is made again; a damaged ledger entry is said aloud."""
    land(store, "a.csv", csv_of())
    ingest_landing(store)
    cache = Path(store.full("landed/cache.json"))
    cache.write_text("{")
    assert ingest_landing(store).known == 1
    assert list(json.loads(cache.read_text())) == ["a.csv"]
    (entry,) = (path for path in cache.parent.iterdir() if path != cache)
    entry.write_text("{")
    with pytest.raises(Corrupt, match="is damaged"):
        ingest_landing(store)


def test_an_untouched_file_is_not_hashed_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """(path, size, mtime) → digest."""
    land(store, "a.csv", csv_of())
    ingest_landing(store)
    monkeypatch.setattr(landing, "hash_source", None)
    assert ingest_landing(store).known == 1


def test_no_landing_folder_is_nothing_to_do(store: Store) -> None:
    """A store need not have one."""
    assert ingest_landing(store).lines() == ["landing: 0 new datasets, 0 rows; 0 files known"]
    assert not Path(store.url).exists()
