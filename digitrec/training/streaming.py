"""Training rows that are too many for the memory: they stay in their shards and pass through a shuffle buffer.

Row groups come in a random order, a buffer of several is mixed, and half of it leaves before the next ones come in, so
that rows meet others than their neighbours. Which row comes when depends on the generator alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from digitrec.catalog.store import Store
from digitrec.training.rows import GroupAddress, Rows, joined, read_group

BUFFER_ROWS = 256 * 1024
"""Rows that are mixed at a time: 200 MB of images."""


@dataclass(frozen=True)
class StreamedRows:
    """Training rows on disk. In memory are labels uint8 [n], digests uint64 [n] and a mask: ten bytes a row.

    `masks[i]`, bool, tells which rows of row group `groups[i]` train.
    """

    store: Store
    groups: tuple[GroupAddress, ...]
    masks: tuple[np.ndarray, ...]
    labels: np.ndarray
    digests: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Rows:
        """The training rows of one row group."""
        return read_group(self.store, self.groups[index]).where(self.masks[index])

    def shuffled(self, batch: int, generator: Generator) -> Iterator[Rows]:
        """All rows once, in random order: runs of whole batches, then one of what is left."""
        held: list[Rows] = []
        for index in torch.randperm(len(self.groups), generator=generator).tolist():
            held.append(self.read(index))
            if sum(map(len, held)) >= max(BUFFER_ROWS, 2 * batch):
                mixed = mix(joined(held), generator)
                leaving = len(mixed) // 2 // batch * batch
                yield mixed.where(np.arange(leaving))
                held = [mixed.where(np.arange(leaving, len(mixed)))]
        yield mix(joined(held), generator)


def mix(rows: Rows, generator: Generator) -> Rows:
    """The same rows in random order."""
    return rows.where(torch.randperm(len(rows), generator=generator).numpy())
