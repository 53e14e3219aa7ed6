"""Compression and archives: from a file to the texts in it, each as a stream of bytes that can be opened again.

Content decides what a file is, not its name. Every stream checks itself to the end: what is cut short, damaged, or
followed by something else is refused whole, if it is read. Nothing is ever unpacked to a name that an archive gives.
"""

import bz2
import io
import lzma
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any, Final

import pyarrow as pa
from isal import igzip, igzip_lib

from digitrec.errors import BadData, StorageFailed, explain
from digitrec.ingest.formats import HEAD_BYTES, Container, container_of
from digitrec.shown import printable

BOMB_BYTES: Final = 1 << 30
BOMB_RATIO: Final = 200
"""Real digits compress 8 to 1. A gibibyte of nothing but white images is not what anybody meant to send."""
LAYERS_MAX: Final = 3
"""gzip around gzip happens (twice compressed), and a CSV in a gzip in a tar in a gzip; more is a trap."""
CHUNK_BYTES: Final = 1 << 20

_ISAL_ERROR: Any = igzip_lib.IsalError
_DAMAGED: Final[tuple[type[Exception], ...]] = (
    *(EOFError, OSError, _ISAL_ERROR, lzma.LZMAError, zlib.error, zipfile.BadZipFile, tarfile.TarError),
    *(NotImplementedError, RuntimeError, ValueError, UnicodeDecodeError, MemoryError),
)
"""What the decompressors raise; zipfile says RuntimeError for a password and NotImplementedError for a method."""
_WORKBOOK = re.compile(r"(xl|word|ppt)/|\[Content_Types\]\.xml|mimetype|content\.xml|Index/.*\.iwa")
_DEBRIS = {"thumbs.db", "desktop.ini", "ehthumbs.db"}
_ENCRYPTED = 0x1
_SPANNED_MARK = 4
"""Bytes of a mark that an archive may begin with (APPNOTE 8.5.5); zipfile passes over whatever else stands there."""

_BOUNDED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Methods that zipfile unpacks a piece at a time; bzip2 and LZMA it would unpack whole into memory."""
_XZ_MEMORY = 512 << 20
"""`xz -9` needs 65 MB; what asks for more than this is no CSV."""


class Unreadable(StorageFailed):
    """The file system does not give a source away (no permission, I/O error, no room to unpack): the store may be
    well."""


Opened = Callable[[], io.RawIOBase]
"""Opens a stream from its beginning."""


@dataclass(frozen=True)
class Text:
    """What is read as CSV: a file itself, or a member of the archive that it is.

    `plain`: the bytes of the file as they lie there. `open` gives the uncompressed bytes from the beginning.
    """

    member: str | None
    plain: bool
    open: Opened


ReadAt = Callable[[memoryview, int], int]
"""Fills memory from a place in a file; returns how many bytes, 0 at its end."""


class FileReads(io.RawIOBase):
    """An open file of `size` bytes from its beginning, with a position of its own; `high` is how far it has been
    read."""

    def __init__(self, read_at: ReadAt, size: int, reading: Callable[[], Any] = nullcontext) -> None:
        self._read_at, self._size, self._reading = read_at, size, reading
        self._position = self.high = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = offset + base
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        with self._reading():
            read = self._read_at(view, self._position)
        self._position += read
        self.high = max(self.high, self._position)
        return read


class _Spooled(FileReads):
    """What was unpacked into a temporary file; the file goes with the last stream that reads it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(lambda view, position: os.preadv(descriptor, [view], position), os.fstat(descriptor).st_size)
        self._descriptor = descriptor

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class _Unpacked(io.RawIOBase):
    """The uncompressed bytes of a stream. Raises `BadData` for what is damaged, cut short or implausibly large."""

    def __init__(self, stream: Any, where: str, packed: Callable[[], int]) -> None:
        self._stream, self._where, self._packed = stream, where, packed
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _damage(self._where):
            read = int(self._stream.readinto(buffer) or 0)
        self._unpacked += read
        if self._unpacked > max(BOMB_BYTES, BOMB_RATIO * self._packed()):
            raise BadData(
                f"{self._where} unpacks to more than {BOMB_RATIO} times its size ({self._unpacked:,} bytes from "
                f"{self._packed():,}): implausible for images of digits, not read on"
            )
        return read


