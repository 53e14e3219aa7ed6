"""How many rows may be rejected, how they are kept, and who reads them."""

import re
import resource
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import digitrec
from digitrec.catalog.store import Store
from digitrec.contract import REJECTS_SCHEMA
from digitrec.errors import BadData, NoInput, StorageFailed
from digitrec.ingest import csv, rejects
from digitrec.ingest.rejects import RejectsFile, allowed_rejects
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions
from digitrec.progress import Step
from tests.places import full

from .conftest import Refuses, Takes
from .files import KAGGLE, lines_of, manifest_of
from .outcomes import LABELLED_CSV, PLAIN, PLAIN_CSV, ROWS, published

HEADER = PLAIN_CSV.partition(b"\n")[0] + b"\n"
GOOD = PLAIN_CSV.splitlines()[1] + b"\n"
BAD = GOOD.replace(b"0", b"x", 1)


@pytest.mark.parametrize(
    ("rows", "share", "allowed"),
    [
        *((rows, None, 0) for rows in (0, 1, 3, 9)),
        *((rows, None, rows // 10) for rows in (10, 19, 20, 29, 30)),
        *((rows, None, 3) for rows in (31, 600, 799)),
        *((rows, None, rows // 200) for rows in (800, 1000, 1_000_000)),
        *((rows, 0.0, 0) for rows in (1, 30, 1000)),
        *((rows, 1.0, rows) for rows in (1, 30, 1000)),
        *((100, percent / 100, percent) for percent in (7, 29, 57, 58)),
        (3, 0.5, 1),
    ],
)
def test_the_budget_is_a_share_or_three_rows_but_never_above_a_tenth(
    rows: int, share: float | None, allowed: int
) -> None:
    """And what was asked for is honoured exactly: 0.29 of 100 rows are 29."""
    assert allowed_rejects(rows, share) == allowed


@pytest.mark.parametrize(
    ("good", "bad", "options", "taken"),
    [
        (1, 3, {}, False),  # three of four are most of a file, and were free once
        (8, 1, {}, False),
        (9, 1, {}, True),
        (27, 3, {}, True),
        (26, 3, {}, False),
        (40, 4, {}, False),
        (1, 3, {"max_rejects": 0.75}, True),
        (1, 3, {"max_rejects": 0.74}, False),
        (39, 1, {"max_rejects": 0}, False),
        (0, 1, {"max_rejects": 1}, False),
        (1, 99, {"max_rejects": 1}, True),
    ],
)
def test_more_rejects_than_may_be_publish_nothing(
    good: int, bad: int, options: dict[str, float], taken: bool, take: Takes, refused: Refuses
) -> None:
    """Wherever the bad rows stand: F34."""
    for data in (HEADER + GOOD * good + BAD * bad, HEADER + BAD * bad + GOOD * good):
        if taken:
            report = take(data, **options)
            assert (report.rows, report.rejects) == (good, bad)
        else:
            told = refused(data, **options)
            assert "were rejected" in told
            assert "'x" in told


def test_a_hopeless_file_is_refused_long_before_its_end(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F34: as soon as nothing that follows could bring the rejects back into the budget."""
    monkeypatch.setattr(csv, "BLOCK_BYTES", 100_000)
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + BAD * 20_000)
    steps: list[Step] = []
    with pytest.raises(
        BadData, match=r"of the first [\d,]+ rows were rejected, [\d,]+ may be, even if all that follow"
    ):
        ingest(store, [path], PLAIN, progress=steps.append)
    assert steps[-1].done < path.stat().st_size / 10
    assert published(store) == []


def test_rejects_in_one_block_are_counted_before_its_end(refused: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
    """F34: short lines, hundreds of thousands of which one read brings."""
    monkeypatch.setattr(rejects, "STORED_MAX", 10_000)
    found = re.match(r"([\d,]+) of the first", refused(HEADER + GOOD + b"x\n" * 100_000, max_rejects=1))
    assert found
    assert int(found[1].replace(",", "")) < 20_000


def test_what_one_read_brings_is_not_judged_by_its_beginning(take: Takes) -> None:
    """Bad rows first, and so many good ones behind them in the same block that they are few."""
    assert take(HEADER + BAD * 10 + GOOD * 2000).rejects == 10


def test_so_many_rejects_are_not_kept_whatever_the_share(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F34: they do not fill the disk; packed files, whose rows cannot be foreseen, neither."""
    import gzip

    monkeypatch.setattr(rejects, "STORED_MAX", 500)
    monkeypatch.setattr(csv, "BLOCK_BYTES", 100_000)
    for name, data in (
        ("a.csv", HEADER + GOOD + BAD * 5000),
        ("b.csv.gz", gzip.compress(HEADER + GOOD + BAD * 5000, 1)),
    ):
        (tmp_path / name).write_bytes(data)
        steps: list[Step] = []
        with pytest.raises(BadData, match="more than 500 are not kept"):
            ingest(store, [tmp_path / name], IngestOptions(max_rejects=1), progress=steps.append)
        assert int(steps[-1].facts["rejects"]) < 2000
    assert published(store) == []


def test_rejects_are_kept_with_everything_that_finds_them(tmp_path: Path, store: Store) -> None:
    """image_id, source, line, byte_offset, column, reason, value, text; counted by reason in manifest and report."""
    header, first, second, third = lines_of(KAGGLE, 3)
    data = b"\r\n".join([header, first, b"1,2,\x07", b"", second, b"x" + third[1:], b""])
    (tmp_path / "a.csv").write_bytes(data)
    report = ingest(store, [tmp_path / "a.csv"], IngestOptions(dataset="digits", max_rejects=1))
    manifest = manifest_of(store, "digits")
    file = manifest.files[-1]
    assert file.rows == 2
    assert file.sha256[:16] in file.path
    frame = digitrec.read_rejects(full(store, report.folder))
    assert pq.read_table(full(store, manifest.key(file))).schema == REJECTS_SCHEMA
    assert list(frame) == REJECTS_SCHEMA.names
    one, two = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert one == {
        "image_id": 2,
        "source": "a.csv",
        "line": 3,
        "byte_offset": data.index(b"1,2,\x07"),
        "column": None,
        "reason": "column_count",
        "value": None,
        "text": "3 columns: 1,2,\\x07",
    }
    assert (two["image_id"], two["line"], two["column"], two["reason"]) == (4, 6, "label", "not_a_number")
    assert two["value"] == "x" + third[1:].decode().partition(",")[0]
    assert len(str(two["text"]).encode()) == 200
    assert report.reasons == manifest.facts["rejects"] == {"column_count": 1, "not_a_number": 1}
    assert "  1 column_count" in report.lines()
    assert any("digitrec rejects digits" in line for line in report.lines())


def test_many_rejects_do_not_grow_in_memory(tmp_path: Path, store: Store) -> None:
    """20,000 rejected rows: all kept, in order, in several batches."""
    data = HEADER + GOOD + b"\n".join(b"%d" % number for number in range(20_000)) + b"\n"
    (tmp_path / "a.csv").write_bytes(data)
    report = ingest(store, [tmp_path / "a.csv"], IngestOptions(dataset="bad", max_rejects=1))
    frame = digitrec.read_rejects(full(store, report.folder))
    assert report.rejects == len(frame) == 20_000
    assert (np.diff(frame["line"]) == 1).all()
    assert (np.diff(frame["image_id"]) == 1).all()


def test_no_reject_makes_an_empty_file(take: Takes, store: Store) -> None:
    """It has the columns, so readers need no special case."""
    report = take(LABELLED_CSV)
    frame = digitrec.read_rejects(full(store, report.folder))
    assert (list(frame), len(frame), report.rows) == (REJECTS_SCHEMA.names, 0, ROWS)


def test_rejects_of_a_dataset_that_is_not_there(store: Store) -> None:
    """Exit 66."""
    with pytest.raises(NoInput):
        digitrec.read_rejects(full(store, "datasets/ghost"))


def test_a_full_disk_is_a_failure_of_the_storage(store: Store) -> None:
    """Not an error of the operating system that callers would have to know."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.storage.scratch() as scratch:
        rejects = RejectsFile(scratch.create("rejects"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            with pytest.raises(StorageFailed, match="File too large"):
                rejects.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        rejects.abandon()
