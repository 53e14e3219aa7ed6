"""Refused rows are kept in a file beside the shards, whatever their number."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from digitrec.contract import REJECTS_SCHEMA
from digitrec.errors import StorageFailed
from digitrec.ingest.rejects import RejectsFile
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions
from digitrec.store.layout import Store

from .files import KAGGLE, lines_of, manifest_of, write


def test_rejects_are_kept_with_everything_that_finds_them(tmp_path: Path, store: Store) -> None:
    """source, line, byte_offset, column, reason, text; counted by reason in the manifest and the report."""
    header, first, second, third = lines_of(KAGGLE, 3)
    data = b"\r\n".join([header, first, b"1,2,\x07", second, b"x" + third[1:], b""])
    report = ingest(store, [write(tmp_path / "a.csv", data)], IngestOptions(dataset="digits"))
    manifest = manifest_of(store, "digits")
    file = manifest.files[-1]
    table = pq.read_table(store.full(file.path))
    assert table.schema == REJECTS_SCHEMA
    assert (file.rows, file.path) == (2, f"datasets/digits/rejects-{file.sha256[:12]}.parquet")
    one, two = table.to_pylist()
    assert one == {
        "source": "a.csv",
        "line": 3,
        "byte_offset": data.index(b"1,2,\x07"),
        "column": None,
        "reason": "column_count",
        "text": "3 columns: 1,2,\\x07",
    }
    assert (two["line"], two["column"], two["reason"]) == (5, "label", "not_an_integer")
    assert len(str(two["text"]).encode()) == 200
    assert report.reasons == manifest.facts["rejects"] == {"column_count": 1, "not_an_integer": 1}
    assert "  1 column_count" in report.lines()


def test_many_rejects_do_not_grow_in_memory(tmp_path: Path, store: Store) -> None:
    """20,000 refused rows: all kept, in order, in several batches."""
    header, row = lines_of(KAGGLE, 1)
    data = b"\n".join([header, row, *[b"%d" % number for number in range(20_000)], b""])
    report = ingest(store, [write(tmp_path / "a.csv", data)], IngestOptions(dataset="bad", max_rejects=1))
    table = pq.read_table(store.full(manifest_of(store, "bad").files[-1].path))
    assert report.rejects == table.num_rows == 20_000
    assert (np.diff(table["line"].to_numpy()) == 1).all()


def test_no_reject_makes_an_empty_file(tmp_path: Path, store: Store) -> None:
    """It has the columns, so readers need no special case."""
    ingest(store, [write(tmp_path / "a.csv", b"\n".join([*lines_of(KAGGLE, 2), b""]))], IngestOptions(dataset="good"))
    table = pq.read_table(store.full(manifest_of(store, "good").files[-1].path))
    assert (table.schema, table.num_rows) == (REJECTS_SCHEMA, 0)


def test_a_full_disk_is_a_failure_of_the_storage() -> None:
    """Not an error of the operating system that callers would have to know."""
    with pytest.raises(StorageFailed, match="No space left"):
        RejectsFile("/dev/full")
