"""Storage in a folder of this machine, or of a network file system: nothing can be torn, nothing published overwritten.

A file is written under a name nobody else knows, synced, given its final name, and the folder is synced.
Put-if-absent is link(2): the one local call that fails if the name is taken and never shows half a file; where links do
not exist, Linux's `renameat2(RENAME_NOREPLACE)` serves. On NFS the reply to either may be lost and the call sent again:
then "already there" may mean our own file, which is told by its inode (link(2), NOTES).
Who may read and write below the root is what the mode of the root folder says, whatever the umask of whoever writes.
"""

import ctypes
import errno
import io
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digitrec.errors import Misconfigured, UsageError, storage_errors, told_by_system
from digitrec.storage import files
from digitrec.storage.base import (
    TEMPORARY,
    Found,
    NotFound,
    NotPlain,
    Scratch,
    Stat,
    Storage,
    check_key,
    check_prefix,
    is_temporary,
    scratch_folder,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

SCRATCH = "_staging"
RENAME_NOREPLACE = 1
AT_FDCWD = -100
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
NO_MODES = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}
GONE = (FileNotFoundError, NotADirectoryError)

_durable: set[tuple[str, str]] = set()
"""Folders (root, folder) whose names this process has synced: once is enough, as nobody here removes one in use."""


