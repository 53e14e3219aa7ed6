"""The plan: which rows make a partition."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.manifest import File, Manifest, RowGroup, publish
from digitrec.catalog.store import Store
from digitrec.contract import ROW_GROUP_ROWS, SHARD_ROWS
from digitrec.errors import Corrupt
from digitrec.scoring.plan import PARTITION_ROWS, PARTITIONS, partition_rows, partitions

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


@given(st.integers(0, 10**10))
def test_small_datasets_are_cut_smaller(rows: int) -> None:
    """So that cores end together; never below a row group, never above what a crash may waste."""
    size = partition_rows(rows)
    assert ROW_GROUP_ROWS <= size <= PARTITION_ROWS
    assert rows < ROW_GROUP_ROWS * PARTITIONS or rows // size >= PARTITIONS


def test_planning_is_lazy_and_opens_no_file() -> None:
    """The first partition of a dataset of a billion rows is there at once, though none of its shards exists."""
    huge = dataset_of([[PARTITION_ROWS] * 1000] * 16)
    first = next(partitions(huge))
    assert (first.index, first.rows) == (0, PARTITION_ROWS)


PLAN = """
import sys
from pathlib import Path
from digitrec.options import ScoreOptions
from digitrec.progress import silent
from digitrec.scoring.job import prepare
from digitrec.scoring.ledger import Ledger
from digitrec.scoring.plan import PARTITION_ROWS
from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.catalog.manifest import Manifest

store = Store.at(sys.argv[1])
job = prepare(store, catalog.dataset(store, "huge"), Manifest("model", "m", {}, ()), ScoreOptions(), "int8")
ledger = Ledger([job], PARTITION_ROWS, silent)
tasks = sum(1 for _ in ledger.tasks())
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(ledger.total, tasks, int(status["VmHWM"].split()[0]) * 1024)
"""
BILLION = 10**9


def test_a_billion_rows_are_planned_in_200_megabytes(store: Store) -> None:
    """From the bytes of a manifest as ingest writes it, its digests checked, to the last task of the ledger: the
    greatest resident memory of the whole process, every import included."""
    shards, rest = divmod(BILLION, SHARD_ROWS)
    huge = dataset_of([[ROW_GROUP_ROWS] * (SHARD_ROWS // ROW_GROUP_ROWS)] * shards + [[rest]])
    publish(store, dataset_folder("huge"), replace(huge, name="huge"))
    run = subprocess.run([sys.executable, "-c", PLAN, store.url], capture_output=True, text=True, check=True)
    rows, tasks, peak = map(int, run.stdout.split())
    assert (rows, tasks) == (BILLION, shards * SHARD_ROWS // PARTITION_ROWS + 1)
    assert peak <= 200e6


def test_a_manifest_that_does_not_tell_its_row_groups_is_refused() -> None:
    """Without row groups no partition could be checked, so nothing is planned."""
    file = File("datasets/d/shard-00000-aaaaaaaaaaaa.parquet", 10, 1, "a" * 64)
    with pytest.raises(Corrupt, match="row group of datasets/d/shard-00000"):
        list(partitions(Manifest("dataset", "d", {}, (file,))))


def test_a_partition_says_where_it_is() -> None:
    """Its text names shard and ids, for the error that blames it."""
    (only,) = partitions(dataset_of([[5, 5]]))
    assert str(only) == "partition 0 (shard-00000-aaaaaaaaaaaa.parquet, image_id 1 to 10)"
