"""The room that a run still needs: of what is left to do, no more."""

from pathlib import Path

import pytest

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.errors import StorageFailed
from digitrec.options import ScoreOptions
from digitrec.scoring.compute import score_partition
from digitrec.scoring.executors import Execution
from digitrec.scoring.plan import DatasetPlan, plan_dataset
from digitrec.scoring.request import Request, Task
from digitrec.scoring.run import score_all
from digitrec.scoring.space import key_bytes
from digitrec.settings import Settings
from digitrec.storage.local import LocalStorage
from tests.places import full
from tests.scoring.making import Shape, make_dataset, make_images, make_model

ROWS = 20_000
SHAPE = Shape(((1000,) * 20,))


def plan_of(store: Store, **options: bool) -> DatasetPlan:
    dataset, model = catalog.dataset(store, "large"), catalog.model(store, "quick-00000001")
    return plan_dataset(dataset, Request.of(store, dataset, model, ScoreOptions(**options), "fp32"), 1000, sizes=True)


def taken(store: Store, folder: str) -> int:
    """Bytes of files below a folder, rounded up to blocks as disks do."""
    paths = Path(full(store, folder)).rglob("*")
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in paths if path.is_file())


@pytest.fixture(params=[False, True])
def large(request: pytest.FixtureRequest, store: Store) -> Store:
    """A dataset of 20 partitions, with or without row keys."""
    make_model(store)
    make_dataset(store, "large", make_images(ROWS), SHAPE, keyed=request.param)
    return store


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_estimate_is_enough_and_not_twice_as_much(large: Store, settings: Settings, probabilities: bool) -> None:
    """Parts, receipts, manifest, note and `submission.csv` of a whole run fit, keys and probabilities included."""
    plan = plan_of(large, probabilities=probabilities)
    options = ScoreOptions(dataset="large", probabilities=probabilities, precision="fp32")
    score_all(large, options, settings, Execution(partition_rows=1000))
    used = taken(large, plan.request.folder)
    assert used <= plan.needed_bytes <= 2 * used


def test_what_is_done_needs_no_room(large: Store) -> None:
    """With 19 of 20 receipts, a twentieth of the parts is needed, and `submission.csv`."""
    plan = plan_of(large)
    for partition in plan.partitions[:19]:
        score_partition(Task(plan.request, partition))
    rest = plan_of(large)
    keys = key_bytes(large, plan.dataset) if plan.request.keyed else 0
    submission = (keys or ROWS * 5) + ROWS * 3
    assert sum(partition.rows for partition in rest.left) == 1000
    assert rest.needed_bytes - submission == pytest.approx((plan.needed_bytes - submission) / 20, rel=0.01)


def test_a_dataset_that_does_not_fit_stops_no_other(
    large: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The large one is refused before the work, with what it needs; the small ones, before and after it, are scored."""
    make_dataset(large, "zzz", make_images(5))
    make_dataset(large, "aaa", make_images(5))
    monkeypatch.setattr(LocalStorage, "free_bytes", lambda _: 100_000)
    report = score_all(large, ScoreOptions(), settings, Execution())
    assert sorted(scored.dataset for scored in report.datasets) == ["aaa", "zzz"]
    with pytest.raises(StorageFailed, match=r"20,000 predictions need about .* 0\.1 MB are free; free some space"):
        report.raise_if_failed()


def test_keys_are_counted_by_their_size(store: Store) -> None:
    """As the shards' footers have it."""
    make_dataset(store, "keyed", make_images(300), Shape(((100, 200),)), keyed=True)
    assert key_bytes(store, catalog.dataset(store, "keyed")) >= sum(len(f"key {i}") for i in range(1, 301))
