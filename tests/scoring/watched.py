"""Stores in memory whose calls are watched, held or made to fail, and executors that tests see through."""

from collections.abc import Callable, Iterator
from typing import Any

from digitrec.catalog.store import Store
from digitrec.scoring.compute import score_partition
from digitrec.scoring.executors import Compute, Outcomes
from digitrec.scoring.request import Task
from digitrec.storage import Storage, register
from digitrec.storage.faulty import FaultyStorage, Verb
from digitrec.storage.memory import MemoryStorage


def in_memory() -> Store:
    """An empty store in this process's memory."""
    return Store.at(register(MemoryStorage()).url)


def watched(store: Store, **faults: Any) -> tuple[Store, FaultyStorage]:
    """The same store through another storage, which keeps a record of the calls, with faults as asked."""
    storage = FaultyStorage(store.storage, **faults)
    register(storage)
    return Store.at(storage.url), storage


def before_call(verb: Verb, end: str, do: Callable[[], object]) -> Callable[[Verb, str], float]:
    """A `delay_s` that does something before each call of a verb on a key with this end."""

    def delay_s(called: Verb, key: str) -> float:
        if called == verb and key.endswith(end):
            do()
        return 0

    return delay_s


class OneByOne:
    """An executor that computes each task when it is drawn, in the thread that draws it."""

    workers = 1

    def __init__(self, compute: Compute = score_partition) -> None:
        self._compute = compute

    def run(self, tasks: Iterator[Task]) -> Outcomes:
        for task in tasks:
            yield task, self._compute(task)

    def count_memory_losses(self) -> int:
        return 0


def objects(storage: Storage, prefix: str = "") -> dict[str, bytes]:
    """Everything below a prefix, by key."""
    found = {}
    for name in storage.list(prefix):
        key = f"{prefix}/{name}" if prefix else name
        found |= objects(storage, key[:-1]) if name.endswith("/") else {key: storage.read(key)}
    return found
