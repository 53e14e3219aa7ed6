"""Partitions: the unit of scoring work, planned from a dataset's manifest alone. No shard is opened.

A run that resumes, on more or fewer workers, plans the same partitions and can use their receipts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, pairwise
from pathlib import PurePosixPath

from digitrec.catalog.manifest import File, Manifest, RowGroup
from digitrec.contract import ROW_GROUP_ROWS
from digitrec.errors import Corrupt

PARTITION_ROWS = 64 * 1024
"""Half a second of one core: long against the milliseconds a task costs, short against what a crash may waste."""
PARTITIONS = 16
"""A dataset that can be has so many at least: of few, the last ones keep one core busy while the others wait."""


@dataclass(frozen=True)
class Partition:
    """A run of row groups of one shard, which yields one part.

    `index` counts from 0 over the dataset; `shard` is given without its row groups; `first_group` is the place of
    `groups[0]` in it.
    """

    index: int
    shard: File
    first_group: int
    groups: tuple[RowGroup, ...]

    @cached_property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    def __str__(self) -> str:
        first, last = self.groups[0].first_id, self.groups[-1].last_id
        return f"partition {self.index} ({PurePosixPath(self.shard.path).name}, image_id {first} to {last})"


def partition_rows(dataset_rows: int) -> int:
    """Return how many rows a partition should have, by those of its dataset alone."""
    return min(PARTITION_ROWS, max(ROW_GROUP_ROWS, dataset_rows // PARTITIONS))


def plan_partitions(dataset: Manifest, rows: int | None = None) -> tuple[Partition, ...]:
    """Cut a dataset into partitions, in order, each of at most `rows` rows, or of one row group that is larger.

    `rows`: None for those that a dataset of its size should have. Takes time linear in the number of row groups.
    Raises `Corrupt` if the manifest does not name every row group of a shard, or their ids do not go up.
    """
    shards = dataset.data_files
    for shard in shards:
        if sum(group.rows for group in shard.row_groups) != shard.rows:
            raise Corrupt(f"the manifest of dataset {dataset.name} does not name every row group of {shard.path}")
    for before, after in pairwise(chain.from_iterable(shard.row_groups for shard in shards)):
        if after.first_id <= before.last_id:
            raise Corrupt(
                f"the manifest of dataset {dataset.name} has image_id {after.first_id} after {before.last_id}: "
                "expected ids that go up; ingest it anew"
            )
    return tuple(_cut(shards, rows or partition_rows(dataset.rows)))


def _cut(shards: tuple[File, ...], rows: int) -> Iterator[Partition]:
    index = 0
    for shard in shards:
        bare, first = replace(shard, row_groups=()), 0
        for groups in _runs(shard.row_groups, rows):
            yield Partition(index, bare, first, groups)
            index, first = index + 1, first + len(groups)


def _runs(groups: tuple[RowGroup, ...], rows: int) -> Iterator[tuple[RowGroup, ...]]:
    """Cut a shard's row groups, in order, into runs of at most `rows` rows (and at least one group)."""
    run: list[RowGroup] = []
    held = 0
    for group in groups:
        if run and held + group.rows > rows:
            yield tuple(run)
            run, held = [], 0
        run.append(group)
        held += group.rows
    if run:
        yield tuple(run)
