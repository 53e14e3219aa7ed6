"""Files of landing/ that may not be whole wait; none waits for ever."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.ingest.landing import ingest_landing
from digitrec.ingest.landing_scan import ENDLESS, proves_its_end
from digitrec.progress import Step
from tests.places import full

from .files import csv_of
from .landed import CORRECTED, LONG_AGO, land, place, records, refused, stated_otherwise, waiting

WHOLE = csv_of(rows=9)
HALF = WHOLE[: len(WHOLE) // 2]


def test_a_stalled_upload_waits_and_is_taken_once_it_is_whole(store: Store) -> None:
    """It stops within a line for an hour and goes on: no half is published, or held against the whole."""
    land(store, "a.csv", HALF)
    report = ingest_landing(store)
    assert (waiting(report), report.ingested, report.refused) == ({"a.csv": ENDLESS}, (), ())
    land(store, "a.csv", WHOLE)
    assert [entry.rows for entry in ingest_landing(store).ingested] == [9]


def test_a_file_that_grows_between_runs_waits_until_it_stands_still(store: Store) -> None:
    """Each run compares with the one before; two in the same state judge it, newline or not."""
    path = land(store, "a.csv", HALF)
    for _ in range(3):
        assert waiting(ingest_landing(store)) == {"a.csv": ENDLESS}
        with path.open("ab") as file:
            file.write(b",1")
        os.utime(path, (LONG_AGO, LONG_AGO))
    path.write_bytes(WHOLE[:-1])
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert list(waiting(ingest_landing(store))) == ["a.csv"]
    report = ingest_landing(store)
    assert (len(report.ingested), report.waiting) == (1, ())


def test_what_stood_still_is_judged_and_remembered(store: Store) -> None:
    """A file that nobody will finish is refused after two runs, and not read again."""
    land(store, "a.csv", b"no digits")
    assert list(waiting(ingest_landing(store))) == ["a.csv"]
    for _ in range(2):
        assert list(refused(ingest_landing(store))) == ["a.csv"]
    assert len(records(store)) == 1


def test_an_empty_file_waits_first(store: Store) -> None:
    """Many tools create the name before they send a byte."""
    land(store, "a.csv", b"")
    assert list(waiting(ingest_landing(store))) == ["a.csv"]
    assert list(refused(ingest_landing(store))) == ["a.csv"]


def test_a_lost_cache_delays_by_one_run(store: Store) -> None:
    """Nothing else: what was taken is known."""
    land(store, "a.csv", WHOLE[:-1])
    land(store, "b.csv", csv_of(first=5))
    ingest_landing(store)
    Path(full(store, "landed/cache.json")).unlink()
    report = ingest_landing(store)
    assert (list(waiting(report)), report.known) == (["a.csv"], 1)
    assert len(ingest_landing(store).ingested) == 1


CACHES = [
    *(
        f'{{"format": {FORMAT}, "files": {files}}}'
        for files in ('{"a.csv": 5}', '{"a.csv": [5, 5]}', '[["a.csv", 1]]', 5)
    ),
    f'{{"format": {FORMAT}}}',
    '{"format": 99, "files": {}}',
    '{"a.csv": ["", ""]}',
    "[]",
    "\xff",
]


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_of_another_shape_is_none(cache: str, store: Store) -> None:
    """Whatever wrote it."""
    land(store, "a.csv", WHOLE)
    Path(full(store, "landed")).mkdir()
    Path(full(store, "landed/cache.json")).write_bytes(cache.encode("latin-1"))
    assert len(ingest_landing(store).ingested) == 1


def test_a_sender_whose_clock_is_ahead_waits_for_the_second_run(store: Store) -> None:
    """Its times say nothing: such a file may still grow. It waits until it stands still, and not for ever."""
    path = land(store, "a.csv", csv_of(), time.time() + 1e6)
    assert waiting(ingest_landing(store)) == {"a.csv": "its time lies in the future: its sender's clock is ahead"}
    path.write_bytes(csv_of(rows=5))
    os.utime(path, (time.time() + 1e6,) * 2)
    assert list(waiting(ingest_landing(store))) == ["a.csv"]
    assert [entry.rows for entry in ingest_landing(store).ingested] == [5]


def test_a_young_file_that_stood_still_over_two_runs_is_taken(store: Store) -> None:
    """Runs may be less than a minute apart."""
    land(store, "a.csv", csv_of(), time.time())
    assert list(waiting(ingest_landing(store))) == ["a.csv"]
    assert len(ingest_landing(store).ingested) == 1


def test_a_run_beside_this_one_is_not_the_next(store: Store) -> None:
    """Two runs at once have seen one state once: what waits for the one waits for the other."""
    land(store, "a.csv", csv_of())
    land(store, "b.csv", HALF)
    beside = []

    def run_beside(step: Step) -> None:
        if step.stage == "landing" and not beside:
            beside.append(None)
            beside[0] = ingest_landing(store)

    assert list(waiting(ingest_landing(store, progress=run_beside))) == ["b.csv"]
    assert list(waiting(beside[0])) == ["b.csv"]


@pytest.mark.parametrize(
    "name",
    [
        "a.csv.part",
        "a.csv.PART",
        "a.tmp",
        "a.csv.crdownload",
        "a.csv.filepart",
        "a.csv~",
        "a.swp",
        ".a.csv",
        ".up/a.csv",
    ],
)
def test_uploads_under_way_by_their_names_are_left_alone(name: str, store: Store) -> None:
    """However long they lie there; they are counted, neither refused nor waiting, and taken under their final name."""
    path = land(store, name, csv_of())
    for _ in range(2):
        report = ingest_landing(store)
        assert (report.ingested, report.refused, report.waiting, report.uploads) == ((), (), (), 1)
    assert "1 uploads under way" in "\n".join(report.lines())
    path.rename(place(store, "a.csv"))
    assert len(ingest_landing(store).ingested) == 1


def zipped(data: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return target.getvalue()


def tarred(data: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def parquet(data: bytes) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({"image": [data]}), target)
    return target.getvalue()


CONTAINERS = {
    "gzip": gzip.compress(WHOLE),
    "zstd": zstandard.compress(WHOLE),
    "bzip2": bz2.compress(WHOLE),
    "xz": lzma.compress(WHOLE),
    "zip": zipped(WHOLE),
    "tar": tarred(WHOLE),
    "parquet": parquet(WHOLE),
}
MARKED = {name: data for name, data in CONTAINERS.items() if name in {"xz", "zip", "tar", "parquet"}}
"""Those whose end bears a mark."""


def proves(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    with io.FileIO(str(path)) as file:
        return proves_its_end(file, len(data))


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_proves_its_own_end(kind: str, tmp_path: Path) -> None:
    """Whatever its name, and although no newline ends it."""
    assert proves(tmp_path / "a.csv", CONTAINERS[kind])


@pytest.mark.parametrize("kind", MARKED)
def test_a_container_that_is_cut_anywhere_does_not(kind: str, tmp_path: Path) -> None:
    """Also where a newline happens to be its last byte."""
    data, last = MARKED[kind], len(MARKED[kind].rstrip(b"\0"))  # a tar is padded with zeros
    cuts = [300, last // 3, last // 2, last - 30, last - 1]
    assert not [cut for cut in cuts for end in (b"", b"\n") if proves(tmp_path / "a.csv", data[: cut - len(end)] + end)]


def test_a_file_that_changes_twice_in_one_tick_of_the_clock_is_hashed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ctime is as coarse as two seconds, a state that young cannot stand for a content."""
    tick = time.time_ns() + 3_600_000_000_000
    stated_otherwise(monkeypatch, st_ctime_ns=tick)
    path = land(store, "a.csv", csv_of())
    ingest_landing(store)
    path.write_bytes(CORRECTED)
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert len(ingest_landing(store).ingested) == 1
