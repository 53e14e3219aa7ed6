"""What the child processes of the tests do with a folder as storage."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from digitrec.errors import DigitrecError
from digitrec.storage import Storage
from digitrec.storage.local import LocalStorage

PROCESSES = multiprocessing.get_context("forkserver")
"""Forked from one in which digitrec is imported, so that each takes milliseconds."""
PROCESSES.set_forkserver_preload([__name__])

KEY = "new/folder/object"
OLD, NEW = b"old" * 30_000, b"newer" * 30_000


def upload_data(storage: Storage, key: str, data: bytes) -> None:
    with storage.scratch() as scratch:
        storage.upload(scratch.write("file", data).path, key)


def put_if_absent(storage: Storage) -> None:
    storage.put_if_absent(KEY, NEW)


def put(storage: Storage) -> None:
    storage.put(KEY, NEW)


def upload(storage: Storage) -> None:
    upload_data(storage, KEY, NEW)


def upload_unsynced(storage: Storage) -> None:
    """A local file that nobody has synced."""
    with storage.scratch() as scratch:
        (scratch.folder / "file").write_bytes(NEW)
        storage.upload(scratch.folder / "file", KEY)


def copy(storage: Storage) -> None:
    storage.copy("source", KEY)


# Operations to be traced: each makes the object `KEY`
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


VERBS: dict[str, Callable[[Storage, str], object]] = {
    "read": lambda storage, key: storage.read(key),
    "open": lambda storage, key: storage.open(key),
    "stat": lambda storage, key: storage.stat(key),
    "exists": lambda storage, key: storage.exists(key),
    "list": lambda storage, key: storage.list(key),
    "touch": lambda storage, key: storage.touch(key),
    "copy from": lambda storage, key: storage.copy(key, "target"),
    "copy to": lambda storage, key: storage.copy("source", key),
    "put": lambda storage, key: storage.put(key, b""),
    "put_if_absent": lambda storage, key: storage.put_if_absent(key, b""),
    "upload": lambda storage, key: upload_data(storage, key, b""),
    "delete": lambda storage, key: storage.delete(key),
}


def race(storage: LocalStorage, barrier: Barrier, rounds: int, created: "Queue[tuple[int, int]]") -> None:
    for turn in range(rounds):
        barrier.wait()
        if storage.put_if_absent(f"new-{turn}/folder/object", b"%d" % os.getpid()):
            created.put((turn, os.getpid()))


def try_as_nobody(storage: LocalStorage, told: "Queue[tuple[str, str, str]]") -> None:
    """Do everything as a user who may not enter the folder."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    for verb, call in VERBS.items():
        try:
            answer = str(call(storage, "locked/object"))
        except Exception as error:
            told.put((verb, type(error).__name__, str(error)))
        else:
            told.put((verb, "", answer))
