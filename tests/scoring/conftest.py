"""A store with a champion and, where a test asks for it, datasets."""

import numpy as np
import pytest
import torch

from digitrec.catalog.store import Store
from digitrec.options import ScoreOptions
from digitrec.scoring.partitions import plan_partitions
from digitrec.scoring.request import Request, Task
from digitrec.settings import Settings
from tests.scoring.making import Shape, make_dataset, make_images, make_model, settings_for

SHAPE = Shape(((300, 200), (400,), (50, 50)), gap=7)


@pytest.fixture(autouse=True, scope="session")
def few_threads() -> None:
    """Leave the machine's other cores to others."""
    torch.set_num_threads(1)


@pytest.fixture
def ready(store: Store) -> Store:
    """A store with a champion and one unlabelled dataset, `night`, of three shards and 1,000 rows."""
    make_model(store)
    make_dataset(store, "night", make_images(SHAPE.rows), SHAPE, keyed=True)
    return store


@pytest.fixture
def tasks(store: Store) -> list[Task]:
    """Twelve tasks of five rows."""
    model = make_model(store)
    dataset = make_dataset(store, "night", make_images(60), Shape(((5,) * 12,)))
    request = Request.of(store, dataset, model, ScoreOptions(), "fp32")
    return [Task(request, partition) for partition in plan_partitions(dataset, rows=5)]


@pytest.fixture
def settings(store: Store) -> Settings:
    return settings_for(store, threads=1)


@pytest.fixture
def images() -> np.ndarray:
    return make_images(500, seed=1)
