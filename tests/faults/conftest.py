"""A store with work for a dozen partitions, and what an undisturbed run makes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from digitrec.options import ScoreOptions
from digitrec.scoring.executors import Compute, Execution
from digitrec.scoring.run import ScoreReport, score_all
from tests.faults.computing import NIGHT, PARTITIONS, ROWS, quick
from tests.scoring.making import Shape, make_dataset, make_images, make_model, settings_for

Run = Callable[..., ScoreReport]


def fill(store: Store) -> Store:
    """A champion, and a dataset of 12 partitions of 20 rows."""
    make_model(store)
    make_dataset(store, "night", make_images(ROWS * PARTITIONS), Shape(((ROWS,) * 5, (ROWS,) * 7)))
    return store


@pytest.fixture
def ready(store: Store) -> Store:
    return fill(store)


@pytest.fixture
def run(ready: Store) -> Run:
    """Score with worker processes; options and `Execution` as given."""

    def score_with(
        compute: Compute, options: ScoreOptions = NIGHT, *, processes: bool = True, stall_s: float = 600
    ) -> ScoreReport:
        execution = Execution(processes=processes, compute=compute, stall_s=stall_s, partition_rows=ROWS)
        return score_all(ready, options, settings_for(ready), execution)

    return score_with


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the parts, digests included, of a run in which nothing happens."""
    store = fill(Store.at(tmp_path_factory.mktemp("undisturbed")))
    execution = Execution(processes=False, compute=quick, partition_rows=ROWS)
    (scored,) = score_all(store, NIGHT, settings_for(store), execution).datasets
    return parts(scored.folder)


def parts(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).glob("part-*"))
