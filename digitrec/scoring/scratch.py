"""Where the workers of our own cluster write when memory runs short: gone at the end, also of a run that was killed."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from digitrec.errors import Misconfigured

PREFIX = "digitrec-dask-"
NEW_S = 60.0
"""A folder this young may not be locked yet by the run that has made it."""


@contextmanager
def scratch_folder(given: str | None) -> Iterator[str]:
    """Yield a fresh folder below `given`, Dask's setting, or below the temporary one, and remove it afterwards.

    What killed runs have left there is removed first. Raises `Misconfigured` if `given` can be neither used nor made.
    """
    base = Path(tempfile.gettempdir()) if given is None else _made(Path(given).absolute())
    _remove_leftovers(base)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=base, ignore_cleanup_errors=True) as folder:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # a file system without locks, where nothing is removed later either
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process
            yield folder
        finally:
            os.close(opened)


def _made(base: Path) -> Path:
    try:
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            return base
        why = "it cannot be written"
    except OSError as error:
        why = error.strerror or str(error)
    raise Misconfigured(f"Dask's temporary-directory (DASK_TEMPORARY_DIRECTORY) is {base}: {why}; set another")


def _remove_leftovers(base: Path) -> None:
    """Remove this user's folders that no run has locked."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                status = os.fstat(opened)
                if status.st_uid == os.getuid() and status.st_mtime < time.time() - NEW_S:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            finally:
                os.close(opened)
