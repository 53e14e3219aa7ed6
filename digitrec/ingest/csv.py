"""Sources: one file each, read once, hashed as it lies there; its texts are cut into blocks of whole lines.

Regular files only. A source that changes while it is read, or whose compression does not end as it should, is refused
whole: `SourceFile.finish` or the blocks raise before anything counts.
"""

import hashlib
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from digitrec.errors import TryAgain
from digitrec.ingest.containers import FileReads, ReadAt, Text, read_up_to, texts_of
from digitrec.ingest.fields import LINE_MAX_BYTES
from digitrec.ingest.formats import HEAD_BYTES, container_of
from digitrec.ingest.header import HEAD_LINES, Head
from digitrec.ingest.origins import BinaryFile, Origin, reading
from digitrec.ingest.pixels import PADDING

BLOCK_BYTES = 4 << 20
BUFFERS = 3
END_OF_FILE = b"\x1a"
"""What DOS, and editors after it, put behind a text."""


@dataclass(frozen=True)
class Block:
    """Whole lines: data[start:stop] (uint8, `PADDING` readable bytes around them), of which the first byte lies at
    `offset` of the uncompressed text. Valid until the next block is asked for.

    `too_long`: it is instead the beginning of one line above 64 KiB. `unterminated`: it is the last line, and had no
    newline (one was added).
    """

    data: np.ndarray
    start: int
    stop: int
    offset: int
    too_long: bool = False
    unterminated: bool = False

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
    """One source, open. `sha256` (of the file as it lies there) is known after `finish`.

    A plain file is hashed while it is read. One that is packed is read at several places, so it is hashed on its own.
    """

    def __init__(self, origin: Origin) -> None:
        self.name, self.where = origin.name, origin.where
        self.sha256 = ""
        self._origin = origin
        self._file, self._opened = origin.open()
        self._read_at = _read_at_of(self._file)
        self.bytes = self._opened.size
        self._sha = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1, "digitrec-sha256")
        self._reads: list[FileReads] = []
        self._hashed_bytes = 0
        self.hidden = 0
        self._closing = False
        self._packed = False
        self._hashing: Future[None] | None = None

    def close(self) -> None:
        self._closing = True
        self._hasher.shutdown(cancel_futures=True)
        self._file.close()

    def __enter__(self) -> "SourceFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> int:
        """How far the file has been read, in bytes as they lie there."""
        reads = [reads.high for reads in self._reads] if self._packed else [self._hashed_bytes]
        return min(self.bytes, max(reads, default=0))

    @property
    def packed(self) -> bool:
        """True for compression or an archive."""
        return container_of(read_up_to(self._open(), HEAD_BYTES)) is not None

    def texts(self, *, in_order: bool = False) -> list[Text]:
        """What there is to read in it. Raises `BadData` for a container that cannot be read."""
        hidden: list[str] = []
        texts = texts_of(self._open, self.where, in_order=in_order, hidden=hidden)
        self.hidden = len(hidden)
        return texts

    def head(self, text: Text) -> Head:
        """The first `HEAD_LINES` lines of a text, or less where they are very long."""
        stream, data, room = text.open(), bytearray(), HEAD_LINES * LINE_MAX_BYTES
        while data.count(b"\n") < HEAD_LINES and len(data) < room:
            more = stream.read(1 << 18)
            if not more:
                return Head(bytes(data), whole=True)
            data += more
        return Head(bytes(data), whole=False)

    def blocks(self, text: Text, skip: int = 0) -> Iterator[Block]:
        """All lines of a text from byte `skip` on, in order; a line above 64 KiB is given as `too_long`.

        Raises `BadData` for a compressed stream that is damaged, cut short or implausible, `Unreadable` if it cannot
        be read.
        """
        self._packed = not text.plain
        if text.plain:
            room, fill = min(BLOCK_BYTES, self.bytes + 1), self._fill_plain
        else:
            self._start_hashing()
            room, fill = BLOCK_BYTES, partial(_fill, text.open())
        ring = itertools.cycle([Buffer(room) for _ in range(BUFFERS)])
        return _behind(_lines_of(fill, ring), skip)

    def finish(self) -> str:
        """Finish hashing; return the SHA-256. Raises `TryAgain` if the file changed since it was opened."""
        if not self._hashed_bytes:
            self._start_hashing()
        if self._hashing:
            self._hashing.result()
        self._hasher.shutdown()
        self.sha256 = self._sha.hexdigest()
        now = self._origin.stat()
        if now is None:
            raise TryAgain(f"{self.where} was removed while it was read; nothing was published")
        if now.state != self._opened.state or self._hashed_bytes != self.bytes:
            raise TryAgain(
                f"{self.where} changed while it was read; nothing was published, run it again when it is whole"
            )
        return self.sha256

    def _open(self) -> FileReads:
        self._reads.append(self._reads_from_start())
        return self._reads[-1]

    def _reads_from_start(self) -> FileReads:
        return FileReads(self._read_at, self.bytes, partial(reading, self.where))

    def _fill_plain(self, buffer: Buffer, start: int) -> int:
        """Read and hash until `buffer` is full or the file at its end; return where the bytes in it end."""
        stop = start
        while stop < start + buffer.room:
            view = memoryview(buffer.raw)[stop : start + buffer.room]
            read = self.read_raw(view)
            if not read:
                break
            buffer.hashed.append(self._hasher.submit(self._sha.update, view[:read]))
            self._hashed_bytes += read
            stop += read
        return stop

    def read_raw(self, view: memoryview) -> int:
        """Read what follows what was hashed."""
        with reading(self.where):
            return self._read_at(view, self._hashed_bytes)

    def _start_hashing(self) -> None:
        """Hash the whole file on a thread of its own, once: `hashlib` releases the GIL."""
        self._hashing = self._hashing or self._hasher.submit(self._hash_all)

    def _hash_all(self) -> None:
        raw = self._reads_from_start()
        while not self._closing and (data := raw.read(1 << 20)):
            self._sha.update(data)
            self._hashed_bytes += len(data)


