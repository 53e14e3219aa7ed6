"""The protocol of a storage backend, and what every backend has in common: keys and staged files.

A key is a relative path with `/` between its parts, as `datasets/x/manifest.json`. Nothing above this package knows
where its bytes lie. The contract is written down as tests in `digitrec.storage.testing`.
"""

import hashlib
import io
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digitrec.errors import UsageError, storage_errors

if TYPE_CHECKING:
    from typing_extensions import Buffer


TEMPORARY = ".tmp"
MAX_PART_BYTES = 255  # names of files on Linux
MAX_KEY_BYTES = 1024  # S3


class NotFound(Exception):
    """There is nothing under this key, and the backend has said so: an error while looking is `StorageFailed`."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class NotPlain(Exception):
    """What lies under this key is no object of its own: a link, a pipe. `problem` says what, for people."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


@dataclass(frozen=True)
class Stat:
    """What is known of an object without reading it.

    `size` in bytes; `modified_s`: seconds since the epoch by the backend's clock; `state`: opaque, another one whenever
    the content may have changed (an ETag; ctime and inode), equal across processes and hosts. `certain_s`: from then on
    (seconds since the epoch) an equal state means equal content; before, a file system's clock may be too coarse.
    """

    size: int
    modified_s: float
    state: str
    certain_s: float = 0.0


@dataclass(frozen=True)
class Found:
    """What a walk comes upon: an object with its `stat`, or what is none and why (`problem`), or a folder that was not
    entered, whose key ends in `/`."""

    key: str
    stat: Stat | None
    problem: str = ""


