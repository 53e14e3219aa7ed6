"""Who computes: one interface; where a job runs; threads of this process, and an executor that refuses."""

import threading
from collections.abc import Iterator

import pytest

from digitrec.catalog.store import Store
from digitrec.errors import ComputationFailed
from digitrec.scoring import executors
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.executors import (
    AHEAD_PER_THREAD,
    IN_PROCESS_ROWS,
    Execution,
    Placement,
    RefusingExecutor,
    ThreadExecutor,
    place,
)
from digitrec.scoring.receipts import Receipt
from digitrec.scoring.request import Task
from tests.scoring.making import settings_for

MIB = 2**20


def test_every_task_has_one_outcome(tasks: list[Task]) -> None:
    """Whatever the order, each task comes back once, with its own receipt."""
    outcomes = dict(ThreadExecutor(2).run(iter(tasks)))
    assert outcomes.keys() == set(tasks)
    assert all(isinstance(outcome, Receipt) for outcome in outcomes.values())
    assert all(outcome.index == task.partition.index for task, outcome in outcomes.items())


def test_tasks_are_drawn_as_they_go_out(tasks: list[Task]) -> None:
    """Never all at once: a billion rows are many tasks."""
    drawn = 0

    def counted() -> Iterator[Task]:
        nonlocal drawn
        for task in tasks:
            drawn += 1
            yield task

    for back, _ in enumerate(ThreadExecutor(2).run(counted())):
        assert drawn - back <= AHEAD_PER_THREAD * 2
    assert drawn == len(tasks)


def test_as_many_threads_compute_at_once_as_there_are_workers(tasks: list[Task]) -> None:
    """Two tasks that wait for one another both end; with one thread, they never would."""
    meeting = threading.Barrier(2, timeout=30)

    def meet(task: Task) -> Outcome:
        meeting.wait()
        return score_partition(task)

    outcomes = dict(ThreadExecutor(2, meet).run(iter(tasks)))
    assert all(isinstance(outcome, Receipt) for outcome in outcomes.values())


def test_an_exception_is_an_outcome(tasks: list[Task]) -> None:
    """A bug in one partition leaves the others alone; even one that would end a thread."""

    def broken(task: Task) -> Outcome:
        if task.partition.index == 3:
            raise SystemExit("no such thing")
        return score_partition(task)

    outcomes = {task.partition.index: outcome for task, outcome in ThreadExecutor(2, broken).run(iter(tasks))}
    found = outcomes.pop(3)
    assert isinstance(found, ComputationFailed)
    assert str(found) == "SystemExit: no such thing"
    assert all(isinstance(outcome, Receipt) for outcome in outcomes.values())


def test_what_hangs_is_named_and_the_rest_is_done(tasks: list[Task]) -> None:
    """A thread cannot be ended: its task is told with the shard that it read, and fresh threads compute the others."""
    released = threading.Event()

    def hangs(task: Task) -> Outcome:
        if task.partition.index == 1:
            released.wait(30)
        return score_partition(task)

    outcomes = {task.partition.index: outcome for task, outcome in ThreadExecutor(1, hangs, 2).run(iter(tasks))}
    released.set()
    found = outcomes.pop(1)
    assert isinstance(found, ComputationFailed)
    assert f"{tasks[1]} gave nothing back in 2 s; look at {tasks[1].shard_address}" in str(found)
    assert sorted(outcomes) == [0, *range(2, 12)]
    assert all(isinstance(outcome, Receipt) for outcome in outcomes.values())


def test_a_run_that_is_left_begins_nothing_more(tasks: list[Task]) -> None:
    """As Ctrl-C does it: what has begun ends, what waits is dropped."""
    begun: list[int] = []

    def noted(task: Task) -> Outcome:
        begun.append(task.partition.index)
        return score_partition(task)

    outcomes = ThreadExecutor(1, noted).run(iter(tasks))
    next(outcomes)
    outcomes.close()
    now = len(begun)
    assert now <= 1 + AHEAD_PER_THREAD
    assert not [thread for thread in threading.enumerate() if thread.name == "score"]
    assert len(begun) == now


def test_the_refusing_executor_computes_nothing(tasks: list[Task]) -> None:
    """It takes no task, and is content with none."""
    assert list(RefusingExecutor().run(iter([]))) == []
    with pytest.raises(AssertionError, match="partition 0"):
        list(RefusingExecutor().run(iter(tasks)))


def test_small_jobs_are_computed_in_threads_of_this_process(store: Store) -> None:
    """As many as there are cores, but no more than partitions: processes would take a second to start."""
    for partitions, workers in ((5, 2), (1, 1), (0, 1)):
        placement = place(settings_for(store), Execution(), rows=IN_PROCESS_ROWS, partitions=partitions)
        assert placement == Placement("threads", workers)


def test_large_jobs_get_processes_and_an_address_wins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kills a worker should not end a long run; a cluster that is named is used for the smallest job."""
    monkeypatch.setattr(executors, "memory_bytes", lambda: 64_000 * MIB)
    large = {"rows": IN_PROCESS_ROWS + 1, "partitions": 100}
    assert place(settings_for(store), Execution(), **large) == Placement("processes", 2)
    assert place(settings_for(store), Execution(processes=False), **large) == Placement("threads", 2)
    named = settings_for(store, dask="tcp://127.0.0.1:1")
    assert place(named, Execution(), rows=1, partitions=1) == Placement("cluster", 0, "tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("memory_mib", "wanted", "workers"),
    [(64_000, None, 8), (1050, None, 2), (1449, None, 2), (420, None, 0), (420, True, 1), (64_000, False, 0)],
)
def test_no_more_workers_than_there_is_memory_for(
    memory_mib: int, wanted: bool | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 MiB each beside the driver; where not even one fits, threads of the driver compute."""
    monkeypatch.setattr(executors, "memory_bytes", lambda: memory_mib * MIB)
    assert executors.worker_processes(8, 100, 10**6, wanted) == workers
