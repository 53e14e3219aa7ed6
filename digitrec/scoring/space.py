"""How many bytes a run still has to write: said before the work, not after half of it."""

from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.contract import CLASSES
from digitrec.errors import DigitrecError
from digitrec.scoring.partitions import Partition
from digitrec.scoring.request import Request
from digitrec.scoring.submission import submission_key
from digitrec.storage import NotFound

ROW_BYTES = 16
"""Of a row in a part: two confidences (4 each, they hardly compress), three small numbers, and an id packed by its
distance from the one before."""
PROBABILITIES_BYTES = 4 * CLASSES
LINE_BYTES = 3
"""Of a line in `submission.csv` beside the id: comma, label, line feed."""
PARTITION_BYTES = 8192
"""Of a partition: its receipt, its row groups in the manifest, and what files are rounded up to."""


def estimate_bytes(request: Request, dataset: Manifest, left: Sequence[Partition]) -> int:
    """Return how many bytes the parts of the partitions that are left, and `submission.csv`, will take at most.

    A receipt counts as done without a look at its part: if that is damaged after all, the disk will say so.
    """
    store, total, rows = request.store, dataset.rows, sum(each.rows for each in left)
    keys = key_bytes(store, dataset) if request.keyed else 0
    row = ROW_BYTES + (PROBABILITIES_BYTES if request.probabilities else 0)
    needed = rows * row + len(left) * PARTITION_BYTES + (keys * rows // total if total else 0)
    if not store.storage.exists(submission_key(request.folder)):
        needed += (keys or total * len(str(_last_id(dataset)))) + total * LINE_BYTES
    return needed


def key_bytes(store: Store, dataset: Manifest) -> int:
    """Return the size of a dataset's row keys as its shards' footers have it: in plain encoding each key takes its own
    bytes and four more. A shard that cannot be read counts nothing: scoring it will say why.
    """
    found = 0
    for shard in dataset.data_files:
        with (
            suppress(NotFound, OSError, pa.ArrowException, DigitrecError),
            store.storage.open(dataset.key(shard)) as file,
        ):
            footer = pq.read_metadata(file)
            place = footer.schema.to_arrow_schema().names.index("key")
            groups = (footer.row_group(index) for index in range(footer.num_row_groups))
            found += max(0, sum(group.column(place).total_uncompressed_size - 4 * group.num_rows for group in groups))
    return found


def _last_id(dataset: Manifest) -> int:
    return max((group.last_id for shard in dataset.data_files for group in shard.row_groups), default=0)
