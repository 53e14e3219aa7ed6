"""Labelled datasets → rows to train on, rows to validate on; no image is on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.contract import CLASSES
from digitrec.errors import BadData
from digitrec.training.rows import (
    NO_ROWS,
    VALIDATION_SHARE,
    Rows,
    for_validation,
    groups_of,
    joined,
    read_group,
    read_rows,
)
from digitrec.training.streaming import StreamedRows

TRAINING_ROWS_MIN = 100
VALIDATION_ROWS_MIN = 10
IN_MEMORY_ROWS = 4_000_000
"""More (3 GB of images) are streamed. A number of rows, not a share of this machine's memory: the order of batches is
another then, and the same training must not come out differently elsewhere."""
VALIDATION_ROWS_MAX = 100_000
"""Of streamed datasets the rows with the smallest digests validate, up to this many; the others do neither."""


@dataclass(frozen=True)
class Split:
    training: Rows | StreamedRows
    validation: Rows


def read_split(store: Store, datasets: Sequence[Manifest]) -> Split:
    """Read labelled datasets and split them by hash, in memory or, if they are too large, as a stream.

    Raises `BadData` if what is left on a side is too little, `Corrupt` if a shard's bytes are not its manifest's.
    """
    rows = sum(manifest.rows for manifest in datasets)
    split = split_rows(read_rows(store, datasets)) if rows <= IN_MEMORY_ROWS else scan(store, datasets)
    check(split, rows)
    return split


def split_rows(rows: Rows) -> Split:
    """Split rows in memory by hash."""
    mask = for_validation(rows.digests)
    return Split(rows.where(~mask), rows.where(mask))


def scan(store: Store, datasets: Sequence[Manifest]) -> Split:
    """Read everything once and keep what must be known: digests, labels, and the rows that validate."""
    groups, masks, labels, digests, validation = [], [], [], [], NO_ROWS
    for address in groups_of(store, datasets):
        rows = read_group(store, address)
        training = ~for_validation(rows.digests)
        groups.append(address)
        masks.append(training)
        labels.append(rows.labels[training])
        digests.append(rows.digests[training])
        validation = with_smallest_digests(joined([validation, rows.where(~training)]))
    streamed = StreamedRows(store, tuple(groups), tuple(masks), np.concatenate(labels), np.concatenate(digests))
    return Split(streamed, validation)


def with_smallest_digests(rows: Rows) -> Rows:
    """At most `VALIDATION_ROWS_MAX` rows, in their order."""
    if len(rows) <= VALIDATION_ROWS_MAX:
        return rows
    return rows.where(np.sort(np.argsort(rows.digests, kind="stable")[:VALIDATION_ROWS_MAX]))


def check(split: Split, rows: int) -> None:
    """Raise `BadData` if a side is too little to learn or to judge from."""
    if len(split.training) < TRAINING_ROWS_MIN or len(split.validation) < VALIDATION_ROWS_MIN:
        raise BadData(
            f"too little to train on: {rows:,} rows, {len(split.validation):,} of them for validation; expected at "
            f"least {TRAINING_ROWS_MIN} for training and {VALIDATION_ROWS_MIN} for validation (chosen by hash, "
            f"{VALIDATION_SHARE:.0%}): ingest more"
        )
    if len(np.unique(split.training.labels)) < 2:
        raise BadData(f"all training rows are labelled {split.training.labels[0]}: expected at least two classes")


def missing_classes(split: Split) -> list[int]:
    """The digits that no row shows."""
    there = np.union1d(split.training.labels, split.validation.labels)
    return sorted(set(range(CLASSES)) - {int(label) for label in there})
