"""Sources: one CSV file each, plain, gzip or zstd, read once, hashed as it lies there, cut into blocks of whole lines.

Regular files only. A source that changes while it is read, or whose compression does not end as it should, is refused
whole: `SourceFile.blocks` raises before it has come to its end.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import os
import stat
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from isal import igzip, igzip_lib

from digitrec.errors import BadData, NoInput, StorageFailed, TryAgain, explain
from digitrec.ingest.fields import LINE_MAX_BYTES
from digitrec.ingest.pixels import PADDING

BLOCK_BYTES = 4 << 20
BUFFERS = 3
BOMB_BYTES = 1 << 30
BOMB_RATIO = 200
"""Real digits compress 8 to 1. A gibibyte of nothing but white images is not what anybody meant to send."""

IsalError: Any = igzip_lib.IsalError
DAMAGED: tuple[type[Exception], ...] = (EOFError, OSError, IsalError)
"""What the decompressors raise."""

BLANK = {b"\n", b"\r\n"}


class Unreadable(StorageFailed):
    """The file system does not give a source away (no permission, I/O error): the store may be well."""


@dataclass(frozen=True)
class Block:
    """Whole lines: data[start:stop] (uint8, `PADDING` readable bytes around them), of which the first byte lies at
    `offset` of the uncompressed source. Valid until the next block is asked for.

    Where `fault` is given (`line_too_long`, `unterminated`), it is instead the beginning of one line that is refused.
    """

    data: np.ndarray
    start: int
    stop: int
    offset: int
    fault: str = ""

    def bytes(self, start: int, stop: int) -> bytes:
        return self.data[start:stop].tobytes()


class Buffer:
    """Room for a carried-over piece of a line and one read, padded; not to be reused before its bytes are hashed."""

    def __init__(self, room: int) -> None:
        self.raw = bytearray(PADDING + LINE_MAX_BYTES + room + PADDING + 1)
        self.data = np.frombuffer(self.raw, np.uint8)
        self.room = room
        self.hashed: list[Future[None]] = []

    def wait(self) -> None:
        for future in self.hashed:
            future.result()
        self.hashed.clear()


class SourceFile:
    """One source, open. `sha256` (of the file as it lies there) is known once `blocks` has come to its end."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.position = 0
        self.sha256 = ""
        self._file = open_regular(self.path)
        self._before = os.fstat(self._file.fileno())
        self.bytes = self._before.st_size
        self._unpacked = 0
        self._sha = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1, "digitrec-sha256")
        self._stream = unpacked(self.path.suffix.lower(), HashedReads(self))

    @property
    def proves_its_end(self) -> bool:
        """True for compressed sources: a last line without a newline cannot be one that was cut short."""
        return self._stream is not None

    def close(self) -> None:
        self._hasher.shutdown(cancel_futures=True)
        self._file.close()

    def __enter__(self) -> "SourceFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blocks(self, *, allow_unterminated: bool = False) -> Iterator[Block]:
        """All lines, in order. A blank line at the very end is left out; a line above 64 KiB is given as a fault.

        Raises `BadData` for a compressed stream that is damaged, cut short or implausible, `TryAgain` if the file
        changed meanwhile, `Unreadable` if it cannot be read.
        """
        room = BLOCK_BYTES if self.proves_its_end else min(BLOCK_BYTES, self.bytes + 1)
        ring = itertools.cycle([Buffer(room) for _ in range(BUFFERS)])
        yield from lines_of(self, ring, allow_unterminated or self.proves_its_end)
        self._finish()

    def fill(self, buffer: Buffer, start: int) -> int:
        """Read until `buffer` is full or the source at its end; return where the bytes in it end."""
        stop = start
        while stop < start + buffer.room:
            view = memoryview(buffer.raw)[stop : start + buffer.room]
            read = self._unpack(view) if self._stream else self._read(view, buffer)
            if not read:
                break
            stop += read
        return stop

    def hash(self, data: bytes | memoryview) -> Future[None]:
        """Hash what was read, in order, on a thread of its own: `hashlib` releases the GIL."""
        self.position += len(data)
        return self._hasher.submit(self._sha.update, data)

    def read_raw(self, view: memoryview) -> int:
        with reading(self.path):
            return self._file.readinto(view) or 0

    def _read(self, view: memoryview, buffer: Buffer) -> int:
        read = self.read_raw(view)
        buffer.hashed.append(self.hash(view[:read]))
        return read

    def _unpack(self, view: memoryview) -> int:
        try:
            read = int(self._stream.readinto(view))
        except DAMAGED as error:
            raise BadData(f"{self.path} is damaged or cut short: {error}; nothing of it was taken") from error
        self._unpacked += read
        if self._unpacked > max(BOMB_BYTES, BOMB_RATIO * self.position):
            raise BadData(
                f"{self.path} unpacks to more than {BOMB_RATIO} times its size "
                f"({self._unpacked:,} bytes from {self.position:,}): implausible for images of digits, not read on"
            )
        return read

    def _finish(self) -> None:
        self._hasher.shutdown()
        self.sha256 = self._sha.hexdigest()
        after = os.fstat(self._file.fileno())
        with reading(self.path):
            same_name = os.path.samestat(self.path.stat(), after)
        if identity(after) != identity(self._before) or not same_name or self.position != self.bytes:
            raise TryAgain(
                f"{self.path} changed while it was read; nothing was published, run it again when it is whole"
            )


