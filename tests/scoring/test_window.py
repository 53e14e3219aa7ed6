"""The window: how many partitions are out at a time, and what becomes of those that do not come back."""

import threading
from collections.abc import Iterator

import pytest
from digitrec.scoring.job import prepare
from digitrec.scoring.window import WINDOW_PER_SLOT, Suspicion, Task, Window

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.errors import ComputationFailed, Unavailable
from digitrec.options import ScoreOptions
from digitrec.scoring.cluster import Cluster, connect
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.plan import Partition, partitions
from digitrec.scoring.receipts import Work
from tests.scoring.making import Shape, make_dataset, make_images, make_model, settings_for


@pytest.fixture
def tasks(store: Store) -> list[Task]:
    """Twelve tasks of five rows."""
    model = make_model(store)
    dataset = make_dataset(store, "night", make_images(60), Shape(((5,) * 12,)))
    job = prepare(store, catalog.dataset(store, dataset.name), model, ScoreOptions(), "fp32")
    return [Task(job.work, partition) for partition in partitions(job.dataset, rows=5)]


@pytest.fixture
def cluster(store: Store) -> Iterator[Cluster]:
    with connect(settings_for(store), rows=1, partitions=1) as cluster:
        yield cluster


def test_every_task_has_one_outcome(cluster: Cluster, tasks: list[Task]) -> None:
    """Whatever the order, each task comes back once, with its own receipt."""
    outcomes = dict(Window(cluster, score_partition).outcomes(iter(tasks)))
    assert outcomes.keys() == set(tasks)
    assert all(outcome.receipt.index == task.partition.index for task, outcome in outcomes.items())


def test_no_more_is_out_than_the_window_holds(cluster: Cluster, tasks: list[Task]) -> None:
    """Tasks are drawn only when there is room: never a whole graph."""
    drawn = 0

    def counted() -> Iterator[Task]:
        nonlocal drawn
        for task in tasks:
            drawn += 1
            yield task

    for back, _ in enumerate(Window(cluster, score_partition).outcomes(counted())):
        assert drawn - back <= WINDOW_PER_SLOT * cluster.slots
    assert drawn == len(tasks)


def broken_at_three(task: Task) -> Outcome:
    if task.partition.index == 3:
        raise KeyError("no such thing")
    return score_partition(task)


def test_an_exception_is_an_outcome(cluster: Cluster, tasks: list[Task]) -> None:
    """A bug in one partition leaves the others alone."""
    window = Window(cluster, broken_at_three)
    outcomes = {task.partition.index: outcome for task, outcome in window.outcomes(iter(tasks))}
    assert isinstance(outcomes.pop(3), ComputationFailed)
    assert all(outcome.receipt.index == index for index, outcome in outcomes.items())


RELEASED = threading.Event()
"""Ends every call of `hangs`."""
ATTEMPTS: list[int] = []


def hangs(task: Task) -> Outcome:
    RELEASED.wait(30)
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

    class Releasing(Window):
        def give_up(self) -> list[tuple[Task, Suspicion]]:
            RELEASED.set()
            return super().give_up()

    outcomes = dict(Releasing(cluster, hangs_once, stall_s=2).outcomes(iter(tasks[:2])))
    assert not any(isinstance(outcome, ComputationFailed) for outcome in outcomes.values())
    assert len(ATTEMPTS) > len(outcomes) == 2


def test_what_hangs_alone_too_is_named(cluster: Cluster, tasks: list[Task]) -> None:
    """A second time without an outcome is a verdict: partition, dataset and shard are named."""
    ((task, outcome),) = Window(cluster, hangs, stall_s=0.3).outcomes(iter(tasks[:1]))
    RELEASED.set()
    shard = task.work.full(store, task.partition.shard.path)
    assert task is tasks[0]
    assert isinstance(outcome, ComputationFailed)
    assert f"{task} gave nothing back in 0.3 s, alone too; look at {shard}" in str(outcome)


def test_a_lost_scheduler_is_unavailable(cluster: Cluster, tasks: list[Task]) -> None:
    """Futures that Dask itself cancels mean that the cluster is gone."""
    window = Window(cluster, hangs)
    threading.Timer(0.3, lambda: cluster.client.cancel(list(window.out), force=True)).start()
    with pytest.raises(Unavailable, match="finished partitions are kept"):
        list(window.outcomes(iter(tasks)))
    RELEASED.set()
