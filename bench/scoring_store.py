"""A store for the benches of scoring: one model version, and a dataset of real images over and over."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog import listing as catalog
from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.manifest import File, Manifest, RowGroup
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.reader import images_of, read_table
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS, ROW_GROUP_ROWS, SHARD_ROWS, shard_schema
from digitrec.ingest.run import ingest
from digitrec.ingest.sources import fetch_sample
from digitrec.options import IngestOptions, TrainOptions


def trained(folder: Path) -> Store:
    """A store with a model of the quick preset, trained on what `fetch sample` gives."""
    from digitrec.training.run import train

    store = Store.at(folder / "store")
    ingest(store, [str(fetch_sample(folder)[0])], IngestOptions(dataset="train"))
    train(store, TrainOptions(preset="quick", promote=True))
    return store


def images_from(store: Store) -> np.ndarray:
    """Return real images of the store's newest dataset that has some: uint8 [n, 784]."""
    dataset = next(manifest for manifest in catalog.published(store, "dataset") if manifest.rows)
    return images_of(read_table(store, dataset, dataset.folder)["image"])


def with_model(source: Store, model: Manifest, folder: Path) -> Store:
    """Return a new store that has a copy of this model version."""
    store = Store.at(folder)
    for path in model.paths:
        store.storage.put(f"{model.folder}/{path}", source.storage.read(f"{model.folder}/{path}"))
    return store


def add_dataset(store: Store, name: str, images: np.ndarray, rows: int) -> None:
    """Publish a dataset of `rows` rows, the images over and over.

    Each shard has ids of its own, so none can stand for two; of few images, zstd makes little of many rows.
    """
    starts = range(0, rows, SHARD_ROWS)
    files = tuple(
        shard(store, name, place, images, start, min(rows, start + SHARD_ROWS)) for place, start in enumerate(starts)
    )
    facts = {"labelled": False, "keyed": False, "rejects": {}}
    publish(store, Manifest("dataset", name, {"rows": rows}, files, facts=facts))


def shard(store: Store, name: str, place: int, images: np.ndarray, start: int, end: int) -> File:
    """Rows `start` to `end`, in row groups as ingest makes them."""
    schema, groups = shard_schema(labelled=False, keyed=False), []
    how = {"compression": "zstd", "compression_level": 1, "write_page_checksum": True}
    with store.storage.scratch() as scratch:
        staged = scratch.create("shard")
        with staged, pq.ParquetWriter(staged, schema, **how) as writer:
            for first in range(start, end, ROW_GROUP_ROWS):
                ids = np.arange(first, min(end, first + ROW_GROUP_ROWS), dtype=np.int64)
                data = pa.py_buffer(np.ascontiguousarray(images[ids % len(images)]))
                column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(PIXELS), len(ids), [None, data])
                writer.write_table(pa.table([pa.array(ids + 1), column], schema=schema), row_group_size=len(ids))
                groups.append(RowGroup.of(ids + 1))
        path = f"shard-{place:05d}.parquet"
        return upload(store, dataset_folder(name), staged, path, rows=end - start, row_groups=tuple(groups))
