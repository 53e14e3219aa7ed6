"""The executor on Dask: how many partitions are out at a time, and what becomes of those that do not come back."""

import threading
import time
from collections.abc import Iterator

import pytest
from distributed import LocalCluster

from digitrec.catalog.store import Store
from digitrec.errors import ComputationFailed, Unavailable
from digitrec.scoring.cluster import Cluster, connect
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.dispatcher import WINDOW_PER_SLOT, DaskExecutor, Suspicion
from digitrec.scoring.request import Task
from tests.scoring.making import settings_for


@pytest.fixture
def cluster(store: Store) -> Iterator[Cluster]:
    """Somebody's cluster, with a worker of two threads in this process, so that tests may look over its shoulder."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
        ) as local,
        connect(settings_for(store, dask=local.scheduler_address)) as cluster,
    ):
        yield cluster


def test_every_task_has_one_outcome(cluster: Cluster, tasks: list[Task]) -> None:
    """Whatever the order, each task comes back once, with its own receipt."""
    outcomes = dict(DaskExecutor(cluster, score_partition).run(iter(tasks)))
    assert outcomes.keys() == set(tasks)
    assert all(outcome.index == task.partition.index for task, outcome in outcomes.items())


def test_no_more_is_out_than_the_window_holds(cluster: Cluster, tasks: list[Task]) -> None:
    """Tasks are drawn only when there is room: never a whole graph."""
    drawn = 0

    def counted() -> Iterator[Task]:
        nonlocal drawn
        for task in tasks:
            drawn += 1
            yield task

    for back, _ in enumerate(DaskExecutor(cluster, score_partition).run(counted())):
        assert drawn - back <= WINDOW_PER_SLOT * cluster.slots
    assert drawn == len(tasks)


def broken_at_three(task: Task) -> Outcome:
    if task.partition.index == 3:
        raise KeyError("no such thing")
    return score_partition(task)


def test_an_exception_is_an_outcome(cluster: Cluster, tasks: list[Task]) -> None:
    """A bug in one partition leaves the others alone."""
    executor = DaskExecutor(cluster, broken_at_three)
    outcomes = {task.partition.index: outcome for task, outcome in executor.run(iter(tasks))}
    assert isinstance(outcomes.pop(3), ComputationFailed)
    assert all(outcome.index == index for index, outcome in outcomes.items())


RELEASED = threading.Event()
"""Ends every call of `hangs`."""
ATTEMPTS: list[int] = []


def hangs(task: Task) -> Outcome:
    RELEASED.wait(30)
    return score_partition(task)


def takes_a_moment(task: Task) -> Outcome:
    time.sleep(0.3)
    return score_partition(task)


def hangs_once(task: Task) -> Outcome:
    ATTEMPTS.append(task.partition.index)
    return hangs(task) if len(ATTEMPTS) == 1 else score_partition(task)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    RELEASED.clear()
    ATTEMPTS.clear()
    yield
    RELEASED.set()


def test_what_hangs_once_is_sent_again(cluster: Cluster, tasks: list[Task]) -> None:
    """After a time without any outcome, what is out is taken back and runs again, alone."""

    class Releasing(DaskExecutor):
        def give_up(self) -> list[tuple[Task, Suspicion]]:
            RELEASED.set()
            return super().give_up()

    outcomes = dict(Releasing(cluster, hangs_once, stall_s=2).run(iter(tasks[:2])))
    assert not any(isinstance(outcome, ComputationFailed) for outcome in outcomes.values())
    assert len(ATTEMPTS) > len(outcomes) == 2


def test_tasks_that_are_long_in_coming_are_no_stall(cluster: Cluster, tasks: list[Task]) -> None:
    """A run that resumes looks at thousands of receipts before it has a task: that is held against no worker."""

    def slowly() -> Iterator[Task]:
        time.sleep(1.5)
        yield from tasks[:2]

    class Patient(DaskExecutor):
        def give_up(self) -> list[tuple[Task, Suspicion]]:
            raise AssertionError("nothing hangs")

    outcomes = dict(Patient(cluster, takes_a_moment, stall_s=1.0).run(slowly()))
    assert sorted(outcome.index for outcome in outcomes.values()) == [0, 1]


def test_what_hangs_alone_too_is_named(cluster: Cluster, tasks: list[Task]) -> None:
    """A second time without an outcome is a verdict: partition, dataset and shard are named."""
    ((task, outcome),) = DaskExecutor(cluster, hangs, stall_s=0.3).run(iter(tasks[:1]))
    RELEASED.set()
    assert task is tasks[0]
    assert isinstance(outcome, ComputationFailed)
    assert f"{task} gave nothing back in 0.3 s, alone too; look at {task.shard_address}" in str(outcome)


def test_a_lost_scheduler_is_unavailable(cluster: Cluster, tasks: list[Task]) -> None:
    """Futures that Dask itself cancels mean that the cluster is gone."""
    executor = DaskExecutor(cluster, hangs)
    threading.Timer(0.3, lambda: cluster.client.cancel(list(executor.out), force=True)).start()
    with pytest.raises(Unavailable, match="finished partitions are kept"):
        list(executor.run(iter(tasks)))
    RELEASED.set()
