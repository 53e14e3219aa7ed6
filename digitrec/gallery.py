"""The digits of which a model was unsure, as one small picture for people."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from digitrec.caches import gather_caches
from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.manifest import Manifest, read_manifest
from digitrec.catalog.reader import images_of, open_verified
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS, SIDE
from digitrec.scoring.counts import below

SHOWN = 24
ACROSS = 12
DATASETS = 20
"""So many datasets are looked into at most, the first row group of each: it is only for looking at."""


def unsure_digits(store: Store, folders: Sequence[str], threshold: float) -> bytes | None:
    """A PNG of up to `SHOWN` digits, dark on light, with a confidence below `threshold` (three decimals at most), of
    predictions (their folders in the store); None if there is none.

    Raises `Corrupt` or `StorageFailed` if bytes are damaged or cannot be read.
    """
    found = np.empty((0, PIXELS), np.uint8)
    for folder in folders[:DATASETS]:
        found = np.concatenate([found, _unsure_images(store, read_manifest(store, folder), threshold)])[:SHOWN]
        if len(found) == SHOWN:
            break
    return png(mosaic(255 - found)) if len(found) else None


def _unsure_images(store: Store, predictions: Manifest, threshold: float) -> np.ndarray:
    """Images (uint8 [n, 784]) with a confidence below a threshold. Row groups are the dataset's."""
    if not below(predictions.facts, threshold):
        return np.empty((0, PIXELS), np.uint8)
    dataset = read_manifest(store, dataset_folder(predictions.asked["dataset"]))
    with _first_file(store, predictions) as part, _first_file(store, dataset) as shard:
        confidence = part.read_row_group(0, columns=["confidence"])["confidence"].to_numpy()
        images = images_of(shard.read_row_group(0, columns=["image"])["image"])
    unsure: np.ndarray = images[confidence < np.float32(threshold)]
    return unsure[:SHOWN]


def _first_file(store: Store, manifest: Manifest) -> pq.ParquetFile:
    file = manifest.data_files[0]
    return open_verified(store, manifest.key(file), file)


def mosaic(images: np.ndarray) -> np.ndarray:
    """uint8 [n, 784] to one picture, `ACROSS` side by side; the last line is filled up with white."""
    lines = -(-len(images) // ACROSS)
    tiles = np.full((lines * ACROSS, SIDE, SIDE), 255, np.uint8)
    tiles[: len(images)] = images.reshape(-1, SIDE, SIDE)
    picture: np.ndarray = tiles.reshape(lines, ACROSS, SIDE, SIDE).swapaxes(1, 2).reshape(lines * SIDE, -1)
    return picture


def png(picture: np.ndarray) -> bytes:
    gather_caches()
    from matplotlib.image import imsave

    sink = io.BytesIO()
    imsave(sink, picture, cmap="gray", vmin=0, vmax=255, format="png")
    return sink.getvalue()
