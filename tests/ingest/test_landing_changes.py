"""Files of landing/ that others change, replace or remove while a run looks at them, or after it."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from digitrec.errors import UsageError
from digitrec.ingest import landing
from digitrec.ingest.landing import ingest_landing
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions
from digitrec.progress import Progress, Step
from digitrec.storage import files as storage_files
from tests.places import full

from .files import csv_of, write
from .landed import CORRECTED, LONG_AGO, land, records, refused, stated_otherwise, waiting

LARGE = csv_of(rows=700)
"""Above 1 MiB: its turn comes after all small files."""
OTHER = csv_of(rows=700, first=7)
BROKEN = b"not a single digit\n" * 60_000


def after_the_small_ones(change: Callable[[], object]) -> Progress:
    """Change something once, after the first file was taken: all are hashed by then, the large ones not yet taken."""
    left = [change]

    def progress(step: Step) -> None:
        if step.stage == "landing" and left:
            left.pop()()

    return progress


def when_it_is_taken(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Change something once, at the last moment before a file is opened to be ingested."""
    real, left = landing.ingest_origins, [change]

    def late(*args: object, **more: object) -> object:
        if left:
            left.pop()()
        return real(*args, **more)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(landing, "ingest_origins", late)


def booked(store: Store) -> set[str]:
    return {path.stem for path in records(store)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_replaced_before_its_turn_waits_and_neither_content_is_booked(store: Store) -> None:
    """The first content may come again and is then taken; so is what replaced it."""
    land(store, "a.csv", csv_of())
    path = land(store, "large.csv", LARGE)
    first = digest(path)
    report = ingest_landing(store, progress=after_the_small_ones(lambda: land(store, "large.csv", OTHER)))
    assert waiting(report) == {"large.csv": "it changed while it was looked at"}
    assert first not in booked(store)
    land(store, "again.csv", LARGE)
    report = ingest_landing(store)
    assert sorted(entry.sources[0].sha256 for entry in report.ingested) == sorted([first, digest(path)])


def test_a_good_content_is_not_condemned_by_what_replaced_it(store: Store) -> None:
    """Broken bytes that were read say nothing of the good ones that were hashed."""
    land(store, "a.csv", csv_of())
    path = land(store, "large.csv", LARGE)
    first = digest(path)
    ingest_landing(store, progress=after_the_small_ones(lambda: land(store, "large.csv", BROKEN)))
    assert first not in booked(store)
    land(store, "large.csv", LARGE)
    assert [entry.rows for entry in ingest_landing(store).ingested] == [700]


def test_what_was_read_is_booked_however_late_it_came(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced at the last moment: the published dataset is told, under the digest of its own bytes alone."""
    path = land(store, "a.csv", csv_of())
    first = digest(path)
    when_it_is_taken(monkeypatch, lambda: land(store, "a.csv", csv_of(first=5)))
    report = ingest_landing(store)
    assert (len(report.ingested), list(waiting(report))) == (1, ["a.csv"])
    assert booked(store) == {digest(path)} == {report.ingested[0].sources[0].sha256}
    assert ingest_landing(store).known == 1
    land(store, "b.csv", csv_of())
    assert [entry.sources[0].sha256 for entry in ingest_landing(store).ingested] == [first]


def test_a_refusal_is_booked_only_if_nothing_changed_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced by broken bytes at the last moment: it waits, and nothing is remembered."""
    land(store, "a.csv", csv_of())
    when_it_is_taken(monkeypatch, lambda: land(store, "a.csv", b"hello\n"))
    report = ingest_landing(store)
    assert (list(waiting(report)), report.refused) == (["a.csv"], ())
    assert not Path(full(store, "landed")).exists() or booked(store) == set()


def test_two_senders_of_one_content_and_one_changes_it(store: Store) -> None:
    """The other one's file is taken in the same run."""
    land(store, "a.csv", csv_of())
    land(store, "large.csv", LARGE)
    other = land(store, "other.csv", LARGE)
    report = ingest_landing(store, progress=after_the_small_ones(lambda: land(store, "large.csv", OTHER)))
    assert list(waiting(report)) == ["large.csv"]
    assert digest(other) in booked(store)
    assert [entry.rows for entry in report.ingested] == [3, 700]


def test_the_copies_of_a_refused_file_are_refused_with_it(store: Store) -> None:
    """In the first run as in the next ones."""
    for name in ("a.csv", "b.csv", "c.csv"):
        land(store, name, b"hello\n")
    for _ in range(2):
        report = ingest_landing(store)
        assert (list(refused(report)), report.known) == (["a.csv", "b.csv", "c.csv"], 0)


def test_a_corrected_file_of_the_same_size_and_time_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `rsync -t --inplace` and `cp -p` leave it: its ctime tells."""
    monkeypatch.setattr(storage_files, "CLOCK_TICK_S", 0)  # or else it would be hashed again for being young
    path = land(store, "a.csv", csv_of())
    ingest_landing(store)
    path.write_bytes(CORRECTED)
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert len(ingest_landing(store).ingested) == 1


def test_a_file_that_was_renamed_into_place_is_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `rsync -t` leaves it: of the same size and time."""
    monkeypatch.setattr(storage_files, "CLOCK_TICK_S", 0)
    land(store, "a.csv", csv_of())
    ingest_landing(store)
    other = land(store, "new.part", CORRECTED)
    other.rename(Path(full(store, "landing/a.csv")))
    assert len(ingest_landing(store).ingested) == 1


@pytest.mark.parametrize("what", ["file", "folder", "renamed"])
def test_what_goes_while_it_is_listed_is_no_error(what: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders tidy up whenever they like; the others' files are taken."""
    land(store, "a.csv", csv_of())
    gone = land(store, "day/b.csv", csv_of(first=5))
    folder, real, left = gone.parent.stat().st_ino, os.scandir, [what]

    def change(listed: int) -> object:
        found = real(listed)
        entries = list(found)
        inside = os.stat(listed).st_ino == folder
        if left and inside == (what == "file"):
            left.clear()
            gone.unlink() if what != "renamed" else gone.parent.rename(gone.parent.with_name("night"))
            if what == "folder":
                gone.parent.rmdir()
        return Listed(entries)

    monkeypatch.setattr(os, "scandir", change)
    report = ingest_landing(store)
    assert ([entry.rows for entry in report.ingested], report.refused) == ([3], ())


class Listed(list):  # type: ignore[type-arg]
    """Entries as `os.scandir` gives them, for a `with`."""

    def __enter__(self) -> "Listed":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


def test_a_dataset_that_stands_in_the_way_is_not_held_against_the_file(store: Store) -> None:
    """Another content has the name that it would get: it is named, and taken once the name is free."""
    land(store, "a.csv", csv_of())
    (taken,) = ingest_landing(store).ingested
    for path in (full(store, taken.folder), full(store, "landed")):
        shutil.rmtree(path)
    other = write(Path("other.csv"), csv_of(first=5))
    ingest(store, [other], IngestOptions(dataset=taken.dataset))
    for _ in range(2):
        assert list(refused(ingest_landing(store))) == ["a.csv"]
    assert records(store) == []
    shutil.rmtree(full(store, taken.folder))
    assert [entry.dataset for entry in ingest_landing(store).ingested] == [taken.dataset]


def test_options_that_ingest_refuses_stop_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may ask for what does not fit together: its file is named, and the run goes on."""
    land(store, "a.csv", csv_of())

    def refuse(*_: object, **__: object) -> None:
        raise UsageError("--label first needs --no-header")

    monkeypatch.setattr(landing, "ingest_origins", refuse)
    assert refused(ingest_landing(store)) == {"a.csv": "--label first needs --no-header"}
    assert not any(Path(full(store, "landed")).glob("*-*.json"))


def test_a_machine_that_numbers_its_disks_anew_delays_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart a disk may have another number; what stood still has stood still."""
    land(store, "a.csv", csv_of()[:-1])
    assert list(waiting(ingest_landing(store))) == ["a.csv"]
    stated_otherwise(monkeypatch, st_dev=99)
    assert len(ingest_landing(store).ingested) == 1