def _read_at_of(file: BinaryFile) -> ReadAt:
    """How to read a file at any place, from several threads at once."""
    try:
        file.fileno()
    except OSError:  # it is not a file of this machine
        lock = threading.Lock()
    else:
        return lambda view, position: os.preadv(file.fileno(), [view], position)

    def read_at(view: memoryview, position: int) -> int:
        with lock:
            file.seek(position)
            return file.readinto(view) or 0

    return read_at


def _fill(stream: io.RawIOBase, buffer: Buffer, start: int) -> int:
    """Read from a stream until `buffer` is full or there is no more; return where the bytes in it end."""
    stop = start
    while stop < start + buffer.room:
        read = stream.readinto(memoryview(buffer.raw)[stop : start + buffer.room])
        if not read:
            break
        stop += read
    return stop


def _lines_of(fill: Callable[[Buffer, int], int], ring: Iterator[Buffer]) -> Iterator[Block]:
    """Cut what is read behind the last line end of each buffer; the rest is carried over to the next."""
    carry, offset, skipping = b"", 0, False
    for buffer in ring:
        buffer.wait()
        start, raw = PADDING, buffer.raw
        raw[start : start + len(carry)] = carry
        stop = fill(buffer, start + len(carry))
        if stop == start + len(carry):
            break
        if skipping:
            start = raw.find(b"\n", start, stop) + 1 or stop
            skipping = raw[start - 1] != ord("\n")
        cut = max(raw.rfind(b"\n", start, stop) + 1, start)
        if cut > start:
            yield Block(buffer.data, start, cut, offset + start - PADDING)
        carry, offset = bytes(raw[cut:stop]), offset + cut - PADDING
        if len(carry) > LINE_MAX_BYTES:
            yield Block(buffer.data, cut, stop, offset, too_long=True)
            carry, offset, skipping = b"", offset + len(carry), True
    if skipping:
        yield Block(np.zeros(2 * PADDING, np.uint8), PADDING, PADDING, offset, too_long=True, unterminated=True)
    elif carry.strip(b" \t\r" + END_OF_FILE):
        yield _unterminated(carry, offset)


def _unterminated(line: bytes, offset: int) -> Block:
    """The last line, which has no newline."""
    # A bytearray: Numba would compile the kernel once more for an array that cannot be written.
    data = np.frombuffer(bytearray(PADDING) + line + b"\n" + bytes(PADDING), np.uint8)
    return Block(data, PADDING, PADDING + len(line) + 1, offset, unterminated=True)


def _behind(blocks: Iterator[Block], skip: int) -> Iterator[Block]:
    """Blocks without the first `skip` bytes, which end in a newline or with the text."""
    for block in blocks:
        before = skip - block.offset
        if before <= 0:
            yield block
        elif before < block.stop - block.start - block.unterminated:
            yield replace(block, start=block.start + before, offset=skip)
