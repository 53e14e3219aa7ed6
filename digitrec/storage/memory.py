"""Storage in this process's memory: for tests, and as the plainest statement of the contract."""

import io
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

from digitrec.errors import storage_errors
from digitrec.storage.base import Found, NotFound, Scratch, Stat, Storage, check_key, check_prefix, scratch_folder


class MemoryStorage(Storage):
    """Objects in a dict. Register it (`storage.register`) for stores that are opened by its `url`."""

    def __init__(self, name: str | None = None) -> None:
        self.url = f"memory://{name or uuid.uuid4().hex}"
        self._objects: dict[str, tuple[bytes, Stat]] = {}
        self._below: defaultdict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()
        self._states = count(1)

    def read(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)][0]
        except KeyError:
            raise NotFound(key) from None

    def open(self, key: str) -> io.BufferedIOBase:
        return io.BytesIO(self.read(key))

    def open_plain(self, key: str) -> tuple[io.BufferedIOBase, Stat]:
        with self._lock:
            if found := self._objects.get(check_key(key)):
                return io.BytesIO(found[0]), found[1]
        raise NotFound(key)

    def walk(self, prefix: str, enter: Callable[[str], bool]) -> list[Found]:
        start = f"{prefix}/" if check_prefix(prefix) else ""
        with self._lock:
            below = {key: self._objects[key][1] for key in self._keys_below(start)}
        found = {}
        for key, stat in below.items():
            *folders, _ = parts = key.removeprefix(start).split("/")
            closed = next((n for n, name in enumerate(folders, 1) if not enter(name)), 0)
            shown = start + "/".join(parts[:closed]) + "/" if closed else key
            found[shown] = Found(shown, None if closed else stat)
        return list(found.values())

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            if check_key(key) in self._objects:
                return False
            self._set(key, data)
            return True

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._set(key, data)

    def upload(self, file: Path, key: str) -> None:
        with storage_errors("read", file):
            data = file.read_bytes()
        self.put(key, data)

    def copy(self, source: str, target: str) -> None:
        self.put(target, self.read(source))

    def touch(self, key: str) -> None:
        with self._lock:
            self._set(key, self.read(key))

    def stat(self, key: str) -> Stat | None:
        found = self._objects.get(check_key(key))
        return found[1] if found else None

    def list(self, prefix: str) -> list[str]:
        start = f"{prefix}/" if check_prefix(prefix) else ""
        with self._lock:
            return sorted(self._below.get(start, ()))

    def delete(self, key: str, *, state: str | None = None) -> bool:
        with self._lock:
            found = self._objects.get(check_key(key))
            if found is None or state not in {None, found[1].state}:
                return False
            del self._objects[key]
            for start, name in _steps(key):
                self._below[start].discard(name)
                if self._below[start]:
                    break
                del self._below[start]
            return True

    def scratch(self) -> AbstractContextManager[Scratch]:
        return scratch_folder(Path(tempfile.gettempdir(), f"digitrec-{uuid.uuid4().hex}"))

    def sweep_unfinished(self, prefix: str, older_than_s: float) -> None:
        """Do nothing: nothing is ever half-written here."""
        check_prefix(prefix)

    def _set(self, key: str, data: bytes) -> None:
        self._objects[check_key(key)] = (bytes(data), Stat(len(data), time.time(), str(next(self._states))))
        for start, name in _steps(key):
            self._below[start].add(name)

    def _keys_below(self, start: str) -> Iterator[str]:
        for name in self._below.get(start, ()):
            if name.endswith("/"):
                yield from self._keys_below(start + name)
            else:
                yield start + name


def _steps(key: str) -> Iterator[tuple[str, str]]:
    """Yield the folders above a key, the innermost first, as `a/b/`, and what is listed there for it."""
    end = len(key)
    while end > 0:
        begin = key.rfind("/", 0, end - 1) + 1
        yield key[:begin], key[begin:end]
        end = begin
