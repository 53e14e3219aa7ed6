"""From finished parts to published predictions: the proof that they are whole, the manifest, and what is tidied then.

A thread of its own does it, one dataset at a time, so that workers are fed meanwhile.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from types import TracebackType
from typing import Generic, TypeVar

from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.manifest import File, Manifest, find_manifest
from digitrec.catalog.publish import Published, find_published, publish
from digitrec.catalog.sweep import sweep_folder
from digitrec.errors import ComputationFailed, DigitrecError, Interrupted, TryAgain
from digitrec.process import is_interrupt
from digitrec.scoring.counts import Counts
from digitrec.scoring.plan import DatasetPlan
from digitrec.scoring.receipts import remove_receipts
from digitrec.scoring.request import Request
from digitrec.scoring.selection import remove_note
from digitrec.scoring.submission import SUBMISSION, submission_key, write_submission

LOG = logging.getLogger("digitrec.scoring")
WAITING_MAX = 100
"""So many complete datasets may wait for publication; then workers wait as well: the store does not keep up."""
T = TypeVar("T")


class Publisher(Generic[T]):
    """A thread that publishes, in the order in which datasets are complete.

    However the block ends, what was submitted is finished first; but on an interrupt it is stopped before its next
    step: what is not published then is not visible, and its receipts are kept.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._waiting: deque[Future[T]] = deque()
        self._stopped = Event()

    def __enter__(self) -> "Publisher[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and is_interrupt(kind):
            self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=self._stopped.is_set())

    def proceed(self) -> None:
        """Raise `Interrupted` if the run has been stopped; called between the steps of a publication."""
        if self._stopped.is_set():
            raise Interrupted("stopped while predictions were published; nothing of them is visible")

    def submit(self, work: Callable[[], T]) -> None:
        """Have something done by the thread; wait if too much is waiting already."""
        if len(self._waiting) >= WAITING_MAX:  # also if the first of them are done, and nobody has taken them
            self._waiting[-WAITING_MAX].exception()
        self._waiting.append(self._pool.submit(work))

    def take_finished(self, *, wait: bool = False) -> Iterator[T]:
        """Yield what came of what was submitted, in that order: as far as it is finished, or all of it."""
        while self._waiting and (wait or self._waiting[0].done()):
            yield self._waiting.popleft().result()


def publish_predictions(
    plan: DatasetPlan, files: Sequence[File], counts: Counts, proceed: Callable[[], None] = lambda: None
) -> Published:
    """Prove that the parts, by partition, are the dataset, row for row, and make them visible; return what stands there
    then, which is another run's work if that was first.

    `submission.csv` is written before the manifest: a disk that is full for it leaves nothing published without it. If
    another run's predictions stand there in the end, it is written again, of those.
    Raises `TryAgain` if the dataset is not the one any more that was scored, `ComputationFailed`, `StorageFailed`,
    `AlreadyPublished`.
    """
    prove(plan, files)
    _check_dataset(plan.request)
    store, manifest = plan.request.store, make_manifest(plan.request, files, counts)
    if there := find_published(store, manifest):
        return Published(there, created=False)
    write_submission(store, manifest, proceed)
    try:
        _check_dataset(plan.request)  # again: that took its time
        proceed()
        published = publish(store, manifest)
    except DigitrecError:
        with suppress(DigitrecError):
            if there := find_manifest(store, manifest.folder):
                write_submission(store, there)
        raise
    if published.manifest.digest != manifest.digest:
        write_submission(store, published.manifest)
    return published


def make_manifest(request: Request, files: Sequence[File], counts: Counts) -> Manifest:
    """Return what these parts, in order, would publish. The facts are counts, the same in every run."""
    small = {"small": counts.small} if request.cascade else {}
    return Manifest(
        kind="predictions",
        name=f"{request.dataset}/{request.model}.{request.variant}",
        asked=request.asked,
        files=tuple(files),
        facts={"rows": sum(file.rows for file in files), "keyed": request.keyed} | counts.facts() | small,
    )


def prove(plan: DatasetPlan, files: Sequence[File]) -> None:
    """Rows in = rows out: there is one part for each partition, with its row groups. (That those are the dataset's, in
    order, each id once, is the plan's.)

    Raises `ComputationFailed` if not; nothing is published then.
    """
    name = plan.dataset.name
    if len(files) != len(plan.partitions):
        raise ComputationFailed(f"{name}: there is not one receipt for each partition; nothing was published")
    if any(file.row_groups != each.groups for file, each in zip(files, plan.partitions, strict=True)):
        raise ComputationFailed(f"{name}: the parts' ids are not the dataset's; nothing was published")


def tidy(plan: DatasetPlan, published: Manifest) -> None:
    """Once predictions stand: write `submission.csv` if it is gone, remove receipts and the dataset's note, and sweep
    what no manifest names and nobody may still be writing."""
    store, folder = plan.request.store, plan.request.folder
    if not store.storage.exists(submission_key(folder)):
        write_submission(store, published)
    remove_receipts(plan.request)
    remove_note(store, plan.dataset)
    sweep_folder(store, folder, keep={SUBMISSION})


def _check_dataset(request: Request) -> None:
    """Raise `TryAgain` if the dataset was removed or replaced while it was scored."""
    there = find_manifest(request.store, dataset_folder(request.dataset))
    if there is None or there.digest != request.dataset_digest:
        raise TryAgain(
            f"dataset {request.dataset} was {'replaced' if there else 'removed'} while it was scored; run it again"
        )
