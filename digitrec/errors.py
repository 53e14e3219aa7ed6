"""Everything digitrec raises on purpose. Each leaf carries its BSD exit code; `transient` says if a retry may help.

DigitrecError
├── UsageError             64  the command or an option makes no sense
├── BadData                65  the input is readable and wrong
├── NoInput                66  what was named does not exist
├── Unavailable            69  a cluster or server cannot be reached, or does not fit        (transient)
├── ComputationFailed      70  a partition cannot be computed: a bug, or a poisoned input
├── AlreadyPublished       73  another result stands under this name
├── StorageFailed          74  the file system refused: disk full, no permission, I/O error  (transient)
│   └── Corrupt            74  bytes are not what their manifest says
├── TryAgain               75  the world moved under us: a source changed while it was read  (transient)
├── Misconfigured          78  settings or environment are wrong
├── OldStore               78  an earlier digitrec made the store
└── Interrupted           130  stopped by the user

A message says what, where, what was expected and what to do, in one line, and holds no row of anybody's data: it goes
to logs, to Prefect and to notifications. Rows go into `details`.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from digitrec.shown import printable, printable_lines


class DigitrecError(Exception):
    """The root. Never raised itself.

    Its text is fit to be shown, whatever the names and values in it, but for line feeds: a list of refused rows has
    some. Whoever names a file in a message puts it through `shown.printable`.

    `details` are lines that may hold rows of data. They are shown on the terminal of whoever runs the command, below
    the message, and go nowhere else unless `DIGITREC_SHARE_ROWS` says so. Pickling keeps them: they pass between
    processes.
    """

    exit_code: ClassVar[int] = 70
    transient = False

    def __init__(self, message: str = "", *, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)

    def __str__(self) -> str:
        return printable_lines(super().__str__())


class UsageError(DigitrecError):
    exit_code = 64


class BadData(DigitrecError):
    exit_code = 65


class NoInput(DigitrecError):
    exit_code = 66


class Unavailable(DigitrecError):
    exit_code = 69
    transient = True


class ComputationFailed(DigitrecError):
    exit_code = 70


class AlreadyPublished(DigitrecError):
    exit_code = 73


class StorageFailed(DigitrecError):
    exit_code = 74
    transient = True


class Corrupt(StorageFailed):
    transient = False


class TryAgain(DigitrecError):
    exit_code = 75
    transient = True


class Misconfigured(DigitrecError):
    exit_code = 78


class OtherFormat(Misconfigured):
    """Another version of digitrec wrote this: the rest of the store may be well."""


class OldStore(DigitrecError):
    """An earlier digitrec made the store: nothing in it can be used, so whoever meets this goes no further."""

    exit_code = 78


class Interrupted(DigitrecError):
    exit_code = 130


FIRST_TO_TELL: tuple[type[DigitrecError], ...] = (
    Interrupted,
    OldStore,
    ComputationFailed,
    Corrupt,
    Misconfigured,
    AlreadyPublished,
    BadData,
    NoInput,
    UsageError,
    StorageFailed,
    Unavailable,
    TryAgain,
)
"""Of several errors at once, the one that a person must do something about gives the exit code, in this order; last
comes what may pass by itself."""


def combined(errors: Sequence[DigitrecError], message: str) -> DigitrecError:
    """Return one error for several, the same in whichever order they came: its class by `FIRST_TO_TELL`, `transient` if
    any of them is. Trying again costs little where finished work is kept, and may help those that can be helped.
    """
    kind = next(kind for kind in FIRST_TO_TELL if any(isinstance(error, kind) for error in errors))
    error = kind(message)
    error.transient = any(error.transient for error in errors)
    error.__cause__ = next(error for error in errors if isinstance(error, kind))
    return error


WHAT_TO_DO = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some of the quota and run it again",
    errno.EROFS: "the file system is read-only: choose another --store",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
}


CWD_GONE = (
    "the working directory has been removed; change to one that is there, or give --store and files as absolute paths"
)


def told_by_system(error: OSError, what: str, where: object = None) -> "StorageFailed | Misconfigured":
    """Return an `OSError` as one of ours: `Misconfigured` if a path leads nowhere, or nothing can be put aside, else
    `StorageFailed`."""
    kind = Misconfigured if _is_cwd_gone(error) or _dangling(error) or _no_temporary(error) else StorageFailed
    return kind(explain(error, what, where))


def explain(error: OSError, what: str, where: object = None) -> str:
    """One line for an `OSError`: what was being done, where it failed, why, what to do.

    `where` is named if the error does not know the file, as with a write to one that is open already.
    """
    if _is_cwd_gone(error):
        return CWD_GONE
    if tried := _no_temporary(error):
        return f"no folder for temporary files can be written, of {tried}: set TMPDIR to one that can"
    place = error.filename if isinstance(error.filename, str | bytes) else where
    told = f"cannot {what}" + (f" {_shown(place)}" if place else "")
    if link := _dangling(error):
        target = _shown(link.readlink())
        return f"{told}: it is a link to {target}, which is not there; correct the link, or mount its target"
    todo = WHAT_TO_DO.get(error.errno or 0)
    return f"{told}: {error.strerror or error}" + (f"; {todo}" if todo else "")


def _shown(place: object) -> str:
    return printable(os.fsdecode(place) if isinstance(place, bytes) else str(place))


def _is_cwd_gone(error: OSError) -> bool:
    """Whether a path was taken from a working directory that has been removed."""
    absolute = isinstance(error.filename, str) and Path(error.filename).is_absolute()
    if error.errno != errno.ENOENT or absolute:
        return False
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _no_temporary(error: OSError) -> str:
    """The folders that Python has tried, if it found none for temporary files."""
    told = str(error.strerror)
    return told.partition(" found in ")[2] if told.startswith("No usable temporary directory") else ""


def _dangling(error: OSError) -> Path | None:
    """The link that stands, with no target, where a folder was to be made."""
    if error.errno != errno.EEXIST or not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    return path if path.is_symlink() and not path.exists() else None


@contextmanager
def storage_errors(what: str, where: object = None) -> Iterator[None]:
    """Turn an `OSError` inside into `StorageFailed` ("cannot {what} {file}: …"); other errors pass.

    `where`: the file, for errors that do not know it. Raises `Misconfigured` for a link that leads nowhere.
    """
    try:
        yield
    except OSError as error:
        raise told_by_system(error, what, where) from error
