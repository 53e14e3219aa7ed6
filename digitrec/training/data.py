"""Labelled rows in memory, split by hash, and handed to Lightning in batches that depend on seed and epoch alone."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Generator, Tensor

from digitrec.contract import CLASSES, LABEL_COLUMN, PIXELS
from digitrec.errors import BadData
from digitrec.store.layout import Store
from digitrec.store.manifest import Manifest
from digitrec.store.reading import images_of, open_verified
from digitrec.training.augment import Distortion, distort

SALT: Final = b"digitrec: which rows are for validation"
VALIDATION_SHARE: Final = 0.08
TRAINING_ROWS_MIN: Final = 100
VALIDATION_ROWS_MIN: Final = 10
EVALUATION_BATCH: Final = 2048

Batch = tuple[Tensor, Tensor]
"""Images, uint8 (distorted: float32) [n, 784], and labels, int64 [n]."""


@dataclass(frozen=True)
class Rows:
    """Labelled rows: images uint8 [n, 784], labels uint8 [n], digests uint64 [n] (see `row_digests`)."""

    images: np.ndarray
    labels: np.ndarray
    digests: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: np.ndarray) -> "Rows":
        """The rows that a mask (bool [n]) or an index array chooses."""
        return Rows(self.images[chosen], self.labels[chosen], self.digests[chosen])


@dataclass(frozen=True)
class Split:
    training: Rows
    validation: Rows


def row_digests(images: np.ndarray) -> np.ndarray:
    """First 8 bytes of SHA-256(salt + image) of each row of uint8 [n, 784], as big-endian numbers: uint64 [n]."""
    data = np.ascontiguousarray(images).tobytes()
    starts = range(0, len(data), PIXELS)
    digests = b"".join(hashlib.sha256(SALT + data[start : start + PIXELS]).digest()[:8] for start in starts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def for_validation(digests: np.ndarray) -> np.ndarray:
    """Which rows validate: bool [n]. The same on every machine, in every dataset, for every seed."""
    return digests < np.uint64(int(VALIDATION_SHARE * 2**64))


def read_rows(store: Store, datasets: Sequence[Manifest]) -> Rows:
    """All rows of labelled datasets, in order. Raises `Corrupt` if a shard's bytes are not its manifest's."""
    images, labels = [np.empty((0, PIXELS), np.uint8)], [np.empty(0, np.uint8)]
    for manifest in datasets:
        for file in manifest.data_files:
            table = open_verified(store, file).read(columns=[LABEL_COLUMN, "image"])
            images.append(images_of(table["image"]))
            labels.append(table[LABEL_COLUMN].to_numpy())
    pixels = np.concatenate(images)
    return Rows(pixels, np.concatenate(labels), row_digests(pixels))


def split_rows(rows: Rows) -> Split:
    """Split by hash. Raises `BadData` if what is left on a side is too little to learn or to judge from."""
    mask = for_validation(rows.digests)
    split = Split(rows.where(~mask), rows.where(mask))
    found = f"{len(rows):,} rows, {len(split.validation):,} of them for validation"
    if len(split.training) < TRAINING_ROWS_MIN or len(split.validation) < VALIDATION_ROWS_MIN:
        raise BadData(
            f"too little to train on: {found}; expected at least {TRAINING_ROWS_MIN} for training and "
            f"{VALIDATION_ROWS_MIN} for validation (chosen by hash, {VALIDATION_SHARE:.0%}): ingest more"
        )
    if len(set(split.training.labels)) < 2:
        raise BadData(f"all training rows are labelled {split.training.labels[0]}: expected at least two classes")
    return split


def missing_classes(rows: Rows) -> list[int]:
    """The digits that no row shows."""
    return sorted(set(range(CLASSES)) - {int(label) for label in np.unique(rows.labels)})


def seed_for(seed: int, epoch: int, purpose: str) -> int:
    """A 63-bit seed that depends on nothing else, so that a resumed epoch draws what it would have drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()[:8]) >> 1


class Batches:
    """Batches of rows that lie in memory: no workers, no copies but the batch itself.

    `order` gives the row numbers, int64 [m], of each pass anew; a last batch that is not full is left out if
    `full_only` (batch norm cannot learn from a batch of one, and another epoch leaves out other rows).
    """

    def __init__(self, rows: Rows, batch: int, order: Callable[[], Tensor], *, full_only: bool) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(rows.images))
        self.labels = torch.from_numpy(rows.labels.astype(np.int64))
        self.batch, self.order, self.full_only = batch, order, full_only

    def __len__(self) -> int:
        return len(self.labels) // self.batch if self.full_only else -(-len(self.labels) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        for chosen in torch.split(self.order(), self.batch)[: len(self)]:
            yield self.images[chosen], self.labels[chosen]


class DigitsDataModule(LightningDataModule):
    """Training rows shuffled and distorted anew each epoch; validation rows as they are."""

    def __init__(self, split: Split, *, batch: int, seed: int, distortion: Distortion) -> None:
        super().__init__()
        self.split, self.batch, self.seed, self.distortion = split, batch, seed, distortion
        self.generator = Generator()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.split.training) // self.batch

    def train_dataloader(self) -> Batches:
        return Batches(self.split.training, self.batch, self.shuffled, full_only=True)

    def val_dataloader(self) -> Batches:
        rows = self.split.validation
        return Batches(rows, EVALUATION_BATCH, lambda: torch.arange(len(rows)), full_only=False)

    def shuffled(self) -> Tensor:
        """The order of this epoch's rows. Called as the epoch begins; renews the generator of distortions too."""
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("training batches are drawn by a trainer, which knows the epoch")
        epoch, device = trainer.current_epoch, trainer.strategy.root_device
        self.generator = Generator(device).manual_seed(seed_for(self.seed, epoch, "distortion"))
        order = Generator().manual_seed(seed_for(self.seed, epoch, "order"))
        return torch.randperm(len(self.split.training), generator=order)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Distort training batches where they are computed on."""
        images, labels = batch
        if self.trainer is not None and self.trainer.training:
            images = distort(images, self.distortion, self.generator)
        return images, labels
