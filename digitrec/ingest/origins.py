"""Where a source lies before it is opened: a file of this machine, or an object that was put into the landing zone."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, NoInput, StorageFailed, TryAgain, explain
from digitrec.ingest.containers import Unreadable, read_up_to
from digitrec.shown import printable
from digitrec.storage import NotFound, Stat
from digitrec.storage.base import NotPlain
from digitrec.storage.files import kind_of, stat_of

SMALL_BYTES: Final = 1 << 20
"""What is no larger is read at once, and can be hashed in no time."""

BinaryFile = io.BufferedIOBase | io.RawIOBase
NO_FILE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class Origin:
    """`name`: the file's own, without folders; `where`: its path or address, fit to be shown.

    `open` gives the bytes (seekable) and the state of what was opened; it raises `NoInput` or `Unreadable`.
    `stat` gives the present state of what lies there, None if nothing does; it raises `Unreadable`.
    """

    name: str
    where: str
    open: Callable[[], tuple[BinaryFile, Stat]]
    stat: Callable[[], Stat | None]


def local_file(path: str | Path) -> Origin:
    """Return a file of this machine as a source; links are followed."""
    path = Path(path)
    return Origin(path.name, printable(str(path)), lambda: _open_regular(path), lambda: _stat_of(path))


def landed_object(store: Store, key: str) -> Origin:
    """Return what other people have put into a store as a source; no link is followed."""
    where = printable(store.address(key))

    def open_plain() -> tuple[BinaryFile, Stat]:
        try:
            return store.storage.open_plain(key)
        except NotPlain as error:
            raise NoInput(f"cannot read {where}: {error.problem}") from error
        except NotFound as error:
            raise NoInput(f"cannot read {where}: {os.strerror(errno.ENOENT)}; expected a CSV file") from error
        except StorageFailed as error:
            raise Unreadable(str(error)) from error

    def stat() -> Stat | None:
        try:
            return store.storage.stat(key)
        except Misconfigured:  # it has become a link to nowhere
            return None
        except StorageFailed as error:
            raise Unreadable(str(error)) from error

    return Origin(key.rpartition("/")[2], where, open_plain, stat)


def held(origin: Origin) -> Origin:
    """Return a small source with its bytes in memory, however often it is opened then; a large one as it is.

    Raises `NoInput` or `Unreadable`.
    """
    found = origin.stat()
    if found is None or found.size > SMALL_BYTES:
        return origin
    file, opened = origin.open()
    with file, reading(origin.where):
        data = read_up_to(file, SMALL_BYTES + 1)  # whoever reads it finds out whether it has grown
    return replace(origin, open=lambda: (io.BytesIO(data), opened))


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn an error of the file system while a source is read into ours, which name it."""
    try:
        yield
    except FileNotFoundError as error:
        raise TryAgain(f"{where} was removed while it was read; nothing was published") from error
    except OSError as error:
        raise Unreadable(f"cannot read {where}: {error.strerror or error}") from error


def _open_regular(path: Path) -> tuple[BinaryFile, Stat]:
    """Open a regular file; a FIFO, device or socket is refused without waiting for it. Manifests name sources, so a
    name that is not UTF-8 is refused with `NoInput`."""
    shown = printable(str(path))
    if "\0" in str(path) or os.fsencode(path).decode("utf-8", "ignore").encode() != os.fsencode(path):
        raise NoInput(f"cannot read {shown}: its name is not UTF-8 text; rename it")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in NO_FILE:
            raise NoInput(f"cannot read {shown}: {error.strerror}; expected a CSV file") from error
        raise Unreadable(explain(error, "read")) from error
    status = os.fstat(descriptor)
    if what := kind_of(status.st_mode):
        os.close(descriptor)
        raise NoInput(f"cannot read {shown}: it is {what}; expected a CSV file")
    return io.FileIO(descriptor), stat_of(status)


def _stat_of(path: Path) -> Stat | None:
    try:
        return stat_of(path.stat())
    except ValueError:  # a NUL in the name
        return None
    except OSError as error:
        if error.errno in NO_FILE:
            return None
        raise Unreadable(explain(error, "read")) from error
