"""Files of this machine that other people may have put there: opened only if they are plain, and looked at once.

Whoever drops a file into a folder may make it a link to what only we can read, or a pipe that never ends, and may swap
one for the other between any two looks at it.
"""

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from digitrec.storage.base import NotPlain, Stat

NO_LINKS = "a link is not followed: copy the file"
FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Folders on the way need not be readable, only searchable (`O_PATH`, where there is that)."""
PATH_MAX_BYTES = 4096
"""As open(2) has it for a path as a whole."""
CLOCK_TICK_S = 2
"""File systems count time in steps of up to two seconds: a file may change twice in one and look the same."""


def stat_of(status: os.stat_result) -> Stat:
    """Return what is known of a file. Its size and mtime alone do not tell whether it was touched: `rsync -t` and
    `cp -p` set the latter. The number of its device says nothing: it may be another after a restart."""
    state = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
    return Stat(status.st_size, status.st_mtime_ns / 1e9, state, status.st_ctime_ns / 1e9 + CLOCK_TICK_S)


def kind_of(mode: int) -> str:
    """Return what a file is that is not a regular one, for people; "" for a regular one."""
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"


def open_plain(path: str | Path) -> tuple[io.FileIO, Stat]:
    """Open a regular file that has one name and is reached through no link; a FIFO or device is not waited for.

    Raises `NotPlain` for anything else, `OSError`.
    """
    try:
        descriptor = open_unlinked(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPlain(str(path), NO_LINKS) from error
        if error.errno == errno.ENXIO:
            raise NotPlain(str(path), _expected_file(stat.S_IFSOCK)) from error
        raise
    status = os.fstat(descriptor)
    if problem := _problem_of(status):
        os.close(descriptor)
        raise NotPlain(str(path), problem)
    return io.FileIO(descriptor), stat_of(status)


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


def walk_plain(base: str, enter: Callable[[str], bool]) -> Iterator[tuple[str, Stat | None, str]]:
    """Yield what lies below a folder: the path from there, what is known of it, and why it is no plain file ("").

    A folder whose name `enter` refuses is yielded with `/` behind it, and not looked into. One that is renamed or
    removed meanwhile is no error; one that cannot be read is yielded as a problem. Raises `OSError` for `base` itself.
    """
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = _scan(f"{base}/{folder}")
        except FileNotFoundError:
            continue
        except OSError as error:
            if not folder:
                raise
            yield folder, None, error.strerror or str(error)
            continue
        for name, status, problem in entries:
            path = f"{folder}/{name}" if folder else name
            if status is None:
                yield path, None, problem
            elif not stat.S_ISDIR(status.st_mode):
                yield path, stat_of(status), _problem_of(status)
            elif enter(name):
                pending.append(path)
            else:
                yield f"{path}/", None, ""


def _scan(folder: str) -> list[tuple[str, os.stat_result | None, str]]:
    """Name, status and problem of each entry of a folder; of what has gone meanwhile, nothing."""
    found: list[tuple[str, os.stat_result | None, str]] = []
    descriptor = open_unlinked(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    found.append((entry.name, entry.stat(follow_symlinks=False), ""))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    found.append((entry.name, None, error.strerror or str(error)))
    finally:
        os.close(descriptor)
    return found


def _problem_of(status: os.stat_result) -> str:
    """Why what lies there is never opened; "" for a regular file of one name."""
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1):
        return NO_LINKS
    return _expected_file(status.st_mode) if kind_of(status.st_mode) else ""


def _expected_file(mode: int) -> str:
    return f"it is {kind_of(mode)}; expected a file"


def _open_folder(name: str, above: int) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=above)
    except NotADirectoryError as error:
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
        raise
