"""One partition: read → predict → write → receipt. What a worker runs; what it returns is small, pixels stay here.

An error that the world causes (damaged bytes, a full disk) is returned, not raised: it is a result, told once by the
driver with the partition's name. What is raised is a bug.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.manifest import RowGroup
from digitrec.catalog.publish import upload
from digitrec.catalog.reader import images_of, open_verified
from digitrec.contract import CLASSES, arrow, predictions_schema
from digitrec.errors import Corrupt, DigitrecError
from digitrec.scoring.cost import Cost, peak_bytes
from digitrec.scoring.counts import Counts
from digitrec.scoring.engine import load_engine
from digitrec.scoring.predict import Engine, Predictions, classify
from digitrec.scoring.receipts import Receipt, leave_receipt
from digitrec.scoring.request import Request, Task

PARQUET = {
    "compression": "zstd",
    "compression_level": 1,
    "write_page_checksum": True,
    "use_dictionary": ["label", "runner_up", "net"],
    "column_encoding": {"image_id": "DELTA_BINARY_PACKED"},
}
"""Ids go up and confidences hardly repeat: dictionaries of them take three times as long to write, and two thirds more
room."""

Outcome = Receipt | DigitrecError


def load_published(request: Request) -> Engine:
    """Load the model version that a request names."""
    return load_engine(request.store, request.model, request.model_digest, request.precision, request.cascade)


def score_partition(task: Task, load: Callable[[Request], Engine] = load_published) -> Outcome:
    """Score one partition on one core, and leave its part and receipt in the store.

    Doing it twice, or in two places at once, is harmless: the part has its digest in its name.
    """
    began, began_cpu = time.perf_counter(), time.thread_time()
    try:
        receipt = _make_part(task, load(task.request))
        leave_receipt(task, receipt)
    except DigitrecError as error:
        return error
    seconds, cpu_s = time.perf_counter() - began, time.thread_time() - began_cpu
    return replace(receipt, cost=Cost(task.partition.rows, 1, seconds, cpu_s, peak_bytes()))


def _make_part(task: Task, engine: Engine) -> Receipt:
    """Write the part, hashed on the way, and give it the name that carries its digest."""
    request, partition, counts = task.request, task.partition, Counts()
    with request.store.storage.scratch() as scratch:
        staged = scratch.create("part.parquet")
        with staged, pq.ParquetWriter(staged, _part_schema(request), **PARQUET) as writer:
            for rows in _read_groups(task):
                predictions = classify(engine, images_of(rows["image"]))
                writer.write_table(_part_table(request, rows, predictions), row_group_size=max(1, rows.num_rows))
                counts += Counts.of(predictions.label, predictions.confidence, predictions.net)
        name = f"part-{partition.index:05d}.parquet"
        part = upload(request.store, request.folder, staged, name, rows=partition.rows, row_groups=partition.groups)
    return Receipt(partition.index, part, counts)


def _read_groups(task: Task) -> Iterator[pa.Table]:
    """The partition's row groups, one at a time, each checked against the manifest.

    Raises `Corrupt`, naming the shard, if its bytes, rows or ids are not the ones that were published.
    """
    partition = task.partition
    columns = ["image_id", *(["key"] if task.request.keyed else []), "image"]
    with open_verified(task.request.store, task.shard_key, partition.shard) as shard:
        for place, expected in enumerate(partition.groups, start=partition.first_group):
            try:
                rows = shard.read_row_group(place, columns=columns, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise Corrupt(f"{task.shard_address} cannot be read at row group {place}: {error}") from error
            ids = ids_of(rows)
            if RowGroup.of(ids) != expected or (np.diff(ids) <= 0).any():
                raise Corrupt(
                    f"{task.shard_address}: the ids of row group {place} are not those its manifest names, going up"
                )
            yield rows


def ids_of(rows: pa.Table) -> np.ndarray:
    """Return the `image_id` column as int64 [n]."""
    chunks = rows["image_id"].chunks
    return np.concatenate(
        [np.frombuffer(chunk.buffers()[1], np.int64, len(chunk), chunk.offset * 8) for chunk in chunks]
    )


def _part_schema(request: Request) -> pa.Schema:
    """The part's columns; whose predictions they are stands in the file's metadata."""
    schema = predictions_schema(keyed=request.keyed, probabilities=request.probabilities, cascade=request.cascade)
    return schema.with_metadata({"digitrec.dataset": request.dataset_digest, "digitrec.model": request.model_digest})


def _part_table(request: Request, rows: pa.Table, predictions: Predictions) -> pa.Table:
    """One row group of a part: the ids (and keys) as they were read, and what the network says."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "image_id": rows["image_id"],
        "label": arrow(predictions.label),
        "confidence": arrow(predictions.confidence),
        "runner_up": arrow(predictions.runner_up),
        "runner_up_confidence": arrow(predictions.runner_up_confidence),
    }
    if request.keyed:
        columns["key"] = rows["key"]
    if predictions.net is not None:
        columns["net"] = arrow(predictions.net)
    if request.probabilities:
        columns["probabilities"] = pa.FixedSizeListArray.from_arrays(arrow(predictions.probabilities.ravel()), CLASSES)
    schema = _part_schema(request)
    return pa.table([columns[name] for name in schema.names], schema=schema)