@dataclass(frozen=True)
class LocalStorage(Storage):
    """The objects below a root folder; `url` is its absolute path. The root is made with the first object."""

    url: str

    def read(self, key: str) -> bytes:
        path = self._path(key)
        with _failures("read", path), _absence(key, path):
            return path.read_bytes()

    def open(self, key: str) -> io.BufferedIOBase:
        path = self._path(key)
        with _failures("read", path), _absence(key, path):
            return io.BufferedReader(_File(path), 1 << 16)

    def open_plain(self, key: str) -> tuple[io.RawIOBase, Stat]:
        path = self._path(key)
        try:
            with _failures("read", path):
                try:
                    return files.open_plain(self._beyond_link(path, key))
                except GONE:
                    raise NotFound(key) from None
        except NotPlain as error:
            raise NotPlain(key, error.problem) from error

    def walk(self, prefix: str, enter: Callable[[str], bool]) -> "list[Found]":
        folder = self._folder(prefix)
        found = []
        with _failures("read", folder):
            for path, status, problem in files.walk_plain(self._beyond_link(folder, prefix), enter):
                key = f"{prefix}/{path}" if prefix else path
                found.append(Found(key, status, problem or _no_key(key)))
        return found

    def put_if_absent(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with _failures("write", path), self._written_beside(path, io.BytesIO(data)) as temporary:
            created = _name_if_absent(temporary, path)
            sync(path.parent)
            return created

    def put(self, key: str, data: bytes) -> None:
        self._put(io.BytesIO(data), self._path(key))

    def upload(self, file: Path, key: str) -> None:
        path = self._path(key)
        with _failures("write", path):
            self._make_folder(path.parent)
            self._share(file)
            sync(file)
            try:
                _replace(file, path)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with file.open("rb") as reading:
                    self._put(reading, path)
            sync(path.parent)

    def copy(self, source: str, target: str) -> None:
        path = self._path(target)
        with self.open(source) as reading:
            self._put(reading, path)

    def touch(self, key: str) -> None:
        path = self._path(key)
        if not self.exists(key):
            raise NotFound(key)
        with _failures("touch", path), _absence(key, path):
            try:
                os.utime(path)
            except PermissionError:  # in a store of several users only an object's owner may set its time
                self.copy(key, key)

    def stat(self, key: str) -> Stat | None:
        path = self._path(key)
        with _failures("look at", path):
            try:
                found = path.stat()
            except GONE:
                _check_links(path)
                return None
        if stat.S_ISDIR(found.st_mode):
            return None
        return files.stat_of(found)

    def list(self, prefix: str) -> list[str]:
        folder = self._folder(prefix)
        with _failures("list", folder):
            try:
                with os.scandir(folder) as entries:
                    names = [entry.name + ("/" if _is_folder(entry) else "") for entry in entries]
            except GONE:
                _check_links(folder)
                return []
        hidden = {f"{SCRATCH}/"} if not prefix else set()
        return sorted(name for name in names if not is_temporary(name) and name not in hidden and _is_text(name))

    def delete(self, key: str, *, state: str | None = None) -> bool:
        path = self._path(key)
        with _failures("remove", path), suppress(*GONE, IsADirectoryError):
            if state is not None:
                return _delete_unchanged(path, state)
            path.unlink()
            return True
        return False

    def scratch(self) -> AbstractContextManager[Scratch]:
        folder = Path(self.url, SCRATCH)
        self._make_folder(folder)
        return scratch_folder(folder / uuid.uuid4().hex)

    def sweep_unfinished(self, prefix: str, older_than_s: float) -> None:
        before = time.time() - older_than_s
        for folder, is_unfinished in ((self._folder(prefix), is_temporary), (Path(self.url, SCRATCH), bool)):
            with suppress(OSError):
                for path in folder.iterdir():
                    if is_unfinished(path.name):
                        _remove_if_older(path, before)

    def local_path(self, key: str) -> Path:
        return self._path(key)

    def key_of(self, address: str) -> str | None:
        """Return the key of a path, which may be relative to the working directory, or lead through links."""
        path, root = Path(address).resolve(), Path(self.url).resolve()
        if not path.is_relative_to(root):
            return None
        key = path.relative_to(root).as_posix()
        return "" if key == "." else key

    def free_bytes(self) -> int:
        """Return what the file system of the root has free; of the nearest folder above, if there is no root yet."""
        root = Path(self.url)
        with storage_errors("look at", root):
            return shutil.disk_usage(next(place for place in (root, *root.parents) if place.exists())).free

    def _path(self, key: str) -> Path:
        return Path(self.url, check_key(key))

    def _beyond_link(self, path: Path, key: str) -> str:
        """The path of a key where its first part is no link: that one is the operator's, who may have put the folder
        on another disk. Raises `OSError` if it leads nowhere."""
        top = Path(self.url, key.partition("/")[0])
        try:
            real = os.path.realpath(top, strict=os.path.lexists(top))
        except FileNotFoundError:
            _check_links(top)
            raise
        return f"{real}/{path.relative_to(top)}" if path != top else real

    def _folder(self, prefix: str) -> Path:
        return Path(self.url, check_prefix(prefix))

    def _put(self, reading: io.BufferedIOBase, path: Path) -> None:
        """Create or replace a file with what is read, whole and durably."""
        with _failures("write", path), self._written_beside(path, reading) as temporary:
            _replace(temporary, path)
            sync(path.parent)

    @contextmanager
    def _written_beside(self, path: Path, reading: io.BufferedIOBase) -> Iterator[Path]:
        """Write what is read under a name nobody else knows, synced, in the folder of `path`; yield its path, and
        remove it if it is still there."""
        self._make_folder(path.parent)
        temporary = path.parent / f".{uuid.uuid4().hex}{TEMPORARY}"
        try:
            with temporary.open("xb") as file:
                shutil.copyfileobj(reading, file, 1 << 20)
                file.flush()
                self._share(temporary)
                os.fsync(file.fileno())
            yield temporary
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _make_folder(self, folder: Path) -> None:
        """Make a folder below the root, and all above it, durably.

        Each name on the way is synced once by every process that relies on it, whoever has made it: the one that did
        may have died before it could. Below the root, folders get the root's mode. A folder above it that may be
        entered but not read cannot be synced.
        """
        root = Path(self.url)
        with storage_errors("create the folder", folder):
            if (self.url, str(folder)) in _durable and folder.is_dir():
                return
            made = [place for place in (folder, *folder.parents) if not place.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            for place in made:
                if root in place.parents:
                    _set_mode(place, self._root_mode() & 0o3777)
            inside = [place for place in (folder, *folder.parents) if root == place or root in place.parents]
            for place in {*inside, *made}:
                if (self.url, str(place)) not in _durable or place in made:
                    try:
                        sync(place.parent)
                    except PermissionError:
                        if root in place.parents:
                            raise
                    _durable.add((self.url, str(place)))

    def _share(self, path: Path) -> None:
        """Let whoever may read the root read a file. Nobody else needs to write: files are replaced, not changed."""
        _set_mode(path, 0o200 | self._root_mode() & 0o444)

    def _root_mode(self) -> int:
        return Path(self.url).stat().st_mode


def _delete_unchanged(path: Path, state: str) -> bool:
    """Remove a file if it is in this state. No system call does that: so it is taken aside, looked at, and put back
    if it has changed. Nobody waits for the moment between: what is removed so, no manifest names."""
    before = path.stat()
    if files.stat_of(before).state != state:
        return False
    aside = path.parent / f".{uuid.uuid4().hex}{TEMPORARY}"
    path.rename(aside)
    try:
        found = aside.stat()  # with another ctime: it was renamed
        if (found.st_ino, found.st_mtime_ns, found.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size):
            return True
        _name_if_absent(aside, path)
        return False
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _File(io.FileIO):
    """A file whose reads raise `StorageFailed`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path

    def readinto(self, buffer: "Buffer", /) -> int | None:
        with storage_errors("read", self._path):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with storage_errors("read", self._path):
            return super().readall()


@contextmanager
def _failures(what: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` into one that names the object, not the temporary file beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise told_by_system(error, what) from error


@contextmanager
def _absence(key: str, path: Path) -> Iterator[None]:
    """Raise `NotFound` for a path that leads to nothing, or to a folder."""
    try:
        yield
    except (*GONE, IsADirectoryError):
        _check_links(path)
        raise NotFound(key) from None


def _check_links(path: Path) -> None:
    """Raise `Misconfigured` where nothing is found only because a link on the way leads to nothing: a disk that is not
    mounted is no absence."""
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if _is_dangling(there):
        raise told_by_system(FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(there)), "follow")


def _is_dangling(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _no_key(key: str) -> str:
    """Why the path of a file is no key, for people; "" if it is one."""
    if not _is_text(key):
        return "its name is not UTF-8 text; rename it"
    try:
        check_key(key)
    except UsageError as error:
        return str(error)
    return ""


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Return whether a listed name is a folder; one that cannot be followed is an object that `stat` cannot tell."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_text(name: str) -> bool:
    """Return whether a name is UTF-8: nothing else is a key."""
    return name.encode("utf-8", "replace") == os.fsencode(name)


def _set_mode(path: Path, mode: int) -> None:
    """chmod(2); what another process has made, or a file system without modes, is left as it is."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in NO_MODES:
            raise


def _remove_if_older(path: Path, before: float) -> None:
    """Remove a file or folder if nothing in it has changed since `before`; a younger one may belong to a live run."""
    if _newest_change(path) >= before:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _newest_change(path: Path) -> float:
    """Return the latest modification time of an entry and all below it; of what vanishes meanwhile, infinity: then
    another process is at work there."""
    below = (Path(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files))
    try:
        return max(place.lstat().st_mtime for place in (path, *below))
    except OSError:
        return float("inf")


def _replace(source: Path, target: Path) -> None:
    """rename(2), which replaces; a lost reply of NFS is known by the inode."""
    _own_if(FileNotFoundError, lambda: os.replace(source, target), source, target)


def _name_if_absent(source: Path, target: Path) -> bool:
    """Give a file the name `target` too (or instead), unless that is taken. Return whether it was free."""
    try:
        try:
            return _own_if(FileExistsError, lambda: os.link(source, target), source, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        refusals = (FileExistsError, FileNotFoundError)
        return _own_if(refusals, lambda: _rename_if_absent(source, target), source, target)
    except FileExistsError:
        if target.is_dir() or _is_dangling(target):  # no object has the name, and none can get it
            raise
        return False


def _own_if(
    refusal: type[OSError] | tuple[type[OSError], ...], call: Callable[[], None], source: Path, target: Path
) -> bool:
    """Do a call that gives the file `source` the name `target`. True also if it is refused though it was done before:
    NFS sends a call again when its reply was lost, and the second one finds the first one's work."""
    mine = source.stat()
    try:
        call()
    except refusal:
        try:
            there = target.stat()
        except OSError:
            there = None
        if there is None or (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev):
            raise
    return True


def _rename_if_absent(source: Path, target: Path) -> None:
    """`renameat2(RENAME_NOREPLACE)`. Raises `Misconfigured` where the file system has neither this nor links."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code in {errno.EINVAL, errno.ENOSYS}:
        raise Misconfigured(
            f"the file system of {target.parent} can neither link files nor rename without replacing, "
            "so publishing once cannot be guaranteed there; choose another --store"
        )
    raise OSError(code, os.strerror(code), str(target))
