"""Checkpoints in the store, so that a training goes on wherever it is asked for again.

Below `_training/<version>/<generation>/<stage>/` lie checkpoint files under their digests, and pointers, `00001.json`
and so on: small objects, each put if absent once its files are there. What no pointer names does not count. Files are
never overwritten, and a process writes only below the generation of its own lease: one that was paused, and comes back
when another process has taken over, cannot mix its checkpoints with those of the other.

All of it only saves work. A checkpoint that cannot be saved is said, and stops no training.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

from digitrec.catalog.layout import digest_name
from digitrec.catalog.listing import folder_names
from digitrec.catalog.manifest import File, canonical, parse_json, read_checked
from digitrec.catalog.numbered import find_last
from digitrec.catalog.publish import create, upload
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, DigitrecError, storage_errors
from digitrec.storage import NotFound

LOG = logging.getLogger("digitrec.training")
KEPT = 2
"""Pointers, the newest ones, whose files are kept: if the last is damaged, there is another."""
REST = 9.0
"""So many times as long as saving took, nothing is saved: on a slow store it takes a tenth of the time at most."""
REST_MAX_S = 300.0
"""However slow the store is, a kill costs little more than this."""
STEM, SUFFIX = "checkpoint", ".ckpt"


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from, `epoch` epochs done: its newest state, and that of the best epoch, as bytes."""

    epoch: int
    best: bytes
    last: bytes


@dataclass(frozen=True)
class Pointer:
    """The object that makes a checkpoint count. `best` and `last` are files in the same folder, often one."""

    folder: str
    number: int
    epoch: int
    best: File
    last: File

    @property
    def files(self) -> dict[str, File]:
        """Its files by key."""
        return {f"{self.folder}/{file.path}": file for file in (self.best, self.last)}

    def to_bytes(self) -> bytes:
        files = {
            name: {"path": file.path, "bytes": file.bytes, "sha256": file.sha256}
            for name, file in (("best", self.best), ("last", self.last))
        }
        return (canonical({"format": FORMAT, "epoch": self.epoch} | files, indent=1) + "\n").encode()


@dataclass(frozen=True)
class Start:
    """Where a training goes on: from `checkpoint`, or from the beginning (None).

    `pointers`: those found whose files may be there, oldest first; `warnings`: what a person should know.
    """

    checkpoint: Checkpoint | None
    pointers: tuple[Pointer, ...] = ()
    warnings: tuple[str, ...] = ()


def generation_folder(training: str, generation: int, stage: str) -> str:
    """Return where the holder of a generation of the lease saves the checkpoints of one stage of its training."""
    return f"{training}/{generation:08d}/{stage}"


def find_start(store: Store, training: str, stage: str) -> Start:
    """Return the newest checkpoint that verifies, of whichever process, below the folder of a training.

    A listing finds the generations: one that it does not show yet costs time, nothing else. What is wrong with one of
    the newest is named; of older ones the files may have been removed. Raises `StorageFailed` if
    a checkpoint cannot be read, though it may be sound.
    """
    found = [
        each
        for generation in folder_names(store, training)
        for each in _read_pointers(store, f"{training}/{generation}/{stage}")
    ]
    pointers = tuple(each for each in found if isinstance(each, Pointer))
    problems: list[str] = []
    for age, each in enumerate(reversed(found)):
        try:
            if isinstance(each, Corrupt):
                raise each
            checkpoint = _read_checkpoint(store, each)
        except Corrupt as error:
            if age < KEPT:
                problems.append(str(error))
            continue
        instead = f"going on from an older checkpoint, of epoch {checkpoint.epoch}"
        return Start(checkpoint, pointers, _name_each(problems, instead))
    return Start(None, pointers, _name_each(problems, "training begins anew"))


@contextmanager
def saving(
    store: Store, folder: str, before: Sequence[Pointer], also: Callable[[], None]
) -> Iterator[Callable[[Checkpoint], None]]:
    """Save checkpoints into a folder, from a thread of its own: yield what is to be told of each.

    Of several that come while one is being saved, the newest is saved; the last one always, at the end, however that
    comes. `before`: the pointers whose files may go once there are newer ones; `also` is called after each, to save
    what else is to be seen.
    """
    saver = _Saver(store, folder, list(before), also)
    thread = threading.Thread(target=saver.keep_saving, name=f"checkpoints of {folder}", daemon=True)
    thread.start()
    try:
        yield saver.offer
    finally:
        saver.end()
        thread.join()


