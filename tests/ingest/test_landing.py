"""The scheduled ingest of landing/: each content once, each file heard, none stopped by another."""

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from digitrec.catalog.layout import manifest_path
from digitrec.catalog.manifest import Source
from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, StorageFailed
from digitrec.ingest import csv, landing
from digitrec.ingest.landing import ingest_landing
from digitrec.ingest.run import ingest
from digitrec.progress import Step
from digitrec.storage import files as storage_files
from tests.places import full

from .files import KAGGLE, UNLABELLED, csv_of, lines_of, write
from .landed import LONG_AGO, land, records, refused, waiting
from .outcomes import PLAIN


def test_every_new_file_becomes_a_dataset(store: Store) -> None:
    """Labelled or not, compressed or not, in folders too; landing/ itself is not touched."""
    land(store, "a.csv", csv_of())
    land(store, "b.csv.gz", csv_of(UNLABELLED))
    land(store, "monday/c.csv", csv_of(rows=900))
    before = sorted(Path(full(store, "landing")).rglob("*"))
    report = ingest_landing(store)
    assert [entry.rows for entry in report.ingested] == [3, 3, 900]
    assert (report.refused, report.waiting, report.known) == ((), (), 0)
    assert sorted(Path(full(store, "landing")).rglob("*")) == before


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
    """It may still be growing."""
    path = land(store, "young.csv", csv_of(), time.time())
    assert waiting(ingest_landing(store)) == {"young.csv": "it was touched in the last 60 s"}
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
    path = land(store, "a.csv", header + b"\n1,2\n")
    ingest_landing(store)
    assert len(ingest_landing(store, retry_refused=True).refused) == 1
    taken = ingest(store, [write(Path("b.csv"), csv_of())], PLAIN)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with monkeypatch.context() as newer:
        newer.setattr(
            landing,
            "ingest_origins",
            lambda *args, **more: replace(taken, sources=(Source(path.name, path.stat().st_size, digest),)),
        )
        assert ingest_landing(store, retry_refused=True).refused == ()
    assert ingest_landing(store).known == 1


def test_what_is_no_file_is_refused_without_being_opened(store: Store) -> None:
    """A pipe must not hang the night, a broken link not stop it."""
    land(store, "a.csv", csv_of())
    os.mkfifo(full(store, "landing/pipe.csv"))
    os.utime(full(store, "landing/pipe.csv"), (LONG_AGO, LONG_AGO))
    Path(full(store, "landing/broken.csv")).symlink_to("nowhere")
    report = ingest_landing(store)
    assert [entry.path for entry in report.refused] == ["broken.csv", "pipe.csv"]
    assert len(report.ingested) == 1


def test_the_ledger_is_what_counts_the_cache_only_saves_time(store: Store) -> None:
    """A damaged cache is made again."""
    land(store, "a.csv", csv_of())
    ingest_landing(store)
    cache = Path(full(store, "landed/cache.json"))
    cache.write_text("{")
    assert ingest_landing(store).known == 1
    assert list(json.loads(cache.read_text())["files"]) == ["a.csv"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{", "is damaged; remove it"),
        ("[]", "is damaged; remove it"),
        ('{"dataset": "a"}', "is damaged; remove it"),
        ('{"dataset": "a", "format": 99}', "has format 99"),
    ],
)
def test_a_ledger_entry_that_cannot_be_understood_stops_nobody(entry: str, words: str, store: Store) -> None:
    """Damaged, or a newer digitrec's: its file is listed, the entry stays, the others are taken."""
    land(store, "a.csv", csv_of())
    ingest_landing(store)
    (path,) = records(store)
    path.write_text(entry)
    land(store, "b.csv", csv_of(first=5))
    report = ingest_landing(store)
    assert [(refused.path, words in refused.reason) for refused in report.refused] == [("a.csv", True)]
    assert len(report.ingested) == 1
    assert path.read_text() == entry


@pytest.mark.parametrize("unreadable", ["{", '{"format": 99, "digest": ""}'])
def test_a_dataset_that_cannot_be_understood_stops_nobody(unreadable: str, store: Store) -> None:
    """Damaged, or a newer digitrec's: its file is listed, and taken as soon as the dataset can be read."""
    land(store, "a.csv", csv_of())
    (dataset,) = ingest_landing(store).ingested
    manifest = Path(full(store, manifest_path(dataset.folder)))
    whole = manifest.read_bytes()
    manifest.write_text(unreadable)
    records(store)[0].unlink()
    land(store, "b.csv", csv_of(first=5))
    report = ingest_landing(store)
    assert [refused.path for refused in report.refused] == ["a.csv"]
    assert len(report.ingested) == 1
    manifest.write_bytes(whole)
    assert [entry.already for entry in ingest_landing(store).ingested] == [True]