class _Joined(io.RawIOBase):
    """What the streams of a bzip2 or xz file hold, one after the other, to the last byte of the file."""

    def __init__(self, raw: io.RawIOBase, make: Callable[[], Any]) -> None:
        self._raw, self._make = raw, make
        self._decompressor = make()
        self._started = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            decompressor = self._decompressor
            packed = b""
            if decompressor.eof:
                packed = self._behind(decompressor.unused_data)
                if not packed:
                    return 0
                self._decompressor = decompressor = self._make()
            elif decompressor.needs_input:
                packed = self._raw.read(CHUNK_BYTES) or b""
                if not packed:
                    raise EOFError("it ends in the middle of a stream")
            data = decompressor.decompress(packed, len(view))
            if data:
                view[: len(data)] = data
                return len(data)

    def _behind(self, rest: bytes) -> bytes:
        """What follows a stream: the next one. Padding of zeros belongs to the xz format (section 2.2)."""
        rest = (rest or self._raw.read(CHUNK_BYTES) or b"").lstrip(b"\0")
        while not rest and (more := self._raw.read(CHUNK_BYTES)):
            rest = more.lstrip(b"\0")
        return rest


_OPENERS: Final[dict[Container, Callable[[io.RawIOBase], Any]]] = {
    "gzip": lambda raw: igzip.IGzipFile(fileobj=raw, mode="rb"),  # type: ignore[no-untyped-call]
    "zstd": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"),
    "bzip2": lambda raw: _Joined(raw, bz2.BZ2Decompressor),
    "xz": lambda raw: _Joined(raw, partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY)),
}


def texts_of(open_file: Opened, where: str, *, in_order: bool, hidden: list[str]) -> list[Text]:
    """The texts of a file: itself, or the files of the archive that it is, in natural order (or the archive's).

    Hidden files and what systems leave behind in archives are left out, and named in `hidden`. Raises `BadData` for
    what cannot be read.
    """
    return _peel(None, open_file, where, in_order, hidden, 0)


def _peel(member: str | None, opened: Opened, where: str, in_order: bool, hidden: list[str], layers: int) -> list[Text]:
    """Take one layer of compression after the other off."""
    head = read_up_to(opened(), HEAD_BYTES)
    kind = container_of(head)
    if kind is None:
        return [Text(member, layers == 0, opened)]
    if layers == LAYERS_MAX:
        raise BadData(f"{where} is compressed again inside, more than {LAYERS_MAX} times: unpack it first")
    if kind in _OPENERS:
        return _peel(member, _unpacking(kind, opened, where), where, in_order, hidden, layers + 1)
    if member is not None:
        raise BadData(f"{where} holds another archive, {printable(member, 80)!r}: unpack it first")
    if kind == "zip":
        members = _zip_members(_seekable(opened, layers, where), where)
    else:
        members = _tar_members(_seekable(opened, layers, where), where)
    hidden += [name for name, _ in members if is_debris(name)]
    members = [member for member in members if not is_debris(member[0])]
    if not in_order:
        members = _naturally(members)
    return [
        text
        for name, open_member in members
        for text in _peel(name, open_member, f"{where}!{printable(name, 80)}", in_order, hidden, layers + 1)
    ]


def _naturally(members: list[tuple[str, Opened]]) -> list[tuple[str, Opened]]:
    from natsort import natsorted, ns

    return natsorted(members, key=lambda member: member[0], alg=ns.PATH | ns.IGNORECASE)


def _unpacking(kind: Container, opened: Opened, where: str) -> Opened:
    def open_unpacked() -> io.RawIOBase:
        raw = _Counted(opened())
        with _damage(where):
            return _Unpacked(_OPENERS[kind](raw), where, lambda: raw.count)

    return open_unpacked


