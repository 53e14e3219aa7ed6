"""Who computes the tasks of a run: threads of this process, worker processes of this machine, or a cluster elsewhere.

All have one interface, `Executor`. Which one fits is decided by `place` from the size of the job; `start_executor`
starts it. Dask is imported only where it is used: half a second of every small job.
"""

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Literal, Protocol

from digitrec.errors import ComputationFailed
from digitrec.limits import memory_bytes
from digitrec.process import GRACE_S
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.request import Task
from digitrec.settings import Settings

LOG = logging.getLogger("digitrec.scoring")
IN_PROCESS_ROWS = 500_000
"""Up to here a job takes three seconds or less, and one more if worker processes are started for it. Beyond, what kills
a worker should not end the run."""
WORKER_BYTES, DRIVER_BYTES = 400 * 2**20, 250 * 2**20
"""What a worker process takes with torch, and the driver beside them: no more are started than there is memory for."""
STALL_S = 600.0
"""If nothing at all came back for so long, what is out hangs: a partition takes seconds."""
AHEAD_PER_THREAD = 2
STOP_S = GRACE_S / 2
"""So long a run that ends waits for what its threads have begun: an interrupted process has `GRACE_S` for it all."""

Compute = Callable[[Task], Outcome]
Outcomes = Generator[tuple[Task, Outcome], None, None]


class Executor(Protocol):
    """Computes tasks. `workers`: how many at a time, each on one core."""

    workers: int

    def run(self, tasks: Iterator[Task]) -> Outcomes:
        """Yield each task with its outcome, in the order in which they come; `tasks` is drawn from only as they go out.

        What a task raises is its outcome, a `ComputationFailed`. Raises `Unavailable` if all workers are lost.
        """

    def count_memory_losses(self) -> int:
        """Return how many workers were stopped for want of memory so far."""


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; none of it changes the predictions.

    `insecure`: allow tcp:// to another machine; `processes`: whether local workers are processes (None: by the size of
    the job); `compute`: what a worker does; `stall_s`: see `STALL_S`; `partition_rows`: see `plan_partitions`;
    `executor`: who computes, whatever the settings say.
    """

    insecure: bool = False
    processes: bool | None = None
    compute: Compute = score_partition
    stall_s: float = STALL_S
    partition_rows: int | None = None
    executor: Executor | None = None


@dataclass(frozen=True)
class Placement:
    """Where the tasks of a run are computed. `workers`: at a time (0: what the cluster has); `address`: of the
    scheduler, if it is not our own."""

    kind: Literal["threads", "processes", "cluster"]
    workers: int
    address: str = ""

    def __str__(self) -> str:
        if self.kind == "cluster":
            return f"the Dask cluster at {self.address}"
        one = self.workers == 1
        if self.kind == "threads":
            return f"{self.workers} thread{'' if one else 's'} of this process"
        return f"{self.workers} worker process{'' if one else 'es'} of a local Dask cluster"

    @property
    def memory_bytes(self) -> int:
        """What is expected to be taken of this machine's memory, at most."""
        return {
            "threads": WORKER_BYTES,
            "processes": DRIVER_BYTES + self.workers * WORKER_BYTES,
            "cluster": DRIVER_BYTES,
        }[self.kind]


def place(settings: Settings, execution: Execution, *, rows: int, partitions: int) -> Placement:
    """Return where a job of so many rows and partitions is computed."""
    if settings.dask:
        return Placement("cluster", 0, settings.dask)
    if workers := worker_processes(settings.threads, partitions, rows, execution.processes):
        return Placement("processes", workers)
    return Placement("threads", slots_for(settings.threads, partitions))


def worker_processes(cores: int, partitions: int, rows: int, wanted: bool | None) -> int:
    """Return how many worker processes to start: one a core, but no more than there are partitions, and memory.

    None for small jobs, unless they are `wanted`; nor where one does not fit beside the driver: threads need less.
    """
    if wanted is False or (wanted is None and rows <= IN_PROCESS_ROWS):
        return 0
    slots, fitting = slots_for(cores, partitions), max(0, memory_bytes() - DRIVER_BYTES) // WORKER_BYTES
    if fitting < slots:
        LOG.info(
            "memory for %d of %d worker processes: %s MB are allowed", fitting, slots, f"{memory_bytes() / 1e6:,.0f}"
        )
    return max(min(slots, fitting), 1 if wanted else 0)


