"""Workers stopped for want of memory: the run completes, and its report says so instead of blaming the disk."""

import time
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog.store import Store
from digitrec.errors import ComputationFailed
from digitrec.scoring import cluster, executors
from digitrec.scoring.compute import Outcome
from digitrec.scoring.cost import Cost, sum_up
from digitrec.scoring.request import Task
from tests.faults.computing import PARTITIONS, POISON, ROWS, quick, take
from tests.faults.conftest import Run
from tests.places import full

MIB = 2**20


def hungry(task: Task) -> Outcome:
    """Each partition in `doom` takes more than a worker may, once; for longer than Dask looks away."""
    if take(Path(full(task.request.store, f"doom/{task.partition.index}"))):
        waste()
    return quick(task)


def insatiable(task: Task) -> Outcome:
    """Partition 3 takes more than a worker may, always."""
    if task.partition.index == POISON:
        waste()
    return quick(task)


def waste() -> None:
    held = np.ones(700 * MIB, np.uint8)
    time.sleep(5)
    assert held.any()


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container of 1,050 MiB: two workers of 400."""
    for module in (cluster, executors):
        monkeypatch.setattr(module, "memory_bytes", lambda: 1050 * MIB)


def test_workers_that_were_restarted_for_want_of_memory_are_counted(ready: Store, run: Run) -> None:
    """All is published, and the advice is about memory alone."""
    doomed = Path(full(ready, "doom"))
    doomed.mkdir()
    for index in (2, 7):
        (doomed / str(index)).touch()
    report = run(hungry)
    assert report.datasets[0].rows == ROWS * PARTITIONS
    assert report.cost
    assert report.cost.memory_losses == 2
    (advice,) = report.cost.advice
    assert advice.startswith("workers were restarted 2 times for want of memory")
    assert f"  advice: {advice}" in report.lines()


def test_a_partition_that_never_fits_is_not_called_poisoned(ready: Store, run: Run) -> None:
    """It fails, and the reason is the memory, not the shard."""
    (failure,) = run(insatiable).failures
    assert isinstance(failure.error, ComputationFailed)
    assert "for want of memory" in str(failure.error)
    assert "look at" not in str(failure.error)


def test_idle_workers_are_not_blamed_on_the_store_where_memory_was_short() -> None:
    """Restarts cost time in which workers idle and wait."""
    cost = sum_up(Cost(10**6, 10, 1.0, 0.1, MIB), 10.0, 2, memory_losses=1)
    assert cost
    assert len(cost.advice) == 1
    assert "restarted once for want of memory" in cost.advice[0]
