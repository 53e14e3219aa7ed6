"""What a worker does with one partition, and what it leaves behind."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import RowGroup
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import sweep_folder
from digitrec.contract import predictions_schema
from digitrec.errors import Corrupt, StorageFailed
from digitrec.options import ScoreOptions
from digitrec.scoring.compute import score_partition
from digitrec.scoring.partitions import plan_partitions
from digitrec.scoring.receipts import Receipt, attempts_folder, find_receipt, leave_receipt, receipt_key
from digitrec.scoring.request import Request, Task
from tests.places import full


def tasks_of(store: Store, options: ScoreOptions = ScoreOptions()) -> list[Task]:
    """The tasks of dataset `night`."""
    dataset, model = catalog.dataset(store, "night"), catalog.model(store, "quick-00000001")
    request = Request.of(store, dataset, model, options, "fp32")
    return [Task(request, partition) for partition in plan_partitions(dataset)]


@pytest.fixture
def task(ready: Store) -> Task:
    """The first of three."""
    return tasks_of(ready)[0]


def done(task: Task) -> Receipt:
    outcome = score_partition(task)
    assert isinstance(outcome, Receipt)
    return outcome


def part_of(task: Task, receipt: Receipt) -> str:
    return full(task.request.store, f"{task.request.folder}/{receipt.file.path}")


def files_below(task: Task) -> Iterator[Path]:
    return (path for path in Path(full(task.request.store, task.request.folder)).rglob("*") if path.is_file())


def test_a_part_has_the_contracts_columns_and_says_whose_predictions_it_holds(task: Task) -> None:
    """Columns, order and types are the contract's; the digests of dataset and model stand in the file's metadata."""
    part = pq.ParquetFile(part_of(task, done(task)))
    assert part.schema_arrow.equals(predictions_schema(keyed=True))
    assert part.metadata.metadata[b"digitrec.dataset"].decode() == task.request.dataset_digest
    assert part.metadata.metadata[b"digitrec.model"].decode() == task.request.model_digest


def test_rows_in_are_rows_out(task: Task) -> None:
    """Ids and keys come out as they went in, in the same row groups."""
    receipt = done(task)
    part = pq.ParquetFile(part_of(task, receipt))
    shard = pq.ParquetFile(full(task.request.store, task.shard_key))
    assert part.read(["image_id", "key"]).equals(shard.read(["image_id", "key"]))
    assert [part.metadata.row_group(i).num_rows for i in range(part.num_row_groups)] == [300, 200]
    assert receipt.file.row_groups == task.partition.groups
    assert sum(receipt.counts.labels) == receipt.file.rows == 500


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_confidences_are_counted(task: Task, threshold: float) -> None:
    """The receipt knows how many lie below any threshold, as the part has them."""
    receipt = done(task)
    part = pq.read_table(part_of(task, receipt))
    confidence = part["confidence"].to_numpy()
    assert receipt.counts.below(threshold) == int((confidence < np.float32(threshold)).sum())
    assert list(receipt.counts.labels) == np.bincount(part["label"].to_numpy(), minlength=10).tolist()
    assert 0 < receipt.counts.below(0.9) < 500


def test_probabilities_are_a_column_if_asked_for(ready: Store) -> None:
    """`--probabilities` adds the ten probabilities; the best is the confidence."""
    task = tasks_of(ready, ScoreOptions(probabilities=True))[0]
    part = pq.read_table(part_of(task, done(task)))
    assert part.schema.equals(predictions_schema(keyed=True, probabilities=True))
    probabilities = np.array(part["probabilities"].to_pylist(), np.float32)
    assert np.array_equal(probabilities.max(axis=1), part["confidence"].to_numpy())
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_same_partition_twice_is_the_same_part(task: Task) -> None:
    """Both attempts end in one file with one receipt, and nothing else is left."""
    once, again = done(task), done(task)
    assert once == again
    left = (part_of(task, once), full(task.request.store, receipt_key(task)))
    assert sorted(files_below(task)) == sorted(map(Path, left))


def test_a_receipt_is_found_again(task: Task) -> None:
    """What a worker left is what the next run reads."""
    assert find_receipt(task) is None
    receipt = done(task)
    assert find_receipt(task) == receipt


@pytest.mark.parametrize("damage", ["part", "receipt", "missing part"])
def test_a_receipt_that_proves_nothing_is_ignored(task: Task, damage: str) -> None:
    """A damaged part, a damaged receipt or a part that is gone: the work is simply to be done again."""
    receipt = done(task)
    path = Path(full(task.request.store, receipt_key(task)) if damage == "receipt" else part_of(task, receipt))
    data = path.read_bytes()
    if damage == "missing part":
        path.unlink()
    else:
        path.write_bytes(data.replace(b'"small": 0', b'"small": 1') if damage == "receipt" else data[:-1] + b"x")
    assert find_receipt(task) is None
    assert done(task) == find_receipt(task) == receipt


def test_a_receipt_for_another_request_or_plan_is_ignored(task: Task) -> None:
    """Receipts answer for one request and one cut of the dataset."""
    done(task)
    other_request = dataclasses.replace(task.request, model_digest="0" * 64)
    other_cut = dataclasses.replace(task.partition, groups=task.partition.groups[:1])
    assert find_receipt(Task(other_request, task.partition)) is None
    assert find_receipt(Task(task.request, other_cut)) is None


@pytest.mark.parametrize("what", ["part", "receipt"])
def test_what_is_reused_is_not_swept(task: Task, what: str) -> None:
    """A receipt that is believed, and its part, are young again, however old they were."""
    receipt = done(task)
    path = Path(full(task.request.store, receipt_key(task)) if what == "receipt" else part_of(task, receipt))
    os.utime(path, (1, 1))
    assert find_receipt(task) == receipt
    sweep_folder(task.request.store, task.request.folder)
    sweep_folder(task.request.store, attempts_folder(task.request))
    assert path.exists()


def test_a_receipt_leads_nowhere_else(task: Task) -> None:
    """Its part is a file in its own folder: a path that leads out of it is not followed."""
    receipt = done(task)
    elsewhere = f"../{Path(task.request.folder).name}/{receipt.file.path}"
    leave_receipt(task, dataclasses.replace(receipt, file=dataclasses.replace(receipt.file, path=elsewhere)))
    assert find_receipt(task) is None


def test_a_damaged_shard_is_an_outcome_that_names_it(task: Task) -> None:
    """A flipped bit is returned as `Corrupt`, not raised: it is the data's fault, not the worker's."""
    path = Path(task.shard_address)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    outcome = score_partition(task)
    assert isinstance(outcome, Corrupt)
    assert path.name in str(outcome)
    assert list(files_below(task)) == []


def test_ids_that_are_not_the_manifests_are_refused(task: Task) -> None:
    """A manifest whose row groups tell another story than the shard is not scored."""
    first = task.partition
    lie = dataclasses.replace(first, groups=(RowGroup(300, 1, 350, "0" * 16), *first.groups[1:]))
    outcome = score_partition(Task(task.request, lie))
    assert isinstance(outcome, Corrupt)
    assert "row group 0" in str(outcome)


def test_a_disk_that_fails_is_an_outcome_and_leaves_nothing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while a part is written is told in one line; the attempt is removed."""

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    outcome = score_partition(task)
    monkeypatch.undo()
    assert isinstance(outcome, StorageFailed)
    assert "No space left on device; free some space" in str(outcome)
    assert list(files_below(task)) == []
