"""Reading what is published, verified: the digest of a shard or part is checked before its first use in a process."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.layout import MANIFEST
from digitrec.catalog.manifest import File, Kind, Manifest, check_file, parse_manifest
from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS, PIXELS, REJECTS_SCHEMA, predictions_schema, shard_schema
from digitrec.errors import Corrupt, NoInput, UsageError, storage_errors
from digitrec.storage import NotFound

if TYPE_CHECKING:
    import pandas as pd


def open_verified(store: Store, key: str, file: File) -> pq.ParquetFile:
    """Open a shard or part, memory-mapped where it lies in a local file, page checksums on.

    Raises `Corrupt` if its bytes are not those of `file`, `StorageFailed` if they cannot be read.
    """
    found = store.storage.stat(key)
    _check_once(store, key, file, found.state if found else "")
    path = store.storage.local_path(key)
    with storage_errors("read", store.address(key)):
        try:
            source = store.storage.open(key) if path is None else str(path)
        except NotFound as error:
            raise Corrupt(f"{store.address(key)} is missing, though its manifest names it") from error
        return pq.ParquetFile(source, memory_map=path is not None, page_checksum_verification=True)


@lru_cache(maxsize=65_536)
def _check_once(store: Store, key: str, file: File, _state: str) -> None:
    """`check_file`, remembered for this process as long as the object stays in this state."""
    check_file(store, key, file)


def images_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the `image` column as uint8 [n, 784], a view on Arrow's memory where the column is one chunk."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks != 1:
            return np.concatenate([images_of(chunk) for chunk in column.chunks] or [np.empty((0, PIXELS), np.uint8)])
        column = column.chunk(0)
    data = np.frombuffer(column.buffers()[1] or b"", dtype=np.uint8)
    start = column.offset * PIXELS
    return data[start : start + len(column) * PIXELS].reshape(-1, PIXELS)


def locate(path: str | Path, kind: Kind) -> tuple[Store, Manifest]:
    """Return a published folder, given by its path or URL, as a store of its own, and its manifest.

    So a folder that was copied elsewhere, alone, can be read. Raises `NoInput`, `UsageError` or `Corrupt`.
    """
    store = Store.at(path)
    try:
        data = store.storage.read(MANIFEST)
    except NotFound:
        raise NoInput(f"nothing is published at {store.url}: expected a folder with a {MANIFEST}") from None
    manifest = parse_manifest(data, store, "")
    if manifest.kind != kind:
        raise UsageError(f"{store.url} holds {manifest.kind} {manifest.name}, expected {kind}")
    return store, manifest


def read_dataset(path: str | Path) -> "pd.DataFrame":
    """Read a dataset as a frame: `image_id`, `key` and `label` where there are any, then uint8 `pixel0`…`pixel783`.

    `path` is the dataset's folder. Raises `NoInput` if nothing is published there, `Corrupt` if bytes are damaged.
    """
    import pandas as pd

    store, manifest = locate(path, "dataset")
    table = read_table(store, manifest, "")
    pixels = pd.DataFrame(images_of(table["image"]), columns=list(KAGGLE_PIXELS))
    others: pd.DataFrame = table.drop_columns(["image"]).to_pandas()
    return pd.concat([others, pixels], axis=1)


def read_predictions(path: str | Path) -> "pd.DataFrame":
    """Read published predictions as a frame, a row an image, in the order of `image_id`; columns as
    `contract.predictions_schema` says.

    `path` is the predictions' folder. Raises `NoInput` if nothing is published there, `Corrupt` if bytes are damaged.
    """
    store, manifest = locate(path, "predictions")
    frame: pd.DataFrame = read_table(store, manifest, "").to_pandas()
    return frame


def read_rejects(path: str | Path) -> "pd.DataFrame":
    """Read the rows of a dataset's sources that were rejected, a row each, in the order in which they were read;
    columns as `contract.REJECTS_SCHEMA` says.

    `path` is the dataset's folder. Raises `NoInput` if nothing is published there, `Corrupt` if bytes are damaged.
    """
    store, manifest = locate(path, "dataset")
    frame: pd.DataFrame = rejects_table(store, manifest, "").to_pandas()
    return frame


def rejects_table(store: Store, dataset: Manifest, folder: str) -> pa.Table:
    """Return the rejected rows of a dataset that is published in `folder`. Raises `Corrupt` if bytes are damaged."""
    files = [file for file in dataset.files if file.name == "rejects.parquet"]
    return pa.concat_tables([REJECTS_SCHEMA.empty_table(), *_tables(store, folder, files)])


def read_table(store: Store, manifest: Manifest, folder: str) -> pa.Table:
    """Return all rows of the shards or parts that are published in `folder`, in order."""
    return pa.concat_tables([schema_of(manifest).empty_table(), *_tables(store, folder, manifest.data_files)])


def _tables(store: Store, folder: str, files: Iterable[File]) -> Iterator[pa.Table]:
    for file in files:
        with open_verified(store, f"{folder}/{file.path}" if folder else file.path, file) as parquet:
            yield parquet.read()


def schema_of(manifest: Manifest) -> pa.Schema:
    """Return the columns of its shards or parts, also where it has none."""
    keyed = manifest.facts["keyed"]
    if manifest.kind == "dataset":
        return shard_schema(labelled=manifest.facts["labelled"], keyed=keyed)
    how = manifest.asked["variant"]
    return predictions_schema(keyed=keyed, probabilities="probabilities" in how, cascade="cascade" in how)
