"""Receipts: what a worker returns for a part, and leaves beside it so that the next run need not compute it again.

A receipt is believed only if it answers the same request for the same partition and the part still has its digest.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from digitrec.catalog.layout import ATTEMPTS
from digitrec.catalog.manifest import PATH, File, Json, canonical, check_file, digest_of, parse_json
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import keep_alive
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, DigitrecError
from digitrec.scoring.cost import Cost
from digitrec.scoring.counts import Counts
from digitrec.scoring.partitions import Partition
from digitrec.scoring.request import Request, Task
from digitrec.storage import NotFound

RUNS = "runs"
"""Where, beside the parts, each run notes what it took."""

_FILE = TypeAdapter(File)


@dataclass(frozen=True)
class Receipt:
    """One finished part. `file.row_groups` mirror the shard's; `counts` are of its rows.

    `cost`: what it took, if it was made just now; it is neither stored nor compared.
    """

    index: int
    file: File
    counts: Counts
    cost: Cost | None = field(default=None, compare=False)


def attempts_folder(request: Request) -> str:
    """Return where receipts lie until publication."""
    return f"{request.folder}/{ATTEMPTS}"


def receipt_name(request: Request, partition: Partition) -> str:
    """Return the name of a receipt: the same work, the same name; anything that changes a part changes it."""
    identity = [request.digest, partition.shard.sha256, partition.first_group, len(partition.groups)]
    return f"{partition.index:05d}-{digest_of(identity)[:16]}.json"


def receipt_key(task: Task) -> str:
    return f"{attempts_folder(task.request)}/{receipt_name(task.request, task.partition)}"


def find_finished(request: Request, partitions: Iterable[Partition]) -> frozenset[int]:
    """Return the indices of the partitions that seem to have a receipt, by one listing: it may lag, and decides only
    which receipts are worth a look."""
    listed = set(request.store.storage.list(attempts_folder(request)))
    if not listed:
        return frozenset()
    return frozenset(each.index for each in partitions if receipt_name(request, each) in listed)


def leave_receipt(task: Task, receipt: Receipt) -> None:
    """Write a receipt durably, once the part it speaks of is durable. Raises `StorageFailed`."""
    body: Json = {
        "format": FORMAT,
        "index": receipt.index,
        "file": asdict(receipt.file),
        "counts": vars(receipt.counts),
    }
    text = canonical(body | {"digest": digest_of(body)})
    task.request.store.storage.put(receipt_key(task), text.encode())


def find_receipt(task: Task) -> Receipt | None:
    """Return the receipt of an earlier run whose part is still there, byte for byte; None if there is none to be
    trusted. Neither is swept from now on, as long as a run may take."""
    try:
        return _read_receipt(task)
    except (NotFound, DigitrecError, ValueError, KeyError, TypeError):
        return None


def _read_receipt(task: Task) -> Receipt:
    store, key = task.request.store, receipt_key(task)
    body = parse_json(store.storage.read(key), key, "damaged")
    if body.pop("digest") != digest_of(body):
        raise Corrupt("damaged")
    counts = body["counts"]
    counted = Counts(tuple(counts["labels"]), tuple(counts["confidences"]), counts["small"])
    receipt = Receipt(body["index"], _FILE.validate_python(body["file"]), counted)
    part = f"{task.request.folder}/{receipt.file.path}"
    if not PATH.fullmatch(receipt.file.path) or receipt.file.row_groups != task.partition.groups:
        raise Corrupt("of something else")
    for used in (key, part):
        _keep_alive(store, used)
    check_file(store, part, receipt.file)
    return receipt


def _keep_alive(store: Store, key: str) -> None:
    found = store.storage.stat(key)
    if found is None or not keep_alive(store, key, found):
        raise NotFound(key)


def remove_receipts(request: Request) -> None:
    """Remove what lies in the attempts' folder: once predictions are published there, nobody needs it. Failing to is no
    failure.

    A run that is still at work on the same request removes its own.
    """
    folder = attempts_folder(request)
    with suppress(DigitrecError):
        for name in request.store.storage.list(folder):
            if not name.endswith("/"):
                request.store.storage.delete(f"{folder}/{name}")
