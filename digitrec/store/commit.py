"""Durable bytes: nothing named here can be torn, and nothing published can be overwritten.

A file is written under a name nobody else knows, synced, given its final name, and the folder is synced.
Who may read and write below a store is what the mode of its root folder says, whatever the umask of whoever writes:
one colleague with umask 077 must not make datasets that nobody else can read.
Put-if-absent is `os.link`: the one local call that fails if the name is taken and never shows half a file.
Where links do not exist, Linux's `renameat2(RENAME_NOREPLACE)` serves (renameat2(2)).
"""

import ctypes
import errno
import hashlib
import math
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from digitrec.errors import Misconfigured, StorageFailed, storage_errors
from digitrec.store.layout import Store, parent

RENAME_NOREPLACE = 1
AT_FDCWD = -100
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file as it lies there, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: str | Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(store: Store, folder: str) -> str:
    """Create a folder and its parents durably; return its full path. Below the root, they get the root's mode."""
    full = Path(store.full(folder))
    with storage_errors("create the folder", full):
        missing = [path for path in (full, *full.parents) if not path.exists()]
        full.mkdir(parents=True, exist_ok=True)
        for path in missing:
            if path.is_relative_to(store.url) and path != Path(store.url):
                set_mode(path, root_mode(store) & 0o3777)
            sync_file(path.parent)
    return str(full)


def share(store: Store, full: str | Path, *, writable: bool = False) -> None:
    """Let whoever may read the store's root folder read a file of ours. Nobody else needs to write, but to a lock:
    files are replaced, never changed."""
    set_mode(full, 0o200 | root_mode(store) & (0o666 if writable else 0o444))


def root_mode(store: Store) -> int:
    return Path(store.url).stat().st_mode


def set_mode(path: str | Path, mode: int) -> None:
    """chmod(2); what another process has made, or a file system without modes, is left as it is."""
    with suppress(PermissionError):
        Path(path).chmod(mode)


def put_if_absent(store: Store, path: str, data: bytes) -> bool:
    """Create `path` with `data`, whole and synced, unless it exists. True if this call created it."""
    folder = make_folder(store, parent(path))
    temporary = f"{folder}/.{uuid.uuid4().hex}.tmp"
    with storage_errors("write", store.full(path)):
        try:
            write_synced(temporary, data)
            share(store, temporary)
            created = name_if_absent(temporary, store.full(path))
            sync_file(folder)
            return created
        finally:
            Path(temporary).unlink(missing_ok=True)


def write_replacing(store: Store, path: str, data: bytes) -> None:
    """Write `path` whole and synced, replacing what was there. For notes and caches, never for what is published."""
    make_folder(store, parent(path))
    with storage_errors("write", store.full(path)), replacing(Path(store.full(path))) as temporary:
        temporary.write_bytes(data)
        share(store, temporary)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path`, synced, if nothing goes wrong, and is gone otherwise."""
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, path)
        sync_file(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def settle(store: Store, staged: str, path: str, digest: str) -> None:
    """Move a synced file to the name that carries its digest.

    If the name is taken, the file there is kept when its bytes have that digest (somebody did the same work),
    and replaced when they do not (it is damaged: the name promises these bytes).
    """
    target = store.full(path)
    folder = make_folder(store, parent(path))
    with storage_errors("move a file to", target):
        share(store, store.full(staged))
        if not name_if_absent(store.full(staged), target) and sha256_of(target) != digest:
            os.replace(store.full(staged), target)
        Path(store.full(staged)).unlink(missing_ok=True)
        sync_file(folder)


def settle_folder(store: Store, staged: str, folder: str) -> bool:
    """Give a staged folder its final name, all at once, unless a filled folder is there. True if this call did.

    Everything in it is synced first. POSIX rename(2) refuses to replace a folder that is not empty, which makes
    this a put-if-absent of a whole folder.
    """
    source = Path(store.full(staged))
    target_parent = make_folder(store, parent(folder))
    with storage_errors("publish", store.full(folder)):
        for path in [*source.rglob("*"), source]:
            if path.is_dir():
                set_mode(path, root_mode(store) & 0o3777)
            else:
                share(store, path)
            sync_file(path)
        try:
            source.rename(store.full(folder))
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            return False
        sync_file(target_parent)
        return True


def remove_folder(store: Store, folder: str) -> None:
    """Remove a working folder of our own, if it is there. Failing to clean up is not a failure."""
    shutil.rmtree(store.full(folder), ignore_errors=True)


def sweep(store: Store, folder: str, *, keep: Collection[str] = (), grace_s: float = 86_400) -> list[str]:
    """Remove the entries of `folder` older than `grace_s` that `keep` (store-relative paths) does not name.

    Returns what was removed. A younger entry may belong to a run that is alive. Failing to clean up is not a failure.
    """
    removed: list[str] = []
    with suppress(StorageFailed):
        for relative in (f"{folder}/{name}" for name in store.names(folder)):
            entry = Path(store.full(relative))
            if relative not in keep and newest_change(entry) <= time.time() - grace_s and remove(entry):
                removed.append(relative)
    return removed


def remove(entry: Path) -> bool:
    """Remove a file or folder as far as we may. True if it is gone."""
    with suppress(OSError):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return not os.path.lexists(entry)


def newest_change(entry: Path) -> float:
    """Latest modification time (seconds since the epoch) of an entry and all below it; of what is gone, infinity.

    A file may vanish under our eyes: then somebody is at work there. What cannot be looked at is not ours to sweep.
    """
    below = (Path(folder, name) for folder, folders, files in os.walk(entry) for name in (*folders, *files))
    newest = -math.inf
    for path in (entry, *below):
        try:
            newest = max(newest, path.lstat().st_mtime)
        except OSError:
            return math.inf
    return newest


def write_synced(full: str, data: bytes) -> None:
    with open(full, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def name_if_absent(source: str, target: str) -> bool:
    """Give the file `source` the name `target` too (or instead), unless that is taken. True if it was free."""
    try:
        os.link(source, target)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    return rename_if_absent(source, target)


def rename_if_absent(source: str, target: str) -> bool:
    """`renameat2(RENAME_NOREPLACE)`. Raises `Misconfigured` where the file system has neither this nor links."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in {errno.EINVAL, errno.ENOSYS}:
        where = os.path.dirname(target)
        raise Misconfigured(
            f"the file system of {where} can neither link files nor rename without replacing, "
            "so publishing once cannot be guaranteed there; choose another --store"
        )
    raise OSError(code, os.strerror(code), target)
