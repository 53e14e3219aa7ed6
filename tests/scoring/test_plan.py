"""The plan: which rows make a partition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitrec.errors import Corrupt
from digitrec.scoring.plan import PARTITION_ROWS, partitions
from digitrec.store.manifest import File, Manifest, RowGroup

row_group_sizes = st.lists(st.lists(st.integers(1, 5000), max_size=8), max_size=5)


def dataset_of(shards: list[list[int]]) -> Manifest:
    """A manifest of shards with row groups of these sizes; no file is behind it."""
    files, first = [], 1
    for index, sizes in enumerate(shards):
        groups = []
        for rows in sizes:
            groups.append(RowGroup(rows, first, first + rows - 1, f"{first:016x}"))
            first += rows
        files.append(File(f"datasets/d/shard-{index:05d}-aaaaaaaaaaaa.parquet", sum(sizes), 1, "a" * 64, tuple(groups)))
    return Manifest("dataset", "d", {}, tuple(files), facts={"labelled": False, "keyed": False})


@given(row_group_sizes, st.integers(1, 10_000))
def test_every_row_group_is_in_one_partition_in_order(shards: list[list[int]], rows: int) -> None:
    """Whatever the cut, the partitions' row groups are the dataset's, once each and in order."""
    dataset = dataset_of(shards)
    plan = list(partitions(dataset, rows))
    assert [group for part in plan for group in part.groups] == [
        group for file in dataset.files for group in file.row_groups
    ]
    assert [part.index for part in plan] == list(range(len(plan)))


@given(row_group_sizes, st.integers(1, 10_000))
def test_a_partition_is_a_run_of_one_shard_no_larger_than_asked(shards: list[list[int]], rows: int) -> None:
    """A partition never spans shards, and exceeds the limit only if one row group alone does."""
    dataset = dataset_of(shards)
    by_path = {file.path: file for file in dataset.files}
    for part in partitions(dataset, rows):
        place = slice(part.first_group, part.first_group + len(part.groups))
        assert by_path[part.shard.path].row_groups[place] == part.groups
        assert part.rows <= rows or len(part.groups) == 1


def test_planning_is_lazy_and_opens_no_file() -> None:
    """The first partition of a dataset of a billion rows is there at once, though none of its shards exists."""
    huge = dataset_of([[PARTITION_ROWS] * 1000] * 16)
    first = next(partitions(huge))
    assert (first.index, first.rows) == (0, PARTITION_ROWS)


def test_a_manifest_that_does_not_tell_its_row_groups_is_refused() -> None:
    """Without row groups no partition could be checked, so nothing is planned."""
    file = File("datasets/d/shard-00000-aaaaaaaaaaaa.parquet", 10, 1, "a" * 64)
    with pytest.raises(Corrupt, match="row group of datasets/d/shard-00000"):
        list(partitions(Manifest("dataset", "d", {}, (file,))))


def test_a_partition_says_where_it_is() -> None:
    """Its text names shard and ids, for the error that blames it."""
    (only,) = partitions(dataset_of([[5, 5]]))
    assert str(only) == "partition 0 (shard-00000-aaaaaaaaaaaa.parquet, image_id 1 to 10)"
