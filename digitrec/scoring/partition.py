"""One partition: read → predict → write → receipt. What a worker runs; what it returns is small, pixels stay here.

An error that the world causes (damaged bytes, a full disk) is returned, not raised: it is a result, told once by the
driver with the partition's name. What is raised is a bug.
"""

import os
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.layout import digest_name
from digitrec.catalog.manifest import File, RowGroup
from digitrec.catalog.reader import images_of, open_verified
from digitrec.contract import CLASSES, arrow, predictions_schema
from digitrec.errors import Corrupt, DigitrecError, storage_errors
from digitrec.scoring.counts import Counts
from digitrec.scoring.engine import load_engine
from digitrec.scoring.plan import Partition
from digitrec.scoring.predict import Engine, Predictions, classify
from digitrec.scoring.receipts import Cost, Receipt, Work, attempts_folder, leave_receipt
from digitrec.store.commit import make_folder, settle, sha256_of

PARQUET = {
    "compression": "zstd",
    "compression_level": 1,
    "write_page_checksum": True,
    "use_dictionary": ["label", "runner_up", "net"],
    "column_encoding": {"image_id": "DELTA_BINARY_PACKED"},
}
"""Ids go up and confidences hardly repeat: dictionaries of them take three times as long to write, and two thirds more
room."""


@dataclass(frozen=True)
class Done:
    """A finished partition, and what it took."""

    receipt: Receipt
    cost: Cost


Outcome = Done | DigitrecError


def load_published(work: Work) -> Engine:
    """The model version that the work names."""
    return load_engine(work.store, work.model, work.model_digest, work.precision, work.cascade)


def score_partition(work: Work, partition: Partition, load: Callable[[Work], Engine] = load_published) -> Outcome:
    """Score one partition on one core, and leave its part and receipt in the store.

    Doing it twice, or in two places at once, is harmless: the part has its digest in its name.
    """
    began, began_cpu = time.perf_counter(), time.thread_time()
    try:
        receipt = make_part(work, partition, load(work))
        leave_receipt(work, partition, receipt)
    except DigitrecError as error:
        return error
    cost = Cost(time.perf_counter() - began, time.thread_time() - began_cpu, peak_bytes())
    return Done(receipt, cost)


def make_part(work: Work, partition: Partition, engine: Engine) -> Receipt:
    """Write the part under a name of its own, sync and hash it, and give it the name that carries its digest."""
    counts = Counts()
    with attempt(work, partition) as (file, staged):
        with pq.ParquetWriter(file, part_schema(work), **PARQUET) as writer:
            for rows in read_groups(work, partition):
                predictions = classify(engine, images_of(rows["image"]))
                writer.write_table(part_table(work, rows, predictions), row_group_size=max(1, rows.num_rows))
                counts += Counts.of(predictions.label, predictions.confidence, predictions.net)
        file.flush()
        os.fsync(file.fileno())
        part = settled(work, partition, staged)
    return Receipt(partition.index, part, counts)


@contextmanager
def attempt(work: Work, partition: Partition) -> Iterator[tuple[BinaryIO, str]]:
    """An open file under a name nobody else uses, and that store-relative name; removed however this ends."""
    with storage_errors("write a part to", work.store.full(attempts_folder(work))):
        folder = make_folder(work.store, attempts_folder(work))
        name = f"{partition.index:05d}-{uuid.uuid4().hex}.tmp"
        try:
            with open(f"{folder}/{name}", "xb") as file:
                yield file, f"{attempts_folder(work)}/{name}"
        finally:
            Path(f"{folder}/{name}").unlink(missing_ok=True)


def settled(work: Work, partition: Partition, staged: str) -> File:
    """Move a synced part to its final name and describe it."""
    full = Path(work.store.full(staged))
    size, digest = full.stat().st_size, sha256_of(full)
    path = f"{work.folder}/{digest_name('part', partition.index, digest)}"
    settle(work.store, staged, path, digest)
    return File(path, partition.rows, size, digest, partition.groups)


def read_groups(work: Work, partition: Partition) -> Iterator[pa.Table]:
    """The partition's row groups, one at a time, each checked against the manifest.

    Raises `Corrupt`, naming the shard, if its bytes, rows or ids are not the ones that were sealed.
    """
    columns = ["image_id", *(["key"] if work.keyed else []), "image"]
    full = work.store.full(partition.shard.path)
    with open_verified(work.store, partition.shard) as shard:
        for place, expected in enumerate(partition.groups, start=partition.first_group):
            try:
                rows = shard.read_row_group(place, columns=columns, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise Corrupt(f"{full} cannot be read at row group {place}: {error}") from error
            ids = ids_of(rows)
            if RowGroup.of(ids) != expected or (np.diff(ids) <= 0).any():
                raise Corrupt(f"{full}: the ids of row group {place} are not those its manifest names, going up")
            yield rows


def ids_of(rows: pa.Table) -> np.ndarray:
    """The `image_id` column as int64 [n]."""
    chunks = rows["image_id"].chunks
    return np.concatenate(
        [np.frombuffer(chunk.buffers()[1], np.int64, len(chunk), chunk.offset * 8) for chunk in chunks]
    )


def part_schema(work: Work) -> pa.Schema:
    """The part's columns; whose predictions they are stands in the file's metadata."""
    schema = predictions_schema(keyed=work.keyed, probabilities=work.probabilities, cascade=work.cascade)
    return schema.with_metadata({"digitrec.dataset": work.dataset_digest, "digitrec.model": work.model_digest})


def part_table(work: Work, rows: pa.Table, predictions: Predictions) -> pa.Table:
    """One row group of a part: the ids (and keys) as they were read, and what the network says."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "image_id": rows["image_id"],
        "label": arrow(predictions.label),
        "confidence": arrow(predictions.confidence),
        "runner_up": arrow(predictions.runner_up),
        "runner_up_confidence": arrow(predictions.runner_up_confidence),
    }
    if work.keyed:
        columns["key"] = rows["key"]
    if predictions.net is not None:
        columns["net"] = arrow(predictions.net)
    if work.probabilities:
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(arrow(predictions.probabilities.ravel()), CLASSES)
    schema = part_schema(work)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def peak_bytes() -> int:
    """The most memory this process has held, in bytes (Linux counts it in KiB: getrusage(2))."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
