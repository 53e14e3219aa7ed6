"""Receipts: what a worker returns for a part, and leaves beside it so that the next run need not do it again.

A receipt is believed only if it answers the same request for the same partition and the part still has its digest.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from digitrec.catalog.manifest import File, canonical, check_file, digest_of, file_from
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.errors import StorageFailed
from digitrec.scoring.counts import Counts
from digitrec.scoring.plan import Partition
from digitrec.store.commit import write_replacing


@dataclass(frozen=True)
class Work:
    """What all partitions of a dataset have in common. A path and digests: neither model nor pixels travel with it.

    `folder` is where the predictions go; `request` is the digest of everything that decides their content.
    """

    store: Store
    dataset: str
    dataset_digest: str
    keyed: bool
    model: str
    model_digest: str
    precision: Arithmetic
    cascade: bool
    probabilities: bool
    folder: str
    request: str


@dataclass(frozen=True)
class Receipt:
    """One finished part. `file.row_groups` mirror the shard's; `counts` are of its rows."""

    index: int
    file: File
    counts: Counts


@dataclass(frozen=True)
class Cost:
    """What a partition took: wall and CPU seconds, and the worker's peak memory so far in bytes."""

    seconds: float
    cpu_s: float
    peak_bytes: int


def attempts_folder(work: Work) -> str:
    """Where parts are written before they have a name, and receipts lie until publication."""
    return f"{work.folder}/_attempts"


def receipt_path(work: Work, partition: Partition) -> str:
    """The same work, the same path: anything that changes a part changes this name."""
    identity = digest_of([work.request, asdict(partition)])
    return f"{attempts_folder(work)}/{partition.index:05d}-{identity[:16]}.json"


def leave_receipt(work: Work, partition: Partition, receipt: Receipt) -> None:
    """Write a receipt durably, once the part it speaks of is durable."""
    body = asdict(receipt)
    text = canonical(body | {"digest": digest_of(body)})
    write_replacing(work.store, receipt_path(work, partition), text.encode())


def find_receipt(work: Work, partition: Partition) -> Receipt | None:
    """The receipt of an earlier run whose part is still there, byte for byte; None if there is none to be trusted."""
    try:
        body = json.loads(Path(work.store.full(receipt_path(work, partition))).read_bytes())
        if digest_of({name: body[name] for name in body if name != "digest"}) != body["digest"]:
            return None
        counts = body["counts"]
        counted = Counts(tuple(counts["labels"]), tuple(counts["confidences"]), counts["small"])
        receipt = Receipt(body["index"], file_from(body["file"]), counted)
        check_file(work.store, receipt.file)
    except (OSError, ValueError, KeyError, TypeError, StorageFailed):
        return None
    return receipt if receipt.file.row_groups == partition.groups else None
