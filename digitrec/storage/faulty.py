"""A storage that fails on purpose, the same way each time, for the tests of what is built on storage.

Which calls fail is said by functions of the verb and the key (`When`): a lambda, `once(…)`, or `at_rate(…)` of a seed.
`FaultyStorage(inner, lose_reply_of=lambda verb, key: verb == "put_if_absent")` has every publication sent twice.
Without any of them it behaves as the storage inside, and keeps a record of the calls.
"""

import hashlib
import io
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from digitrec.errors import StorageFailed
from digitrec.storage.base import Found, Scratch, Stat, Storage

Verb = Literal[
    "read",
    "open",
    "open_plain",
    "walk",
    "put_if_absent",
    "put",
    "upload",
    "copy",
    "touch",
    "stat",
    "list",
    "delete",
    "scratch",
    "sweep_unfinished",
]
When = Callable[[Verb, str], bool]
"""Whether a fault befalls a call; asked once for each call, possibly by several threads."""

Names = list[str]
Reply = TypeVar("Reply")


def never(verb: Verb, key: str) -> bool:
    """Return False."""
    return False


def at_rate(rate: float, seed: int) -> When:
    """Return a `When` that is True for this share of the calls.

    It depends on the seed, the verb, the key and how often both came before: not on the order in which threads run.
    """
    seen: Counter[tuple[Verb, str]] = Counter()
    lock = threading.Lock()

    def happens(verb: Verb, key: str) -> bool:
        with lock:
            seen[verb, key] += 1
            call = f"{seed} {seen[verb, key]} {verb} {key}"
        drawn = int.from_bytes(hashlib.sha256(call.encode("utf-8", "surrogatepass")).digest()[:8])
        return drawn < rate * 2**64

    return happens


def once_each(when: When) -> When:
    """Return a choice of the first call for each key among those of `when`: what is asked again does not fail again."""
    seen: set[str] = set()

    def is_first(verb: Verb, key: str) -> bool:
        if key in seen or not when(verb, key):
            return False
        seen.add(key)
        return True

    return is_first


def once(when: When, times: int = 1) -> When:
    """Return a `When` that is True for the first call that `when` is True for, or the first few."""
    left = [times]
    lock = threading.Lock()

    def happens(verb: Verb, key: str) -> bool:
        with lock:
            if left[0] and when(verb, key):
                left[0] -= 1
                return True
            return False

    return happens


