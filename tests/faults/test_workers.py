"""Workers die, hang or poison themselves: nothing is lost, nothing doubled, and only the guilty are named."""

import pytest

from digitrec.catalog.store import Store
from digitrec.errors import ComputationFailed
from digitrec.options import ScoreOptions
from digitrec.verify import verify
from tests.faults.computing import FOLDER, PARTITIONS, POISON, doom, hungry, mortal, poisoned
from tests.faults.conftest import Run, parts
from tests.places import full
from tests.scoring.making import make_dataset, make_images


@pytest.mark.parametrize(
    ("kills", "seed"),
    [*((10, seed) for seed in range(5)), *(pytest.param(12, seed, marks=pytest.mark.soak) for seed in range(5, 90))],
)
def test_killed_workers_change_nothing(ready: Store, run: Run, undisturbed: list[str], kills: int, seed: int) -> None:
    """SIGKILL of workers, before or after they finish a partition: the same parts as the run left alone."""
    doom(ready.url, kills, PARTITIONS, seed)
    (scored,) = run(mortal).datasets
    assert parts(scored.folder) == undisturbed
    verify(ready)


def test_a_poisoned_partition_is_named_and_alone_is_blamed(ready: Store, run: Run, undisturbed: list[str]) -> None:
    """A partition that kills every worker keeps its dataset from being published, exit 70. Its neighbours' parts are
    kept, other datasets are published, and once the cause is gone only the poisoned one is left to do."""
    make_dataset(ready, "other", make_images(5))
    report = run(poisoned, ScoreOptions())
    (failure,) = report.failures
    assert isinstance(failure.error, ComputationFailed)
    assert str(failure.error).startswith(f"partition {POISON} (shard-00000")
    assert "killed every worker that took it, alone too" in str(failure.error)
    assert [scored.dataset for scored in report.datasets] == ["other"]
    kept = parts(full(ready, FOLDER))
    assert kept == [part for part in undisturbed if not part.startswith(f"part-0000{POISON}")]
    (scored,) = run(mortal, processes=False).datasets
    assert parts(scored.folder) == undisturbed


@pytest.mark.soak
def test_a_hung_partition_is_named(ready: Store, run: Run) -> None:
    """What gives nothing back is sent out once more, alone, and then named; its neighbours' parts are kept."""
    (failure,) = run(hungry, stall_s=3).failures
    assert f"partition {POISON} " in str(failure.error)
    assert "gave nothing back in 3 s, alone too" in str(failure.error)
    assert len(parts(full(ready, FOLDER))) == PARTITIONS - 1