class _Saver:
    def __init__(self, store: Store, folder: str, pointers: list[Pointer], also: Callable[[], None]) -> None:
        self._store, self._folder, self._pointers, self._also = store, folder, pointers, also
        self._newest: Checkpoint | None = None
        self._saved: Checkpoint | None = None
        self._changed, self._ended = threading.Event(), threading.Event()

    def offer(self, checkpoint: Checkpoint) -> None:
        self._newest = checkpoint
        self._changed.set()

    def end(self) -> None:
        self._ended.set()
        self._changed.set()

    def keep_saving(self) -> None:
        ended = False
        while not ended:
            self._changed.wait()
            self._changed.clear()
            ended, newest, began = self._ended.is_set(), self._newest, time.monotonic()
            if newest is not None and newest is not self._saved:
                try:
                    self._save(newest)
                    self._saved = newest
                except DigitrecError as error:
                    LOG.warning("the checkpoint of epoch %s is not saved: %s", newest.epoch, error)
            with suppress(DigitrecError):
                self._also()
            self._ended.wait(min(REST * (time.monotonic() - began), REST_MAX_S))

    def _save(self, checkpoint: Checkpoint) -> None:
        """Upload the files, then make them count, then remove those that are not needed any more."""
        best = self._upload(checkpoint.best)
        last = best if checkpoint.last == checkpoint.best else self._upload(checkpoint.last)
        pointer = self._put(Pointer(self._folder, 0, checkpoint.epoch, best, last))
        self._pointers.append(pointer)
        kept = {key for each in self._pointers[-KEPT:] for key in each.files}
        for key in {key for each in self._pointers[:-KEPT] for key in each.files} - kept:
            self._store.storage.delete(key)
        del self._pointers[:-KEPT]

    def _upload(self, data: bytes) -> File:
        sha256 = hashlib.sha256(data).hexdigest()
        path = digest_name(STEM, sha256, SUFFIX)
        for pointer in self._pointers[-KEPT:]:
            if there := pointer.files.get(f"{self._folder}/{path}"):
                return there
        with self._store.storage.scratch() as scratch:
            return upload(self._store, self._folder, scratch.write("checkpoint", data), STEM + SUFFIX)

    def _put(self, pointer: Pointer) -> Pointer:
        """Put a pointer under the next number. No other process writes here: what is taken is by ourselves."""
        data = pointer.to_bytes()
        own = [each.number for each in self._pointers if each.folder == self._folder]
        free = (
            number
            for number in count(max(own, default=0) + 1)
            if create(self._store, _pointer_key(self._folder, number), data)
        )
        return replace(pointer, number=next(free))


def put_files(store: Store, source: Path, folder: str) -> None:
    """Put all files of a local folder below a folder of the store, replacing what is there: small ones, that grow."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            with storage_errors("read", path):
                data = path.read_bytes()
            store.storage.put(f"{folder}/{path.relative_to(source).as_posix()}", data)


def _pointer_key(folder: str, number: int) -> str:
    return f"{folder}/{number:05d}.json"


def _read_pointers(store: Store, folder: str) -> "list[Pointer | Corrupt]":
    """Return the newest pointers, one more than have their files if all went well."""
    found: list[Pointer | Corrupt] = []
    last = find_last(store, partial(_pointer_key, folder))
    for number in range(max(1, last - KEPT), last + 1):
        with suppress(NotFound):
            found.append(_parse_pointer(store, folder, number, store.storage.read(_pointer_key(folder, number))))
    return found


def _parse_pointer(store: Store, folder: str, number: int, data: bytes) -> "Pointer | Corrupt":
    where = store.address(_pointer_key(folder, number))
    damaged = f"{where} is not a pointer to a checkpoint, or is damaged"
    try:
        body = parse_json(data, where, damaged)
        best, last = (
            File(body[name]["path"], 0, body[name]["bytes"], body[name]["sha256"]) for name in ("best", "last")
        )
        return Pointer(folder, number, body["epoch"], best, last)
    except Corrupt as error:
        return error
    except (KeyError, TypeError):
        return Corrupt(damaged)


def _read_checkpoint(store: Store, pointer: Pointer) -> Checkpoint:
    contents = {key: read_checked(store, key, file) for key, file in pointer.files.items()}
    best, last = (contents[f"{pointer.folder}/{file.path}"] for file in (pointer.best, pointer.last))
    return Checkpoint(pointer.epoch, best, last)


def _name_each(problems: list[str], instead: str) -> tuple[str, ...]:
    return tuple(f"{problem}; {instead}" for problem in dict.fromkeys(problems))