class HashedReads(io.RawIOBase):
    """The bytes of a source as a file object for a decompressor; each read is hashed."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        read = self._source.read_raw(view)
        self._source.hash(bytes(view[:read]))
        return read


def unpacked(suffix: str, raw: HashedReads) -> Any:
    """A stream of uncompressed bytes with `readinto`, or None for a plain file. Each checks its stream to the end."""
    if suffix == ".gz":
        return igzip.IGzipFile(fileobj=raw, mode="rb")  # type: ignore[no-untyped-call]  # isal has no types here
    if suffix == ".zst":
        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return None


def lines_of(source: SourceFile, ring: Iterator[Buffer], accept_tail: bool) -> Iterator[Block]:
    """Cut what `source` reads behind the last line end of each buffer; the rest is carried over to the next."""
    carry, offset, skipping = b"", 0, False
    for buffer in ring:
        buffer.wait()
        start, raw = PADDING, buffer.raw
        raw[start : start + len(carry)] = carry
        stop = source.fill(buffer, start + len(carry))
        if stop == start + len(carry):
            break
        if skipping:
            start = raw.find(b"\n", start, stop) + 1 or stop
            skipping = raw[start - 1] != ord("\n")
        cut = whole_lines(raw, start, stop)
        if cut > start:
            yield Block(buffer.data, start, cut, offset + start - PADDING)
        carry, offset = bytes(raw[cut:stop]), offset + cut - PADDING
        if len(carry) > LINE_MAX_BYTES:
            yield Block(buffer.data, cut, stop, offset, "line_too_long")
            carry, offset, skipping = b"", offset + len(carry), True
    if carry and carry not in BLANK:
        yield from tail_of(carry, offset, accept_tail)


def whole_lines(raw: bytearray, start: int, stop: int) -> int:
    """Where the last whole line in raw[start:stop] ends, or the one before if that is blank: it may end the file."""
    cut = raw.rfind(b"\n", start, stop) + 1
    if cut <= start:
        return start
    line = raw.rfind(b"\n", start, cut - 1) + 1 or start
    return line if cut == stop and bytes(raw[line:cut]) in BLANK else cut


def tail_of(line: bytes, offset: int, accept: bool) -> Iterator[Block]:
    """The last line, which has no newline: whole if `accept`, else a fault."""
    if accept and line == b"\r":
        return
    # A bytearray: Numba would compile the kernel once more for an array that cannot be written.
    data = np.frombuffer(bytearray(PADDING) + line + b"\n" + bytes(PADDING), np.uint8)
    stop = PADDING + len(line)
    yield Block(data, PADDING, stop + 1, offset) if accept else Block(data, PADDING, stop, offset, "unterminated")


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file; a FIFO, device or socket is refused without waiting for it. Raises `NoInput` or
    `Unreadable`. Manifests name sources, so a name that is not UTF-8 is refused with `NoInput`."""
    if shown(path) != str(path):
        raise NoInput(f"cannot read {shown(path)}: its name is not UTF-8 text; rename it")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}:
            raise NoInput(f"cannot read {path}: {error.strerror}; expected a CSV file") from error
        raise Unreadable(explain(error, "read")) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise NoInput(f"cannot read {path}: it is {what}; expected a CSV file")
    return io.FileIO(descriptor)


def shown(path: str | Path) -> str:
    """A path for people: what is not UTF-8 in it is escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TryAgain(f"{path} was removed while it was read; nothing was published") from error
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror or error}") from error


def identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
