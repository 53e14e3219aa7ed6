"""Partitions: which rows make one, planned from a manifest alone."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitrec.catalog.manifest import File, Manifest, RowGroup
from digitrec.catalog.store import Store
from digitrec.contract import ROW_GROUP_ROWS, SHARD_ROWS
from digitrec.errors import Corrupt
from digitrec.scoring.partitions import PARTITION_ROWS, PARTITIONS, partition_rows, plan_partitions

row_group_sizes = st.lists(st.lists(st.integers(1, 5000), max_size=8), max_size=5)


def dataset_of(shards: list[list[int]]) -> Manifest:
    """A manifest of shards with row groups of these sizes; no file is behind it."""
    files, first = [], 1
    for index, sizes in enumerate(shards):
        groups = []
        for rows in sizes:
            groups.append(RowGroup(rows, first, first + rows - 1, f"{first:016x}"))
            first += rows
        files.append(File(f"shard-{index:05d}-aaaaaaaaaaaaaaaa.parquet", sum(sizes), 1, "a" * 64, tuple(groups)))
    return Manifest("dataset", "d", {}, tuple(files), facts={"labelled": False, "keyed": False})


@given(row_group_sizes, st.integers(1, 10_000))
def test_every_row_group_is_in_one_partition_in_order(shards: list[list[int]], rows: int) -> None:
    """Whatever the cut, the partitions' row groups are the dataset's, once each and in order."""
    dataset = dataset_of(shards)
    plan = plan_partitions(dataset, rows)
    assert [group for part in plan for group in part.groups] == [
        group for file in dataset.files for group in file.row_groups
    ]
    assert [part.index for part in plan] == list(range(len(plan)))


@given(row_group_sizes, st.integers(1, 10_000))
def test_a_partition_is_a_run_of_one_shard_no_larger_than_asked(shards: list[list[int]], rows: int) -> None:
    """A partition never spans shards, and exceeds the limit only if one row group alone does."""
    dataset = dataset_of(shards)
    by_path = {file.path: file for file in dataset.files}
    for part in plan_partitions(dataset, rows):
        place = slice(part.first_group, part.first_group + len(part.groups))
        assert by_path[part.shard.path].row_groups[place] == part.groups
        assert part.rows <= rows or len(part.groups) == 1


@given(st.integers(0, 10**10))
def test_small_datasets_are_cut_smaller(rows: int) -> None:
    """So that cores end together; never below a row group, never above what a crash may waste."""
    size = partition_rows(rows)
    assert ROW_GROUP_ROWS <= size <= PARTITION_ROWS
    assert rows < ROW_GROUP_ROWS * PARTITIONS or rows // size >= PARTITIONS


PLAN = """
import sys
from pathlib import Path
from digitrec.catalog import listing
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.options import ScoreOptions
from digitrec.progress import silent
from digitrec.scoring.plan import plan_dataset
from digitrec.scoring.publication import Publisher
from digitrec.scoring.request import Request
from digitrec.scoring.state import RunState

store = Store.at(sys.argv[1])
dataset = listing.dataset(store, "huge")
plan = plan_dataset(dataset, Request.of(store, dataset, Manifest("model", "m", {}, ()), ScoreOptions(), "int8"))
with Publisher() as publisher:
    state = RunState([plan], publisher, 0.9, silent)
    tasks = sum(1 for _ in state.tasks())
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(state.total, tasks, int(status["VmHWM"].split()[0]) * 1024)
"""
BILLION = 10**9


def test_a_billion_rows_are_planned_in_200_megabytes(store: Store) -> None:
    """From the bytes of a manifest as ingest writes it, its digests checked, to the last task of the run: the
    greatest resident memory of the whole process, every import included."""
    shards, rest = divmod(BILLION, SHARD_ROWS)
    huge = dataset_of([[ROW_GROUP_ROWS] * (SHARD_ROWS // ROW_GROUP_ROWS)] * shards + [[rest]])
    huge = replace(huge, name="huge").stamped()
    for path, data in huge.to_objects().items():  # its shards, which nobody opens, are not there
        store.storage.put(f"{huge.folder}/{path}", data)
    run = subprocess.run([sys.executable, "-c", PLAN, store.url], capture_output=True, text=True, check=True)
    rows, tasks, peak = map(int, run.stdout.split())
    assert (rows, tasks) == (BILLION, shards * SHARD_ROWS // PARTITION_ROWS + 1)
    assert peak <= 200e6


def test_a_manifest_that_does_not_tell_its_row_groups_is_refused() -> None:
    """Without row groups no partition could be checked, so nothing is planned."""
    file = File("shard-00000-aaaaaaaaaaaaaaaa.parquet", 10, 1, "a" * 64)
    with pytest.raises(Corrupt, match="row group of shard-00000"):
        (plan_partitions(Manifest("dataset", "d", {}, (file,))))


def test_a_manifest_whose_ids_do_not_go_up_is_refused() -> None:
    """Within a shard and from one to the next: doubled ids are found before anything is computed."""
    first, second = dataset_of([[5, 5], [5]]).files
    for files in ((second, first), (replace(first, row_groups=first.row_groups[::-1]), second), (first, first)):
        with pytest.raises(Corrupt, match="expected ids that go up"):
            plan_partitions(Manifest("dataset", "d", {}, files))


def test_planning_asks_each_row_group_once() -> None:
    """Ten times the shards, ten times the work, as the calls that Python makes show; (651d626: a hundred times)."""

    def calls(shards: int) -> int:
        made = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal made
            made += event in {"call", "c_call"}

        dataset = dataset_of([[ROW_GROUP_ROWS] * 2] * shards)
        sys.setprofile(count)
        try:
            plan_partitions(dataset)
        finally:
            sys.setprofile(None)
        return made

    assert calls(2000) <= 10.5 * calls(200)


def test_a_partition_says_where_it_is() -> None:
    """Its text names shard and ids, for the error that blames it."""
    (only,) = plan_partitions(dataset_of([[5, 5]]))
    assert str(only) == "partition 0 (shard-00000-aaaaaaaaaaaaaaaa.parquet, image_id 1 to 10)"
