"""Labelled rows in memory, and the hash that decides on which side of the split a row is."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from digitrec.catalog.manifest import File, Manifest
from digitrec.catalog.reader import images_of, open_verified
from digitrec.catalog.store import Store
from digitrec.contract import LABEL_COLUMN, PIXELS

SALT: Final = b"digitrec: which rows are for validation"
VALIDATION_SHARE: Final = 0.08


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

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray) -> "Rows":
        return cls(images, labels, row_digests(images))


NO_ROWS: Final = Rows(np.empty((0, PIXELS), np.uint8), np.empty(0, np.uint8), np.empty(0, np.uint64))


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of several parts, in order."""
    parts = [NO_ROWS, *parts]
    return Rows(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.digests for part in parts]),
    )


def row_digests(images: np.ndarray) -> np.ndarray:
    """First 8 bytes of SHA-256(salt + image) of each row of uint8 [n, 784], as big-endian numbers: uint64 [n]."""
    data = np.ascontiguousarray(images).tobytes()
    starts = range(0, len(data), PIXELS)
    digests = b"".join(hashlib.sha256(SALT + data[start : start + PIXELS]).digest()[:8] for start in starts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def for_validation(digests: np.ndarray) -> np.ndarray:
    """Which rows validate: bool [n]. The same on every machine, in every dataset, for every seed."""
    return digests < np.uint64(int(VALIDATION_SHARE * 2**64))


@dataclass(frozen=True)
class GroupAddress:
    """Where a row group lies: the shard, under its key, and its place in it."""

    key: str
    shard: File
    place: int


def groups_of(store: Store, datasets: Sequence[Manifest]) -> Iterator[GroupAddress]:
    """The row groups of labelled datasets, in order. Raises `Corrupt` if a shard's bytes are not its manifest's."""
    for manifest in datasets:
        for shard in manifest.data_files:
            with open_verified(store, key := manifest.key(shard), shard) as file:
                places = range(file.num_row_groups)
            yield from (GroupAddress(key, shard, place) for place in places)


def read_group(store: Store, address: GroupAddress) -> Rows:
    """One row group, read again each time."""
    with open_verified(store, address.key, address.shard) as file:
        table = file.read_row_group(address.place, columns=[LABEL_COLUMN, "image"])
    # A chunked array's own `to_numpy` imports pandas, which takes half a second.
    return Rows.of(images_of(table["image"]), np.from_dlpack(table[LABEL_COLUMN].combine_chunks()))


def read_rows(store: Store, datasets: Sequence[Manifest]) -> Rows:
    """All rows of labelled datasets, in order. Raises `Corrupt` if a shard's bytes are not its manifest's."""
    return joined([read_group(store, address) for address in groups_of(store, datasets)])
