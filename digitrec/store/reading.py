"""Reading what is published, verified: a shard's or part's digest is checked once a process, before its first use."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.contract import KAGGLE_PIXELS, PIXELS, REJECTS_SCHEMA, predictions_schema, shard_schema
from digitrec.errors import NoInput, UsageError, storage_errors
from digitrec.store.layout import Store, manifest_path
from digitrec.store.manifest import File, Kind, Manifest, check_file, parse_manifest

if TYPE_CHECKING:
    import pandas as pd

DEPTH: dict[Kind, int] = {"dataset": 2, "model": 2, "predictions": 3}
"""How many folders lie between the store's root and a manifest."""


def open_verified(store: Store, file: File) -> pq.ParquetFile:
    """Open a shard or part, memory-mapped, page checksums on. Raises `Corrupt` if its bytes are not the manifest's,
    `StorageFailed` if they cannot be read."""
    full = Path(store.full(file.path))
    with storage_errors("read", full):
        try:
            modified_ns = full.stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            modified_ns = 0
        check_once(store, file, modified_ns)
        return pq.ParquetFile(str(full), memory_map=True, page_checksum_verification=True)


@lru_cache(maxsize=65_536)
def check_once(store: Store, file: File, modified_ns: int) -> None:
    """`check_file`, remembered for this process as long as the file is not touched."""
    check_file(store, file)


def images_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The `image` column as uint8 [n, 784], a view on Arrow's memory where the column is one chunk."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks != 1:
            return np.concatenate([images_of(chunk) for chunk in column.chunks] or [np.empty((0, PIXELS), np.uint8)])
        column = column.chunk(0)
    data = np.frombuffer(column.buffers()[1] or b"", dtype=np.uint8)
    start = column.offset * PIXELS
    return data[start : start + len(column) * PIXELS].reshape(-1, PIXELS)


def locate(path: str | Path, kind: Kind) -> tuple[Store, Manifest]:
    """The store and manifest of a published folder, given by its path. Raises `NoInput`, `UsageError` or `Corrupt`."""
    folder = Path(path).expanduser().absolute()
    full = Path(manifest_path(str(folder)))
    with storage_errors("read", full):
        try:
            data = full.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NoInput(f"nothing is published at {folder}: expected a folder with a manifest.json") from None
    manifest = parse_manifest(data, str(full))
    if manifest.kind != kind:
        raise UsageError(f"{folder} holds {manifest.kind} {manifest.name}, expected {kind}")
    return Store.at(folder.parents[DEPTH[kind] - 1]), manifest


def read_dataset(path: str | Path) -> "pd.DataFrame":
    """A dataset as a frame: `image_id`, `key` and `label` where there are any, then uint8 `pixel0`…`pixel783`.

    `path` is the dataset's folder. Raises `NoInput` if nothing is published there, `Corrupt` if bytes are damaged.
    """
    import pandas as pd

    store, manifest = locate(path, "dataset")
    table = read_table(store, manifest)
    pixels = pd.DataFrame(images_of(table["image"]), columns=list(KAGGLE_PIXELS))
    others: pd.DataFrame = table.drop_columns(["image"]).to_pandas()
    return pd.concat([others, pixels], axis=1)


def read_predictions(path: str | Path) -> "pd.DataFrame":
    """Published predictions as a frame, a row an image, in the order of `image_id`; columns as the contract says.

    `path` is the predictions' folder. Raises `NoInput` if nothing is published there, `Corrupt` if bytes are damaged.
    """
    frame: pd.DataFrame = read_table(*locate(path, "predictions")).to_pandas()
    return frame


def read_rejects(path: str | Path) -> "pd.DataFrame":
    """The rows of a dataset's sources that were rejected, a row each, in the order in which they were read; columns as
    `contract.REJECTS_SCHEMA` says.

    `path` is the dataset's folder. Raises `NoInput` if nothing is published there, `Corrupt` if bytes are damaged.
    """
    frame: pd.DataFrame = rejects_table(*locate(path, "dataset")).to_pandas()
    return frame


def rejects_table(store: Store, dataset: Manifest) -> pa.Table:
    """The rejected rows of a dataset. Raises `Corrupt` if bytes are damaged."""
    files = [file for file in dataset.files if Path(file.path).name.startswith("rejects-")]
    return pa.concat_tables([REJECTS_SCHEMA.empty_table(), *(open_verified(store, file).read() for file in files)])


def read_table(store: Store, manifest: Manifest) -> pa.Table:
    """All rows of a manifest's shards or parts, in order."""
    tables = [open_verified(store, file).read() for file in manifest.data_files]
    return pa.concat_tables([schema_of(manifest).empty_table(), *tables])


def schema_of(manifest: Manifest) -> pa.Schema:
    """The columns of its shards or parts, also where it has none."""
    keyed = manifest.facts["keyed"]
    if manifest.kind == "dataset":
        return shard_schema(labelled=manifest.facts["labelled"], keyed=keyed)
    how = manifest.asked["variant"]
    return predictions_schema(keyed=keyed, probabilities="probabilities" in how, cascade="cascade" in how)
