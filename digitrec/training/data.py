"""Rows handed to Lightning in batches that depend on seed and epoch alone."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Generator, Tensor

from digitrec.training.augment import Distortion, distort
from digitrec.training.rows import Rows
from digitrec.training.split import Split
from digitrec.training.streaming import StreamedRows

EVALUATION_BATCH: Final = 2048

Batch = tuple[Tensor, Tensor]
"""Images, uint8 (distorted: float32) [n, 784], and labels, int64 [n]."""


def seed_for(seed: int, epoch: int, purpose: str) -> int:
    """A 63-bit seed that depends on nothing else, so that a resumed epoch draws what it would have drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{purpose}".encode()).digest()[:8]) >> 1


def tensors_of(rows: Rows) -> Batch:
    """All rows as one batch."""
    return torch.from_numpy(np.ascontiguousarray(rows.images)), torch.from_numpy(rows.labels.astype(np.int64))


class Batches:
    """Batches of rows that lie in memory: no workers, no copies but the batch itself.

    `order` gives the row numbers, int64 [m], of each pass anew; a last batch that is not full is left out if
    `full_only` (batch norm cannot learn from a batch of one, and another epoch leaves out other rows).
    """

    def __init__(self, rows: Rows, batch: int, order: Callable[[], Tensor], *, full_only: bool) -> None:
        self.images, self.labels = tensors_of(rows)
        self.batch, self.order, self.full_only = batch, order, full_only

    def __len__(self) -> int:
        return len(self.labels) // self.batch if self.full_only else -(-len(self.labels) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        for chosen in torch.split(self.order(), self.batch)[: len(self)]:
            yield self.images[chosen], self.labels[chosen]


class StreamedBatches:
    """Full batches of rows that lie on disk, in an order that `generator` gives anew for each pass."""

    def __init__(self, rows: StreamedRows, batch: int, generator: Callable[[], Generator]) -> None:
        self.rows, self.batch, self.generator = rows, batch, generator

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def __iter__(self) -> Iterator[Batch]:
        for run in self.rows.shuffled(self.batch, self.generator()):
            batches = [torch.split(tensor, self.batch) for tensor in tensors_of(run)]
            yield from list(zip(*batches, strict=True))[: len(run) // self.batch]


class DigitsDataModule(LightningDataModule):
    """Training rows shuffled and distorted anew each epoch; validation rows as they are."""

    def __init__(self, split: Split, *, batch: int, seed: int, distortion: Distortion) -> None:
        super().__init__()
        self.split, self.batch, self.seed, self.distortion = split, batch, seed, distortion
        self.generator = Generator()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.split.training) // self.batch

    def train_dataloader(self) -> Batches | StreamedBatches:
        rows = self.split.training
        if isinstance(rows, StreamedRows):
            return StreamedBatches(rows, self.batch, self.begin_epoch)
        return Batches(rows, self.batch, self.shuffled, full_only=True)

    def val_dataloader(self) -> Batches:
        rows = self.split.validation
        return Batches(rows, EVALUATION_BATCH, lambda: torch.arange(len(rows)), full_only=False)

    def shuffled(self) -> Tensor:
        """The order of this epoch's rows, all in memory."""
        return torch.randperm(len(self.split.training), generator=self.begin_epoch())

    def begin_epoch(self) -> Generator:
        """The generator of this epoch's order of rows; renews that of the distortions too."""
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("training batches are drawn by a trainer, which knows the epoch")
        epoch, device = trainer.current_epoch, trainer.strategy.root_device
        self.generator = Generator(device).manual_seed(seed_for(self.seed, epoch, "distortion"))
        return Generator().manual_seed(seed_for(self.seed, epoch, "order"))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Distort training batches where they are computed on."""
        images, labels = batch
        if self.trainer is not None and self.trainer.training:
            strength = self.distortion.strength(self.trainer.global_step / self.trainer.estimated_stepping_batches)
            images = distort(images, self.distortion, self.generator, strength=strength)
        return images, labels
