"""What a worker does with one partition, and what it leaves behind."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from digitrec.scoring.job import Job, prepare

from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import RowGroup
from digitrec.catalog.store import Store
from digitrec.contract import predictions_schema
from digitrec.errors import Corrupt, StorageFailed
from digitrec.options import ScoreOptions
from digitrec.scoring import compute as room
from digitrec.scoring.compute import Done, score_partition
from digitrec.scoring.plan import Partition, partitions
from digitrec.scoring.receipts import find_receipt, receipt_path
from tests.places import full


@pytest.fixture
def job(ready: Store) -> Job:
    return prepare(
        ready, catalog.dataset(ready, "night"), catalog.model(ready, "quick-00000001"), ScoreOptions(), "fp32"
    )


@pytest.fixture
def first(job: Job) -> Partition:
    return next(partitions(job.dataset))


def done(job: Job, partition: Partition) -> Done:
    outcome = score_partition(job.work, partition)
    assert isinstance(outcome, Done)
    return outcome


def files_below(job: Job) -> Iterator[Path]:
    return (path for path in Path(job.work.full(store, job.work.folder)).rglob("*") if path.is_file())


def test_a_part_has_the_contracts_columns_and_says_whose_predictions_it_holds(job: Job, first: Partition) -> None:
    """Columns, order and types are the contract's; the digests of dataset and model stand in the file's metadata."""
    part = pq.ParquetFile(job.work.full(store, done(job, first).receipt.file.path))
    assert part.schema_arrow.equals(predictions_schema(keyed=True))
    assert part.metadata.metadata[b"digitrec.dataset"].decode() == job.dataset.digest
    assert part.metadata.metadata[b"digitrec.model"].decode() == job.work.model_digest


def test_rows_in_are_rows_out(job: Job, first: Partition) -> None:
    """Ids and keys come out as they went in, in the same row groups."""
    receipt = done(job, first).receipt
    part = pq.ParquetFile(job.work.full(store, receipt.file.path))
    shard = pq.ParquetFile(job.work.full(store, first.shard.path))
    assert part.read(["image_id", "key"]).equals(shard.read(["image_id", "key"]))
    assert [part.metadata.row_group(i).num_rows for i in range(part.num_row_groups)] == [300, 200]
    assert receipt.file.row_groups == first.groups
    assert sum(receipt.counts.labels) == receipt.file.rows == 500


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_confidences_are_counted(job: Job, first: Partition, threshold: float) -> None:
    """The receipt knows how many lie below any threshold, as the part has them."""
    receipt = done(job, first).receipt
    part = pq.read_table(job.work.full(store, receipt.file.path))
    confidence = part["confidence"].to_numpy()
    assert receipt.counts.below(threshold) == int((confidence < np.float32(threshold)).sum())
    assert list(receipt.counts.labels) == np.bincount(part["label"].to_numpy(), minlength=10).tolist()
    assert 0 < receipt.counts.below(0.9) < 500


def test_probabilities_are_a_column_if_asked_for(ready: Store) -> None:
    """`--probabilities` adds the ten probabilities; the best is the confidence."""
    job = prepare(
        ready,
        catalog.dataset(ready, "night"),
        catalog.model(ready, "quick-00000001"),
        ScoreOptions(probabilities=True),
        "fp32",
    )
    part = pq.read_table(full(ready, done(job, next(partitions(job.dataset))).receipt.file.path))
    assert part.schema.equals(predictions_schema(keyed=True, probabilities=True))
    probabilities = np.array(part["probabilities"].to_pylist(), np.float32)
    assert np.array_equal(probabilities.max(axis=1), part["confidence"].to_numpy())
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_same_partition_twice_is_the_same_part(job: Job, first: Partition) -> None:
    """Both attempts end in one file with one receipt, and nothing else is left."""
    once, again = done(job, first), done(job, first)
    assert once.receipt == again.receipt
    assert sorted(files_below(job)) == sorted(
        Path(job.work.full(store, path)) for path in (once.receipt.file.path, receipt_path(job.work, first))
    )


def test_a_receipt_is_found_again(job: Job, first: Partition) -> None:
    """What a worker left is what the next run reads."""
    assert find_receipt(job.work, first) is None
    receipt = done(job, first).receipt
    assert find_receipt(job.work, first) == receipt


@pytest.mark.parametrize("damage", ["part", "receipt", "missing part"])
def test_a_receipt_that_proves_nothing_is_ignored(job: Job, first: Partition, damage: str) -> None:
    """A damaged part, a damaged receipt or a part that is gone: the work is simply to be done again."""
    receipt = done(job, first).receipt
    path = Path(job.work.full(store, receipt_path(job.work, first) if damage == "receipt" else receipt.file.path))
    data = path.read_bytes()
    if damage == "missing part":
        path.unlink()
    else:
        path.write_bytes(data.replace(b'"small": 0', b'"small": 1') if damage == "receipt" else data[:-1] + b"x")
    assert find_receipt(job.work, first) is None
    assert done(job, first).receipt == find_receipt(job.work, first) == receipt


def test_a_receipt_for_another_request_or_plan_is_ignored(job: Job, first: Partition) -> None:
    """Receipts answer for one request and one cut of the dataset."""
    done(job, first)
    other_request = dataclasses.replace(job.work, request="0" * 64)
    other_cut = dataclasses.replace(first, groups=first.groups[:1])
    assert find_receipt(other_request, first) is None
    assert find_receipt(job.work, other_cut) is None


def test_a_damaged_shard_is_an_outcome_that_names_it(job: Job, first: Partition) -> None:
    """A flipped bit is returned as `Corrupt`, not raised: it is the data's fault, not the worker's."""
    path = Path(job.work.full(store, first.shard.path))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    outcome = score_partition(job.work, first)
    assert isinstance(outcome, Corrupt)
    assert path.name in str(outcome)
    assert list(files_below(job)) == []


def test_ids_that_are_not_the_manifests_are_refused(job: Job, first: Partition) -> None:
    """A manifest whose row groups tell another story than the shard is not scored."""
    lie = dataclasses.replace(first, groups=(RowGroup(300, 1, 350, "0" * 16), *first.groups[1:]))
    outcome = score_partition(job.work, lie)
    assert isinstance(outcome, Corrupt)
    assert "row group 0" in str(outcome)


def test_a_disk_that_fails_is_an_outcome_and_leaves_nothing(
    job: Job, first: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while a part is written is told in one line; the attempt is removed."""

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room.os, "fsync", full_disk)
    outcome = score_partition(job.work, first)
    monkeypatch.undo()
    assert isinstance(outcome, StorageFailed)
    assert "No space left on device; free some space" in str(outcome)
    assert list(files_below(job)) == []