def test_a_file_that_cannot_be_read_stops_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error in the middle is listed and not remembered: the next night tries again."""
    land(store, "a.csv", csv_of())
    land(store, "b.csv", csv_of(first=5))
    real = csv.SourceFile.read_raw

    def fail(source: csv.SourceFile, view: memoryview) -> int:
        with csv.reading(source.where):
            if source.name == "a.csv":
                raise OSError(5, "Input/output error")
            return real(source, view)

    with monkeypatch.context() as damaged:
        damaged.setattr(csv.SourceFile, "read_raw", fail)
        report = ingest_landing(store)
    assert [(entry.path, "Input/output error" in entry.reason) for entry in report.refused] == [("a.csv", True)]
    assert len(report.ingested) == 1
    assert len(ingest_landing(store).ingested) == 1


def test_a_full_disk_ends_the_night(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's file that is wrong, and nothing is remembered."""
    land(store, "a.csv", csv_of())

    def full(*_: object, **__: object) -> None:
        raise StorageFailed("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(landing, "ingest_origins", full)
        with pytest.raises(StorageFailed, match="No space"):
            ingest_landing(store)
    assert len(ingest_landing(store).ingested) == 1


def test_a_file_that_goes_after_it_was_hashed_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is not remembered as refused: it may come back."""
    path = land(store, "a.csv", csv_of())
    real = landing.ingest_origins

    def late(*args: object, **more: object) -> object:
        path.unlink(missing_ok=True)
        return real(*args, **more)  # type: ignore[arg-type]  # passed through

    with monkeypatch.context() as patch:
        patch.setattr(landing, "ingest_origins", late)
        report = ingest_landing(store)
    assert (list(waiting(report)), report.refused) == (["a.csv"], ())
    land(store, "a.csv", csv_of())
    assert len(ingest_landing(store).ingested) == 1


def test_a_name_that_is_not_utf8_is_refused_and_shown_escaped(store: Store) -> None:
    """Of a file or of a folder; the others are taken, and the report can be printed."""
    land(store, "a.csv", csv_of())
    land(store, os.fsdecode(b"bad\xff.csv"), csv_of(first=5))
    land(store, os.fsdecode(b"\xfe/b.csv"), csv_of(first=6))
    report = ingest_landing(store)
    assert refused(report) == dict.fromkeys(["\\xfe/b.csv", "bad\\xff.csv"], "its name is not UTF-8 text; rename it")
    assert len(report.ingested) == 1
    assert "its name is not UTF-8" in "\n".join(report.lines()).encode().decode()


def test_a_folder_that_cannot_be_read_is_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in it was not looked at, which is not the same as nothing being there."""
    land(store, "a.csv", csv_of())
    locked = land(store, "locked/b.csv", csv_of(first=5)).parent.stat().st_ino
    real = os.scandir

    def refuse(folder: int) -> object:
        if os.stat(folder).st_ino == locked:
            raise PermissionError(13, "Permission denied")
        return real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        report = ingest_landing(store)
    assert refused(report) == {"locked": "Permission denied"}
    assert len(report.ingested) == 1
    assert len(ingest_landing(store).ingested) == 1


def test_a_landing_that_cannot_be_read_is_a_storage_failure(store: Store) -> None:
    """Exit 74, not "nothing new"."""
    Path(store.url).mkdir()
    Path(full(store, "landing")).write_text("a file")
    with pytest.raises(StorageFailed, match="landing"):
        ingest_landing(store)


def test_progress_tells_files_and_what_is_done_in_each(store: Store) -> None:
    """A large file alone may take most of the night."""
    steps: list[Step] = []
    land(store, "a.csv", csv_of())
    land(store, "b.csv", csv_of(rows=900))
    ingest_landing(store, progress=steps.append)
    assert {step.stage for step in steps} == {"landing", "ingest"}
    assert [step.done for step in steps if step.stage == "landing"] == [1, 2]


def test_an_untouched_file_is_not_hashed_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state stands for its digest, once it is older than a tick of the file system's clock."""
    land(store, "a.csv", csv_of())
    monkeypatch.setattr(storage_files, "CLOCK_TICK_S", 0)
    ingest_landing(store)
    monkeypatch.setattr(landing, "_hash", None)
    assert ingest_landing(store).known == 1


def test_a_landing_folder_that_is_a_link_to_nowhere_ends_the_run(store: Store) -> None:
    """The operator's disk is not mounted: that is not "nothing new"; exit 78, the link is to be corrected."""
    Path(store.url).mkdir()
    Path(full(store, "landing")).symlink_to("not-mounted")
    with pytest.raises(Misconfigured, match="not-mounted"):
        ingest_landing(store)


def test_no_landing_folder_is_nothing_to_do(store: Store) -> None:
    """A store need not have one."""
    assert ingest_landing(store).lines() == ["landing: 0 new datasets, 0 rows; 0 files known"]
    assert not Path(store.url).exists()
