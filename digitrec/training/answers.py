"""What sealed models answer to the rows of a dataset. Pixels are read in pieces and forgotten; answers are small."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from digitrec.catalog.manifest import Manifest
from digitrec.catalog.reader import images_of, open_verified
from digitrec.catalog.store import Store
from digitrec.contract import CLASSES, LABEL_COLUMN, PIXELS
from digitrec.training.quality import logits_of
from digitrec.training.rows import for_validation, row_digests
from digitrec.training.sealed import Sealed

PIECE_ROWS = 32 * 1024


@dataclass(frozen=True)
class Answers:
    """What models answer to n rows of a dataset, in order.

    `image_ids` int64 [n], `labels` uint8 [n] (None if it has none), `digests` uint64 [n] (`rows.row_digests`), and for
    each model `logits` float32 [n, 10].
    """

    dataset: str
    image_ids: np.ndarray
    labels: np.ndarray | None
    digests: np.ndarray
    logits: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    def right(self) -> np.ndarray | None:
        """Which rows each model gets right, bool [models, n]; None without labels."""
        if self.labels is None:
            return None
        return np.stack([logits.argmax(axis=1) == self.labels for logits in self.logits])


def ask(store: Store, dataset: Manifest, models: Sequence[Sealed], *, validation_only: bool = False) -> Answers:
    """Let models answer to all rows of a dataset, or to those that validate.

    Raises `Corrupt` if a shard's bytes are not its manifest's.
    """
    labelled = dataset.facts["labelled"]
    pieces = [Answers(dataset.name, *nothing(labelled), tuple(np.empty((0, CLASSES), np.float32) for _ in models))]
    for table in read_pieces(store, dataset, ["image_id", "image", *([LABEL_COLUMN] if labelled else [])]):
        images = images_of(table["image"])
        digests = row_digests(images)
        chosen = for_validation(digests) if validation_only else np.ones(len(digests), bool)
        labels = table[LABEL_COLUMN].to_numpy()[chosen] if labelled else None
        logits = tuple(logits_of(model.network, images[chosen]) for model in models)
        pieces.append(Answers(dataset.name, table["image_id"].to_numpy()[chosen], labels, digests[chosen], logits))
    return joined(pieces)


def read_pieces(store: Store, dataset: Manifest, columns: list[str]) -> Iterator[pa.RecordBatch]:
    for file in dataset.data_files:
        with open_verified(store, dataset.key(file), file) as parquet:
            yield from parquet.iter_batches(PIECE_ROWS, columns=columns)


def nothing(labelled: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """No image_ids, labels, digests."""
    return np.empty(0, np.int64), np.empty(0, np.uint8) if labelled else None, np.empty(0, np.uint64)


def joined(pieces: Sequence[Answers]) -> Answers:
    first = pieces[0]
    labels = [piece.labels for piece in pieces if piece.labels is not None]
    return Answers(
        first.dataset,
        np.concatenate([piece.image_ids for piece in pieces]),
        np.concatenate(labels) if labels else None,
        np.concatenate([piece.digests for piece in pieces]),
        tuple(np.concatenate(logits) for logits in zip(*(piece.logits for piece in pieces), strict=True)),
    )


def images_at(store: Store, dataset: Manifest, image_ids: Sequence[int]) -> np.ndarray:
    """The images of some `image_id`s (ascending) of a dataset: uint8 [n, 784]."""
    found = (
        images_of(table["image"])[np.isin(table["image_id"].to_numpy(), image_ids)]
        for table in read_pieces(store, dataset, ["image_id", "image"])
    )
    return np.concatenate([np.empty((0, PIXELS), np.uint8), *found])
