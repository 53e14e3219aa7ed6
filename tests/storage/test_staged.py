"""A file that will be uploaded: hashed as it is written, synced when it is closed, and a sink for other libraries."""

import errno
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from digitrec.errors import StorageFailed
from digitrec.storage import Scratch, StagedFile


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


def assert_described(file: StagedFile) -> None:
    """Its digest and its size are those of what is in the file now."""
    data = file.path.read_bytes()
    assert (file.sha256, file.bytes) == (hashlib.sha256(data).hexdigest(), len(data))


def test_all_kinds_of_buffers(scratch: Scratch) -> None:
    """Bytes are counted, not items, also of arrays of several dimensions and of empty ones."""
    pieces = [b"", b"bytes", bytearray(b"array"), memoryview(b"view"), np.arange(6.0).reshape(2, 3), np.empty((0, 784))]
    with scratch.create("file") as file:
        sizes = [file.write(piece) for piece in pieces]
        assert file.tell() == file.bytes == sum(sizes)
    assert sizes == [0, 5, 5, 4, 48, 0]
    assert file.path.read_bytes() == b"".join(bytes(piece) for piece in pieces)
    assert_described(file)


def test_an_empty_file(scratch: Scratch) -> None:
    """It is one, and has a digest."""
    assert_described(scratch.write("file", b""))


def test_parquet_is_written_to_it(scratch: Scratch) -> None:
    """By pyarrow, row group by row group; large pieces are not kept back."""
    table = pa.table({"image": [os.urandom(784) for _ in range(3_000)]})
    with scratch.create("file") as file, pq.ParquetWriter(file, table.schema) as writer:
        for start in range(0, 3_000, 1_000):
            writer.write_table(table.slice(start, 1_000))
    assert pq.read_table(file.path).equals(table)
    assert_described(file)


def test_weights_are_written_to_it(scratch: Scratch) -> None:
    """By torch, which writes a zip archive."""
    weights = {"layer": torch.arange(1000.0)}
    with scratch.create("file") as file:
        torch.save(weights, file)
    assert torch.equal(torch.load(file.path)["layer"], weights["layer"])
    assert_described(file)


def test_text_and_archives_are_written_to_it(scratch: Scratch) -> None:
    """It cannot be sought, and says so: what needs that finds another way."""
    with scratch.create("text") as file, io.TextIOWrapper(file, encoding="utf-8") as text:
        text.write("ImageId,Label\n" * 1000)
    assert_described(file)
    with scratch.create("zip") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a", b"inner")
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0)
    assert zipfile.ZipFile(file.path).read("a") == b"inner"
    assert_described(file)


def test_a_digest_of_what_was_meant(scratch: Scratch) -> None:
    """What a disk makes of it afterwards does not change it: so damage shows."""
    file = scratch.write("file", b"meant")
    file.path.write_bytes(b"m3ant")
    assert file.sha256 == hashlib.sha256(b"meant").hexdigest()


def test_closing_twice_is_once(scratch: Scratch) -> None:
    """And nothing can be written afterwards."""
    file = scratch.write("file", b"data")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")
    assert_described(file)


def test_a_name_is_given_once(scratch: Scratch) -> None:
    """Two who write the same file would spoil both."""
    scratch.write("file", b"first")
    with pytest.raises(StorageFailed, match=r"cannot write .*/file: File exists"):
        scratch.create("file")
    assert (scratch.folder / "file").read_bytes() == b"first"


def test_it_is_synced_by_the_descriptor_that_has_written(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a late write-back comes to that one alone; all bytes are handed to the system before."""
    synced: list[tuple[int, int, int]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_ino, found.st_size, os.lseek(descriptor, 0, os.SEEK_CUR)))

    monkeypatch.setattr(os, "fsync", fsync)
    file = scratch.write("file", b"data")
    assert synced == [(file.path.stat().st_ino, 4, 4)]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_while_it_is_synced(scratch: Scratch, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`StorageFailed` from `close`; the file is closed then, and closing it again says no more."""

    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    file = scratch.create("file")
    file.write(b"data")
    with pytest.raises(StorageFailed, match=rf"cannot write .*/file: {os.strerror(code)}"):
        file.close()
    assert file.closed
    file.close()


@pytest.mark.parametrize("piece", [1_000, 1 << 20, 5 << 20])
def test_a_disk_that_is_too_small(small_disk: Path, piece: int) -> None:
    """In small pieces or large ones, by whichever library: `StorageFailed`, with the remedy."""
    message = r"cannot write .*file: No space left on device; free some space"

    def write_pieces(file: StagedFile) -> None:
        for _ in range(0, 5 << 20, piece):
            file.write(bytes(piece))

    def write_parquet(file: StagedFile) -> None:
        pq.write_table(pa.table({"image": [os.urandom(784) for _ in range(5_000)]}), file, row_group_size=1_000)

    for write in (write_pieces, write_parquet):
        with pytest.raises(StorageFailed, match=message), Scratch(small_disk).create("file") as file:
            write(file)
        file.path.unlink()


def test_a_disk_that_is_full_when_it_is_closed(small_disk: Path) -> None:
    """What was buffered until then is not lost in silence."""
    file = Scratch(small_disk).create("file")
    file.write(bytes(100_000))
    (small_disk / "ballast").write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize))
    with pytest.raises(StorageFailed, match="No space left on device"):
        file.close()
