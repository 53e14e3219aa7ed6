"""Each verb that makes an object, as a child process does it that waits to be traced."""

import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

from digitrec.errors import DigitrecError
from digitrec.storage import Storage
from digitrec.storage.local import LocalStorage

KEY = "new/folder/object"
OLD, NEW = b"old" * 30_000, b"newer" * 30_000


def put_if_absent(storage: Storage) -> None:
    storage.put_if_absent(KEY, NEW)


def put(storage: Storage) -> None:
    storage.put(KEY, NEW)


def upload(storage: Storage) -> None:
    with storage.scratch() as scratch:
        storage.upload(scratch.write("file", NEW).path, KEY)


def upload_unsynced(storage: Storage) -> None:
    """A local file that nobody has synced."""
    with storage.scratch() as scratch:
        (scratch.folder / "file").write_bytes(NEW)
        storage.upload(scratch.folder / "file", KEY)


def copy(storage: Storage) -> None:
    storage.copy("source", KEY)


OPERATIONS: dict[str, Callable[[Storage], None]] = {
    "put_if_absent": put_if_absent,
    "put": put,
    "upload": upload,
    "upload_unsynced": upload_unsynced,
    "copy": copy,
}


def run_when_told(operation: str, url: str, start: Connection) -> None:
    """Do it as soon as a word comes; end with the exit code that the command would have."""
    start.recv()
    try:
        OPERATIONS[operation](LocalStorage(url))
    except DigitrecError as error:
        sys.exit(error.exit_code)