def slots_for(cores: int, partitions: int) -> int:
    return max(1, min(cores, partitions))


@contextmanager
def start_executor(placement: Placement, settings: Settings, execution: Execution) -> Iterator[Executor]:
    """Start who computes, and stop them however the block ends. Raises `Unavailable`, `Misconfigured`."""
    if execution.executor:
        yield execution.executor
    elif placement.kind == "threads":
        yield ThreadExecutor(placement.workers, execution.compute, execution.stall_s)
    else:
        from digitrec.scoring.cluster import connect
        from digitrec.scoring.dispatcher import DaskExecutor

        with connect(settings, workers=placement.workers, insecure=execution.insecure) as cluster:
            yield DaskExecutor(cluster, execution.compute, execution.stall_s)


class RefusingExecutor:
    """Computes nothing: to be drawn a task is a bug. For plans, and to show that there was nothing to do."""

    workers = 1

    def run(self, tasks: Iterator[Task]) -> Outcomes:
        for task in tasks:
            raise AssertionError(f"{task} was to be computed")
        yield from ()

    def count_memory_losses(self) -> int:
        return 0


class ThreadExecutor:
    """Computes in threads of this process: nothing to start, and the network is loaded once.

    A thread cannot be ended: one that hangs is left behind, its task is named, and fresh threads do the rest.
    """

    def __init__(self, workers: int, compute: Compute = score_partition, stall_s: float = STALL_S) -> None:
        self.workers = workers
        self._compute = compute
        self._stall_s = stall_s

    def run(self, tasks: Iterator[Task]) -> Outcomes:
        threads = _Threads(self.workers, self._compute)
        try:
            while True:
                for task in islice(tasks, max(0, self.workers * AHEAD_PER_THREAD - len(threads.out))):
                    threads.submit(task)
                if not threads.out:
                    return
                try:
                    yield threads.next_outcome(self._stall_s)
                except Empty:
                    hung, waiting = threads.abandon()
                    threads = _Threads(self.workers, self._compute)
                    for task in waiting:
                        threads.submit(task)
                    for task in hung:
                        yield task, _hung(task, self._stall_s)
        finally:
            threads.stop()

    def count_memory_losses(self) -> int:
        return 0


class _Threads:
    """Some daemon threads, the tasks that are out, and those that have begun."""

    def __init__(self, workers: int, compute: Compute) -> None:
        self.out: dict[int, Task] = {}
        self._begun: set[int] = set()
        self._compute = compute
        self._numbers = iter(range(2**63))
        self._inbox: SimpleQueue[tuple[int, Task] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[int, Outcome]] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name="score", daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> None:
        number = next(self._numbers)
        self.out[number] = task
        self._inbox.put((number, task))

    def next_outcome(self, limit_s: float) -> tuple[Task, Outcome]:
        """Raises `Empty` if there is none in time."""
        number, outcome = self._answers.get(timeout=limit_s)
        return self.out.pop(number), outcome

    def abandon(self) -> tuple[list[Task], list[Task]]:
        """Return the tasks that have begun, and those that have not."""
        self._drain()
        hung = [task for number, task in self.out.items() if number in self._begun]
        waiting = [task for number, task in self.out.items() if number not in self._begun]
        self.out = {}
        return hung, waiting

    def stop(self) -> None:
        """Begin nothing more, and wait a little for what has begun: it leaves its receipts."""
        self._drain()
        end = monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, end - monotonic()))

    def _drain(self) -> None:
        """Take back what no thread has begun, and let the threads end."""
        try:
            while True:
                self._inbox.get_nowait()
        except Empty:
            for _ in self._threads:
                self._inbox.put(None)

    def _work(self) -> None:
        while entry := self._inbox.get():
            number, task = entry
            self._begun.add(number)
            try:
                outcome = self._compute(task)
            except BaseException as error:
                outcome = failed_by(error)
            self._answers.put((number, outcome))


def failed_by(error: BaseException) -> ComputationFailed:
    """Return what an exception of a task comes to: it is a bug."""
    return ComputationFailed(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _hung(task: Task, stall_s: float) -> ComputationFailed:
    return ComputationFailed(f"{task} gave nothing back in {stall_s:g} s; look at {task.shard_address}")
