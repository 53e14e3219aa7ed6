"""How much room a run still needs in the store: said before the work, not after half of it."""

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.contract import CLASSES
from digitrec.scoring.job import Job
from digitrec.scoring.plan import partitions
from digitrec.scoring.receipts import receipt_path
from digitrec.scoring.submission import SUBMISSION

ROW_BYTES = 16
"""Of a row in a part: two confidences (4 each, they hardly compress), three small numbers, and an id packed by its
distance from the one before."""
PROBABILITIES_BYTES = 4 * CLASSES
LINE_BYTES = 3
"""Of a line in `submission.csv` beside the id: comma, label, line feed."""
PARTITION_BYTES = 8192
"""Of a partition: its receipt, its row groups in the manifest, and what files are rounded up to."""


def still_needed(job: Job, partition_rows: int | None) -> tuple[int, int]:
    """Return how many rows have no part yet, and how many bytes they, and `submission.csv`, will take at most.

    A receipt counts as done without a look at its part: if that is damaged after all, the disk will say so.
    """
    store, work = job.work.store, job.work
    left = [part for part in partitions(job.dataset, partition_rows) if not store.exists(receipt_path(work, part))]
    rows = sum(partition.rows for partition in left)
    keys = key_bytes(store, job.dataset) if work.keyed else 0
    row = ROW_BYTES + (PROBABILITIES_BYTES if work.probabilities else 0)
    needed = rows * row + len(left) * PARTITION_BYTES + (keys * rows // job.rows if job.rows else 0)
    if not store.exists(f"{work.folder}/{SUBMISSION}"):
        ids = keys or job.rows * len(str(last_id(job.dataset)))
        needed += ids + job.rows * LINE_BYTES
    return rows, needed


def last_id(dataset: Manifest) -> int:
    return max((group.last_id for shard in dataset.data_files for group in shard.row_groups), default=0)


def key_bytes(store: Store, dataset: Manifest) -> int:
    """Return the size of a dataset's row keys as its shards' footers have it: in plain encoding each key takes its own
    bytes and four more. A shard that cannot be read counts nothing: scoring it will say why.
    """
    found = 0
    for shard in dataset.data_files:
        with suppress(OSError, pa.ArrowException), Path(store.full(shard.path)).open("rb") as file:
            footer = pq.read_metadata(file)
            place = footer.schema.to_arrow_schema().names.index("key")
            groups = (footer.row_group(index) for index in range(footer.num_row_groups))
            found += max(0, sum(group.column(place).total_uncompressed_size - 4 * group.num_rows for group in groups))
    return found