class Storage(ABC):
    """Bytes by key. Small and hashable; it travels to workers by its `url` (see `storage.at`).

    Every method raises `StorageFailed` where the backend cannot do or say what is asked, naming the object by its
    address; absence is `NotFound`, None or an empty listing, and only what the backend says is absent. Methods may be
    called by several threads and processes at once.
    """

    url: str
    """What names this storage to people and to other processes."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return a whole object. Raises `NotFound`."""

    @abstractmethod
    def open(self, key: str) -> io.BufferedIOBase:
        """Open an object for reading at any place (seekable, for Parquet). Raises `NotFound`; its reads raise
        `StorageFailed`."""

    @abstractmethod
    def open_plain(self, key: str) -> tuple[io.BufferedIOBase | io.RawIOBase, Stat]:
        """Open an object that other people have put there, and say which state of it was opened.

        Where there are links, none is followed below the first part of the key. Raises `NotPlain` for a link, and what
        is no file; `NotFound`.
        """

    @abstractmethod
    def walk(self, prefix: str, enter: Callable[[str], bool]) -> "list[Found]":
        """Return what other people have put below a prefix, in no order; no link is followed.

        `enter` says by its name whether a folder is looked into. What goes meanwhile is no error, and what cannot be
        read is a problem of its own: `StorageFailed` is raised only for the prefix itself.
        """

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create a small object whole and durably, unless there is one. Return whether this call has created it.

        The one operation on which publication rests: of any number of concurrent calls exactly one returns True. A
        reply may be lost after the write, so a caller that gets False reads back whether its own attempt is there.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Create or replace a small object, whole and durably. For caches and notes; nothing published is replaced."""

    @abstractmethod
    def upload(self, file: Path, key: str) -> None:
        """Make a finished local file (of `scratch`) the object under this key, whole and durably; the file may be gone
        then.

        Unconditional, so the key carries the content's digest, or the object is derived from others.
        """

    @abstractmethod
    def copy(self, source: str, target: str) -> None:
        """Make the object under `target` the one under `source` as well. Raises `NotFound`."""

    @abstractmethod
    def touch(self, key: str) -> None:
        """Make an object's time now, so that nobody sweeps it. Raises `NotFound`."""

    @abstractmethod
    def stat(self, key: str) -> Stat | None:
        """Return what is known of an object, or None if there is none."""

    @abstractmethod
    def list(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix ("" is the root), sorted; those with more below them end in `/`.

        Empty where there is nothing. A name with `/` may stay when the last object below it is deleted. A listing may
        lag behind (eventual consistency): nothing is decided by one.
        """

    @abstractmethod
    def delete(self, key: str, *, state: str | None = None) -> bool:
        """Remove an object; return whether this call has removed one. After a power loss it may be there again.

        With `state` (of `Stat`) only if it is still in that state: an object that was touched or replaced since stays.
        """

    @abstractmethod
    def scratch(self) -> AbstractContextManager["Scratch"]:
        """Yield a fresh local folder for files that will be uploaded; it is removed afterwards, whatever happens."""

    @abstractmethod
    def sweep_unfinished(self, prefix: str, older_than_s: float) -> None:
        """Remove what killed processes have left half-written directly below a prefix (temporary files, unfinished
        uploads), and scratch folders. Failing to clean up is no failure."""

    def local_path(self, key: str) -> Path | None:
        """Return where the object lies as a local file, to be mapped into memory; None if it does not."""
        return None

    def free_bytes(self) -> int | None:
        """Return how many bytes can still be written; None if that is not limited, or not known."""
        return None

    def address(self, key: str) -> str:
        """Return what names an object, or a folder of them, to a person."""
        return f"{self.url}/{key}" if key else self.url

    def key_of(self, address: str) -> str | None:
        """Return the key that an address names ("" for the root), or None if it lies elsewhere."""
        if address.rstrip("/") == self.url:
            return ""
        return address.removeprefix(f"{self.url}/").rstrip("/") if address.startswith(f"{self.url}/") else None

    def exists(self, key: str) -> bool:
        """Return whether there is an object under this key."""
        return self.stat(key) is not None


def check_key(key: str) -> str:
    """Return a key that every backend can keep, inside its storage. Raises `UsageError` for any other one.

    An object has no others below it: who uses `a` does not use `a/b`.
    """
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\0" in key:
        raise UsageError(f"{key!r} is no key of a store: expected parts without `.` or `..`, with one / between them")
    try:
        longest, whole = max(len(part.encode()) for part in parts), len(key.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{key!r} is no key of a store: expected text that UTF-8 can hold") from None
    if longest > MAX_PART_BYTES or whole > MAX_KEY_BYTES:
        raise UsageError(
            f"{key[:100]!r}… is no key of a store: expected at most {MAX_KEY_BYTES} bytes, {MAX_PART_BYTES} of them "
            "between two /"
        )
    if any(is_temporary(part) for part in parts):
        raise UsageError(f"{key!r} is no key of a store: `.….tmp` is the name of an unfinished file")
    return key


def check_prefix(prefix: str) -> str:
    """Return a key to list below, or "" for the root. Raises `UsageError` for anything else."""
    return check_key(prefix) if prefix else ""


def is_temporary(name: str) -> bool:
    """Return whether a name, without folders, is one that backends give to unfinished files."""
    return name.startswith(".") and name.endswith(TEMPORARY)


class StagedFile(io.RawIOBase):
    """A new local file that is hashed as it is written, and synced by the descriptor that has written it.

    A digest of what was meant to be written, not of what can be read back from memory; and an error of a late
    write-back comes to that descriptor (fsync(2)). After `close`: `bytes` and `sha256`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.bytes = 0
        self._sha = hashlib.sha256()
        try:
            with storage_errors("write", path):
                self._file = path.open("xb", buffering=1 << 20)
        except BaseException:
            super().close()  # or `close` would look for the file when this is collected
            raise

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer", /) -> int:
        view = memoryview(data)
        if not view.nbytes:  # `cast` refuses zeros in a shape
            return 0
        view = view.cast("B")
        with storage_errors("write", self.path):
            self._file.write(view)
        self._sha.update(view)
        self.bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        """Nothing: what reads it waits for `close`."""

    @property
    def sha256(self) -> str:
        """The digest, hex, of what has been written."""
        return self._sha.hexdigest()

    def discard(self) -> None:
        """Close the file without waiting for the disk: it will be removed."""
        with suppress(OSError):
            self._file.close()
        super().close()

    def close(self) -> None:
        """Write what is buffered to the disk. Raises `StorageFailed` if the disk refuses."""
        if self.closed:
            return
        try:
            with storage_errors("write", self.path):
                try:
                    self._file.flush()
                    os.fsync(self._file.fileno())
                finally:
                    self._file.close()
        finally:
            super().close()


@dataclass(frozen=True)
class Scratch:
    """A local folder for files that are to be uploaded."""

    folder: Path

    def create(self, name: str) -> StagedFile:
        """Open a new file in it."""
        return StagedFile(self.folder / name)

    def write(self, name: str, data: "Buffer") -> StagedFile:
        """Write a whole file, synced; return it closed."""
        with self.create(name) as file:
            file.write(data)
        return file


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Scratch]:
    """Make a folder, yield it as scratch, and remove it."""
    try:
        with storage_errors("create the folder", folder):
            folder.mkdir(mode=0o700, parents=True)
        yield Scratch(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
