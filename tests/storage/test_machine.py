"""Thousands of calls in any order, compared with a dict: what a storage holds is what the calls have put there.

Where a call has failed, the model admits both outcomes, and looks which it was.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from digitrec.errors import StorageFailed
from digitrec.storage import NotFound, Storage, at, register
from digitrec.storage.faulty import FaultyStorage, at_rate
from digitrec.storage.local import LocalStorage
from digitrec.storage.memory import MemoryStorage

KEYS = ["x", ".hidden", "a/x", "a/y.json", "a/deep/x", "a/deep/er/x", "ab/x", "with space/*"]
PREFIXES = ["", "a", "a/deep", "a/deep/er", "ab", "with space", "nowhere", "a/x", "*"]


a_key = st.sampled_from(KEYS)
some_bytes = st.one_of(st.binary(max_size=3), st.integers(0, 255).map(lambda number: bytes([number]) * 100_000))

Content = bytes | None
Names = list[str]


class StorageMachine(RuleBasedStateMachine):
    """A storage, and for each key every content it may have (None: absent); one, unless a call has failed."""

    def __init__(self, make: Callable[[int], Storage], *, faulty: bool) -> None:
        super().__init__()
        self.make, self.faulty = make, faulty
        self.possible: defaultdict[str, set[Content]] = defaultdict(lambda: {None})
        self.states: dict[tuple[str, str], Content] = {}
        self.folders: set[str] = set()

    @initialize(seed=st.integers(0, 1_000_000))
    def begin(self, seed: int) -> None:
        self.storage = self.make(seed)

    def _wrote(self, key: str, contents: set[Content]) -> None:
        assert contents, f"{key}: no content explains what was said"
        self.possible[key] = contents
        parts = key.split("/")
        self.folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}

    def _saw(self, key: str, content: Content) -> None:
        assert content in self.possible[key]
        self.possible[key] = {content}

    def _matches(self, key: str, fits: Callable[[bytes], bool]) -> None:
        self._wrote(key, {data for data in self.possible[key] if data is not None and fits(data)})

    @rule(key=a_key, data=some_bytes)
    def put_if_absent(self, key: str, data: bytes) -> None:
        before = self.possible[key]
        created: set[Content] = {data} if None in before else set()
        try:
            if self.storage.put_if_absent(key, data):
                self._wrote(key, created)
            else:
                self._wrote(key, before - {None} | (created if self.faulty else set()))
        except StorageFailed:
            self._wrote(key, before | created)

    @rule(key=a_key, data=some_bytes)
    def put(self, key: str, data: bytes) -> None:
        try:
            self.storage.put(key, data)
            self._wrote(key, {data})
        except StorageFailed:
            self._wrote(key, self.possible[key] | {data})

    @rule(key=a_key, data=some_bytes)
    def upload(self, key: str, data: bytes) -> None:
        try:
            with self.storage.scratch() as scratch:
                self.storage.upload(scratch.write("file", data).path, key)
            self._wrote(key, {data})
        except StorageFailed:
            self._wrote(key, self.possible[key] | {data})

    @rule(source=a_key, key=a_key)
    def copy(self, source: str, key: str) -> None:
        copied = self.possible[source] - {None}
        try:
            self.storage.copy(source, key)
            self._wrote(key, copied)
        except NotFound:
            self._saw(source, None)
        except StorageFailed:
            self._wrote(key, self.possible[key] | copied)

    @rule(key=a_key)
    def touch(self, key: str) -> None:
        with suppress(StorageFailed):
            try:
                self.storage.touch(key)
                self._wrote(key, self.possible[key] - {None})
            except NotFound:
                self._saw(key, None)

    @rule(key=a_key)
    def delete(self, key: str) -> None:
        try:
            self.storage.delete(key)
            self._wrote(key, {None})
        except StorageFailed:
            self._wrote(key, self.possible[key] | {None})

    @rule(key=a_key)
    def read(self, key: str) -> None:
        with suppress(StorageFailed):
            try:
                self._saw(key, self.storage.read(key))
            except NotFound:
                self._saw(key, None)

    @rule(key=a_key, start=st.integers(0, 100_000), size=st.integers(0, 100_000))
    def read_piece(self, key: str, start: int, size: int) -> None:
        with suppress(StorageFailed):
            try:
                with self.storage.open(key) as file:
                    file.seek(start)
                    piece = file.read(size)
                self._matches(key, lambda data: data[start:][:size] == piece)
            except NotFound:
                self._saw(key, None)

    @rule(key=a_key)
    def stat(self, key: str) -> None:
        with suppress(StorageFailed):
            found = self.storage.stat(key)
            if found is None:
                self._saw(key, None)
            else:
                self._matches(key, lambda data: len(data) == found.size)

    @rule(prefix=st.sampled_from(PREFIXES))
    def list(self, prefix: str) -> None:
        with suppress(StorageFailed):
            self._check_listing(prefix, self.storage.list(prefix))

    def _check_listing(self, prefix: str, names: Names) -> None:
        """Every object that must be there is listed; beyond these, only what may be there, and folders that were."""
        assert names == sorted(set(names))
        start = f"{prefix}/" if prefix else ""
        below = [folder.removeprefix(start) for folder in self.folders if folder.startswith(start)]
        certain, possible = set(), {f"{name}/" for name in below if "/" not in name}
        for key, contents in self.possible.items():
            if key.startswith(start):
                first, slash, _ = key.removeprefix(start).partition("/")
                if None not in contents:
                    certain.add(first + slash)
                if contents != {None} and not slash:
                    possible.add(first)
        assert certain <= set(names) <= possible | certain

    @rule(prefix=st.sampled_from(PREFIXES))
    def sweep_unfinished(self, prefix: str) -> None:
        with suppress(StorageFailed):
            self.storage.sweep_unfinished(prefix, 0)

    @precondition(lambda self: not self.faulty)
    @rule()
    def open_again(self) -> None:
        """Another process goes on."""
        self.storage = at(self.storage.url)

    @invariant()
    def all_is_as_expected(self) -> None:
        """Whatever a call has said or not: each object, its state and every listing, asked of what cannot fail."""
        storage = self.storage.inner if isinstance(self.storage, FaultyStorage) else self.storage
        for key in KEYS:
            assert self.faulty or len(self.possible[key]) == 1
            found = storage.stat(key)
            content = storage.read(key) if found else None
            self._saw(key, content)
            if found:
                assert found.size == len(content or b"")
                assert self.states.setdefault((key, found.state), content) == content, "another content's state"
        for prefix in PREFIXES:
            self._check_listing(prefix, storage.list(prefix))


def make_local(seed: int) -> Storage:
    return LocalStorage(tempfile.mkdtemp(dir=Path.cwd()))


def make_memory(seed: int) -> Storage:
    return register(MemoryStorage())


def make_faulty(seed: int) -> Storage:
    """A folder of which one call in eight fails or has its reply lost."""
    return FaultyStorage(
        LocalStorage(tempfile.mkdtemp(dir=Path.cwd())),
        fail_before=at_rate(0.05, seed),
        lose_reply_of=at_rate(0.05, seed + 1),
        fail_after=at_rate(0.05, seed + 2),
    )


@pytest.mark.parametrize(
    ("examples", "steps"), [(10, 50), pytest.param(200, 50, marks=pytest.mark.soak)], ids=["500", "10,000"]
)
@pytest.mark.parametrize("make", [make_local, make_memory, make_faulty])
def test_any_calls_in_any_order(make: Callable[[int], Storage], examples: int, steps: int) -> None:
    """Each reply, and what is there in the end, is explained by the calls before."""
    run_state_machine_as_test(
        lambda: StorageMachine(make, faulty=make is make_faulty),
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )
