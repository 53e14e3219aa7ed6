"""Datasets and networks for the tests of scoring: small, and published with the store's own API."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from digitrec.catalog.champion import promote
from digitrec.catalog.layout import dataset_folder, model_folder
from digitrec.catalog.manifest import File, Manifest, RowGroup, canonical
from digitrec.catalog.pending import put_note
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS, ids_digest, shard_schema
from digitrec.engines import CASCADE_FILE, INT8_FILE
from digitrec.engines.quantise import quantise
from digitrec.network import Architecture, Perceptron, save_network
from digitrec.settings import Settings


def make_images(rows: int, seed: int = 0) -> np.ndarray:
    """uint8 [rows, 784]: a few strokes of grey on black, like ink."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (rows, PIXELS), dtype=np.uint8)
    images[generator.random((rows, PIXELS)) < 0.8] = 0
    return images


@dataclass(frozen=True)
class Shape:
    """How a dataset is cut: rows of each row group of each shard; every `gap`-th id was a reject."""

    shards: tuple[tuple[int, ...], ...]
    gap: int = 0

    @property
    def rows(self) -> int:
        return sum(sum(groups) for groups in self.shards)

    def ids(self) -> np.ndarray:
        if not self.gap:
            return np.arange(1, self.rows + 1, dtype=np.int64)
        candidates = np.arange(1, 2 * self.rows + 2, dtype=np.int64)
        return candidates[candidates % self.gap != 0][: self.rows]


def make_dataset(
    store: Store,
    name: str,
    images: np.ndarray,
    shape: Shape | None = None,
    *,
    labels: np.ndarray | None = None,
    keyed: bool = False,
) -> Manifest:
    """Publish a dataset of these images."""
    shape = shape or Shape(((len(images),),) if len(images) else ())
    schema = shard_schema(labelled=labels is not None, keyed=keyed)
    ids = shape.ids()
    columns = {"image_id": ids, "key": np.array([f"key {i}" for i in ids]), "label": labels}
    files, start = [], 0
    for index, groups in enumerate(shape.shards):
        file = make_shard(store, dataset_folder(name), index, groups, start, columns, images, schema)
        files.append(file)
        start += file.rows
    manifest = Manifest(
        "dataset",
        name,
        {"name": name, "images": digest(images)},
        tuple(files),
        facts={"labelled": labels is not None, "keyed": keyed, "rejects": {}},
    )
    if labels is None:
        put_note(store, name)
    return publish(store, manifest).manifest


def make_shard(
    store: Store,
    folder: str,
    index: int,
    groups: tuple[int, ...],
    start: int,
    columns: dict[str, np.ndarray | None],
    images: np.ndarray,
    schema: pa.Schema,
) -> File:
    described = []
    with store.storage.scratch() as scratch:
        staged = scratch.create("shard")
        with staged, pq.ParquetWriter(staged, schema, compression="zstd", write_page_checksum=True) as writer:
            for rows in groups:
                run = slice(start, start + rows)
                image = pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(PIXELS), rows, [None, pa.py_buffer(images[run].tobytes())]
                )
                arrays = [image if field == "image" else pa.array(columns[field][run]) for field in schema.names]
                writer.write_table(pa.table(arrays, schema=schema), row_group_size=rows)
                ids = columns["image_id"][run]
                described.append(RowGroup(rows, int(ids[0]), int(ids[-1]), ids_digest(ids)))
                start += rows
        name = f"shard-{index:05d}.parquet"
        return upload(store, folder, staged, name, rows=sum(groups), row_groups=tuple(described))


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def make_network(hidden: tuple[int, ...] = (32,), seed: int = 0) -> Perceptron:
    """A network with random weights, large enough that it is sure of some images and unsure of others."""
    torch.manual_seed(seed)
    network = Perceptron(Architecture(hidden))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(9)
    return network.eval()


def make_model(
    store: Store,
    version: str = "quick-00000001",
    network: Perceptron | None = None,
    *,
    temperature: float = 1.5,
    agreement: float | None = None,
    threshold: float | None = None,
) -> Manifest:
    """Publish a network as a model version and make it champion; with an int8 engine if it is said to agree, and with a
    small net if it is said from which confidence its answers stand."""
    network = network or make_network()
    card = {"version": version, "architecture": network.architecture.to_json(), "temperature": temperature}
    contents = {"weights.safetensors": save_network(network)}
    if agreement is not None:
        card["engines"] = {"int8": {"agreement": agreement, "images": 50_000}}
        contents[INT8_FILE] = quantise(network, make_images(200, seed=9))
    if threshold is not None:
        card["cascade"] = {"temperature": 2.0, "threshold": threshold}
        contents[CASCADE_FILE] = quantise(make_network((8,), seed=3), make_images(200, seed=9))
    contents = {"card.json": canonical(card).encode(), **contents}
    with store.storage.scratch() as scratch:
        files = tuple(
            upload(store, model_folder(version), scratch.write(name, data), name) for name, data in contents.items()
        )
    manifest = Manifest("model", version, {"weights": files[1].sha256}, files, facts={"accuracy": 0.5})
    manifest = publish(store, manifest).manifest
    promote(store, version, "for a test")
    return manifest


def settings_for(store: Store, threads: int = 2, **others: str) -> Settings:
    return Settings(store=store.url, threads=threads, _env_file=None, **others)