class _Counted(io.RawIOBase):
    """A stream, and how many bytes were read from it."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = int(self._raw.readinto(buffer) or 0)
        self.count += read
        return read


def read_up_to(stream: io.RawIOBase | io.BufferedIOBase, size: int) -> bytes:
    """The first `size` bytes of a stream, fewer if it has no more."""
    data = bytearray()
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return bytes(data)


def _seekable(opened: Opened, layers: int, where: str) -> IO[bytes]:
    """A stream that can be read at any place; one that was unpacked is put into a temporary file first."""
    stream = opened()
    if layers == 0:
        return io.BufferedReader(stream, CHUNK_BYTES)
    try:
        with tempfile.TemporaryFile() as spool:
            while more := stream.read(CHUNK_BYTES):
                spool.write(more)
            spool.flush()
            return io.BufferedReader(_Spooled(os.dup(spool.fileno())), CHUNK_BYTES)
    except OSError as error:
        raise Unreadable(f"{explain(error, f'unpack {where} into')} (TMPDIR is {tempfile.gettempdir()})") from error


def _zip_members(file: IO[bytes], where: str) -> list[tuple[str, Opened]]:
    with _damage(where):
        archive = zipfile.ZipFile(file)
        _check_end_of_zip(file, where)
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if any(_WORKBOOK.match(name) for name in names):
        raise BadData(f"{where} is an Excel workbook or another Office document: save it as CSV")
    if names and all(name.endswith(".npy") for name in names):
        raise BadData(
            f"{where} is a NumPy archive (.npz) of {', '.join(printable(name, 40) for name in names[:5])}: save its "
            "images as CSV, numpy.savetxt(name, images.reshape(-1, 784), delimiter=',', fmt='%d')"
        )
    if min((entry.header_offset for entry in entries), default=0) > _SPANNED_MARK:
        raise BadData(f"{where} holds another archive before this one: several joined? unpack them first")
    wanted = [entry for entry in entries if not entry.is_dir()]
    _check_names([entry.filename for entry in wanted], where)
    if any(entry.flag_bits & _ENCRYPTED for entry in wanted):
        raise BadData(f"{where} is an encrypted archive: unpack it with its password first")
    if strange := [entry.filename for entry in wanted if entry.compress_type not in _BOUNDED]:
        raise BadData(
            f"{where} packs {printable(strange[0], 80)!r} in an unusual way: pack it again as an ordinary zip"
        )

    def opener(entry: zipfile.ZipInfo) -> Opened:
        def open_member() -> io.RawIOBase:
            with _damage(where):
                stream = archive.open(entry)
            return _Unpacked(stream, where, lambda: max(entry.compress_size, 1))

        return open_member

    return [(entry.filename, opener(entry)) for entry in wanted]


def _check_end_of_zip(file: IO[bytes], where: str) -> None:
    """Raise `BadData` for bytes behind the end record (APPNOTE 4.3.16), which zipfile passes over."""
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(size - (1 << 16) - 22, 0))
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    end = start + place + 22 + int.from_bytes(tail[place + 20 : place + 22], "little")
    if place >= 0 and end != size:
        raise BadData(
            f"{where} is damaged: {abs(size - end):,} bytes {'follow' if end < size else 'are missing at'} its end"
        )


def _tar_members(file: IO[bytes], where: str) -> list[tuple[str, Opened]]:
    with _damage(where):
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  # as long as its members
        entries = archive.getmembers()
    _check_end_of_tar(file, archive.offset, where)
    wanted = [entry for entry in entries if entry.isreg()]
    _check_names([entry.name for entry in wanted], where)
    if any(entry.issparse() for entry in wanted):
        raise BadData(f"{where} holds files with holes: pack them again without --sparse")
    if links := [
        entry.name for entry in entries if not entry.isreg() and not entry.isdir() and not is_debris(entry.name)
    ]:
        raise BadData(f"{where} holds links or devices ({printable(links[0], 80)}): make it of regular files only")

    def opener(entry: tarfile.TarInfo) -> Opened:
        def open_member() -> io.RawIOBase:
            with _damage(where):
                return _Unpacked(archive.extractfile(entry), where, lambda: entry.size)

        return open_member

    return [(entry.name, opener(entry)) for entry in wanted]


def _check_end_of_tar(file: IO[bytes], offset: int, where: str) -> None:
    """Raise `BadData` unless zeros, and nothing else, follow the last member: tarfile takes any end for one."""
    file.seek(offset)
    rest, blocks = file.read(CHUNK_BYTES), 0
    while rest:
        if rest.strip(b"\0"):
            raise BadData(f"{where} goes on behind the end of its archive: several joined? unpack them first")
        blocks += len(rest) // tarfile.BLOCKSIZE
        rest = file.read(CHUNK_BYTES)
    if not blocks:
        raise BadData(f"{where} is damaged or cut short: the archive has no end; nothing of it was taken")


def is_debris(name: str) -> bool:
    """True for hidden files, and for what macOS and Windows leave in archives and folders."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any((part.startswith(".") and part not in {".", ".."}) or part == "__MACOSX" for part in parts) or (
        bool(parts) and parts[-1].lower() in _DEBRIS
    )


def _check_names(names: list[str], where: str) -> None:
    """Raise `BadData` for a name that is there twice, or that a manifest could not hold."""
    for name in names:
        if name.encode("utf-8", "replace").decode() != name:
            raise BadData(f"{where} holds {printable(name, 80)!r}: this name is not UTF-8 text; pack it again")
    if doubled := next((name for name, count in Counter(names).items() if count > 1), None):
        raise BadData(f"{where} holds {printable(doubled, 80)!r} twice: which one is meant? pack it again")


@contextmanager
def _damage(where: str) -> Iterator[None]:
    """Turn what decompressors raise into `BadData`; what digitrec raises itself passes."""
    try:
        yield
    except BadData:
        raise
    except _DAMAGED as error:
        raise BadData(f"{where} is damaged or cut short: {error}; nothing of it was taken") from error
