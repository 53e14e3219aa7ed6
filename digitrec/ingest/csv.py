"""Sources: one file each, read once, hashed as it lies there; its texts are cut into blocks of whole lines.

Regular files only. A source that changes while it is read, or whose compression does not end as it should, is refused
whole: `SourceFile.finish` or the blocks raise before anything counts.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from digitrec.errors import NoInput, TryAgain, explain
from digitrec.ingest.containers import FileReads, Text, Unreadable, read_up_to, texts_of
from digitrec.ingest.fields import LINE_MAX_BYTES
from digitrec.ingest.formats import HEAD_BYTES, container_of
from digitrec.ingest.header import HEAD_LINES, Head
from digitrec.ingest.pixels import PADDING
from digitrec.shown import printable

BLOCK_BYTES = 4 << 20
BUFFERS = 3
END_OF_FILE = b"\x1a"
"""What DOS, and editors after it, put behind a text."""


NO_LINKS = "a link is not followed: copy the file"
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Folders on the way need not be readable, only searchable (`O_PATH`, where there is that)."""
PATH_MAX_BYTES = 4096
"""As open(2) has it for a path as a whole."""


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

    def __init__(self, path: str | Path, *, follow_links: bool = True) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.sha256 = ""
        self._file = open_regular(self.path, follow_links=follow_links)
        self._before = os.fstat(self._file.fileno())
        self.bytes = self._before.st_size
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
        texts = texts_of(self._open, printable(str(self.path)), in_order=in_order, hidden=hidden)
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
        after = os.fstat(self._file.fileno())
        with reading(self.path):
            same_name = os.path.samestat(self.path.stat(), after)
        if identity(after) != identity(self._before) or not same_name or self._hashed_bytes != self.bytes:
            raise TryAgain(
                f"{printable(str(self.path))} changed while it was read; nothing was published, "
                "run it again when it is whole"
            )
        return self.sha256

    def _open(self) -> FileReads:
        self._reads.append(FileReads(self._file.fileno(), partial(reading, self.path)))
        return self._reads[-1]

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
        with reading(self.path):
            return self._file.readinto(view) or 0

    def _start_hashing(self) -> None:
        """Hash the whole file on a thread of its own, once: `hashlib` releases the GIL."""
        self._hashing = self._hashing or self._hasher.submit(self._hash_all)

    def _hash_all(self) -> None:
        raw = FileReads(self._file.fileno(), partial(reading, self.path))
        while not self._closing and (data := raw.read(1 << 20)):
            self._sha.update(data)
            self._hashed_bytes += len(data)


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


def open_regular(path: Path, *, follow_links: bool = True) -> io.FileIO:
    """Open a regular file; a FIFO, device or socket is refused without waiting for it.

    With `follow_links=False` a symbolic or hard link is refused, and what is reached through a linked folder.
    Raises `NoInput` or `Unreadable`. Manifests name sources, so a name that is not UTF-8 is refused with `NoInput`.
    """
    shown = printable(str(path))
    if "\0" in str(path) or os.fsencode(path).decode("utf-8", "ignore").encode() != os.fsencode(path):
        raise NoInput(f"cannot read {shown}: its name is not UTF-8 text; rename it")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags) if follow_links else open_unlinked(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow_links:
            raise NoInput(f"cannot read {shown}: {NO_LINKS}") from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}:
            raise NoInput(f"cannot read {shown}: {error.strerror}; expected a CSV file") from error
        raise Unreadable(explain(error, "read")) from error
    status = os.fstat(descriptor)
    what = kind_of(status.st_mode)
    if what or (status.st_nlink > 1 and not follow_links):
        os.close(descriptor)
        raise NoInput(f"cannot read {shown}: " + (f"it is {what}; expected a CSV file" if what else NO_LINKS))
    return io.FileIO(descriptor)


def kind_of(mode: int) -> str:
    """What a file is that is not a regular one, for people; "" for a regular one."""
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"


def open_unlinked(path: str | Path, flags: int) -> int:
    """Open a file or folder without following a symbolic link anywhere in its path; return the descriptor.

    Goes from folder to folder by descriptor: nobody can swap one for a link between a check and its use. Raises
    `OSError`, `ELOOP` for a link.
    """
    first, *folders, name = Path(path).absolute().parts
    folder = os.open(first, FOLDER)
    try:
        if len(os.fsencode(path)) >= PATH_MAX_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        for below in folders:
            above, folder = folder, _open_folder(below, folder)
            os.close(above)
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(folder)


def _open_folder(name: str, above: int) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=above)
    except NotADirectoryError as error:
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
        raise


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error of the file system while a source is read into ours, which name it."""
    shown = printable(str(path))
    try:
        yield
    except FileNotFoundError as error:
        raise TryAgain(f"{shown} was removed while it was read; nothing was published") from error
    except OSError as error:
        raise Unreadable(f"cannot read {shown}: {error.strerror or error}") from error


def identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