class FaultyStorage(Storage):
    """The storage `inner`, with faults.

    - `fail_before`: `StorageFailed`, and nothing has been done; an upload that broke off shows nothing either.
    - `lose_reply_of`: the call is done, its reply is lost, and it is sent again, as clients do: the second reply is
      returned. So `put_if_absent` returns False for the caller's own object.
    - `fail_after`: `StorageFailed`, though the call has been done.
    - `delay_s`: how long a call waits before it is done, in seconds.
    - `list_lag`: after a change made through this object, so many listings of each folder above the key still show
      what was there before the change: new objects are missing, deleted ones are still named. `read` and `stat` know.

    `calls` holds the verb and the key of every call, in the order in which they began: the target for `copy`, "" for
    `scratch`, and `exists` is a `stat`. `local_path`, `free_bytes` and `address` are no calls.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        fail_before: When = never,
        lose_reply_of: When = never,
        fail_after: When = never,
        delay_s: Callable[[Verb, str], float] = lambda verb, key: 0,
        list_lag: int = 0,
    ) -> None:
        self.inner = inner
        self.url = f"faulty-{uuid.uuid4().hex[:8]}://{inner.url.removeprefix('/')}"
        self.calls: list[tuple[Verb, str]] = []
        self._fail_before, self._lose_reply_of, self._fail_after = fail_before, lose_reply_of, fail_after
        self._delay_s, self._list_lag = delay_s, list_lag
        self._stale: dict[str, tuple[Names, int]] = {}
        self._lock = threading.Lock()

    def read(self, key: str) -> bytes:
        return self._call("read", key, lambda: self.inner.read(key))

    def open(self, key: str) -> io.BufferedIOBase:
        return self._call("open", key, lambda: self.inner.open(key), lambda: self.inner.open(key).close())

    def open_plain(self, key: str) -> tuple[io.BufferedIOBase | io.RawIOBase, Stat]:
        return self._call("open_plain", key, lambda: self.inner.open_plain(key))

    def walk(self, prefix: str, enter: Callable[[str], bool]) -> "list[Found]":
        return self._call("walk", prefix, lambda: self.inner.walk(prefix, enter))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._listed_later(key):
            return self._call("put_if_absent", key, lambda: self.inner.put_if_absent(key, data))

    def put(self, key: str, data: bytes) -> None:
        with self._listed_later(key):
            self._call("put", key, lambda: self.inner.put(key, data))

    def upload(self, file: Path, key: str) -> None:
        def send_copy() -> None:
            copy = file.with_name(f"{file.name}-{uuid.uuid4().hex}")
            shutil.copyfile(file, copy)
            self.inner.upload(copy, key)
            copy.unlink(missing_ok=True)

        with self._listed_later(key):
            self._call("upload", key, lambda: self.inner.upload(file, key), send_copy)

    def copy(self, source: str, target: str) -> None:
        with self._listed_later(target):
            self._call("copy", target, lambda: self.inner.copy(source, target))

    def touch(self, key: str) -> None:
        self._call("touch", key, lambda: self.inner.touch(key))

    def stat(self, key: str) -> Stat | None:
        return self._call("stat", key, lambda: self.inner.stat(key))

    def list(self, prefix: str) -> Names:
        return self._call("list", prefix, lambda: self._list(prefix))

    def delete(self, key: str, *, state: str | None = None) -> bool:
        with self._listed_later(key):
            return self._call("delete", key, lambda: self.inner.delete(key, state=state))

    def scratch(self) -> AbstractContextManager[Scratch]:
        return self._call("scratch", "", self.inner.scratch)

    def sweep_unfinished(self, prefix: str, older_than_s: float) -> None:
        self._call("sweep_unfinished", prefix, lambda: self.inner.sweep_unfinished(prefix, older_than_s))

    def local_path(self, key: str) -> Path | None:
        return self.inner.local_path(key)

    def free_bytes(self) -> int | None:
        return self.inner.free_bytes()

    def _call(
        self, verb: Verb, key: str, do: Callable[[], Reply], do_unheard: Callable[[], object] | None = None
    ) -> Reply:
        """Do a call with its faults; `do_unheard` does the same where nobody gets the reply, or will do it again."""
        with self._lock:
            self.calls.append((verb, key))
        time.sleep(self._delay_s(verb, key))
        if self._fail_before(verb, key):
            raise StorageFailed(f"cannot {verb} {self.address(key)}: it failed on purpose, before it was done")
        if self._lose_reply_of(verb, key):
            (do_unheard or do)()
        if self._fail_after(verb, key):
            (do_unheard or do)()
            raise StorageFailed(f"cannot {verb} {self.address(key)}: it failed on purpose, after it was done")
        return do()

    @contextmanager
    def _listed_later(self, key: str) -> Iterator[None]:
        """Keep the listings from before a change, for as many listings as lag."""
        before = self._listings_above(key) if self._list_lag else {}
        try:
            yield
        finally:
            with self._lock:
                for prefix, names in before.items():
                    self._stale.setdefault(prefix, (names, self._list_lag))

    def _listings_above(self, key: str) -> dict[str, Names]:
        parts = key.split("/")[:-1]
        return {prefix: self.inner.list(prefix) for prefix in ("/".join(parts[:n]) for n in range(len(parts) + 1))}

    def _list(self, prefix: str) -> Names:
        with self._lock:
            if prefix in self._stale:
                names, left = self._stale.pop(prefix)
                if left > 1:
                    self._stale[prefix] = (names, left - 1)
                return names.copy()
        return self.inner.list(prefix)
