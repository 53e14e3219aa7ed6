"""The state of a run: what each dataset has so far, and what became of it."""

import logging
import platform
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from digitrec.catalog.manifest import File, canonical
from digitrec.catalog.publish import Published, find_published
from digitrec.contract import FORMAT, UNSURE_BELOW
from digitrec.errors import DigitrecError
from digitrec.progress import Progress, Step
from digitrec.scoring.compute import Outcome
from digitrec.scoring.cost import Cost, RunCost, sum_up
from digitrec.scoring.counts import Counts, below
from digitrec.scoring.executors import Executor, RefusingExecutor
from digitrec.scoring.plan import DatasetPlan
from digitrec.scoring.publication import Publisher, make_manifest, publish_predictions, tidy
from digitrec.scoring.receipts import RUNS, Receipt, find_receipt
from digitrec.scoring.request import Task
from digitrec.scoring.selection import Failure
from digitrec.scoring.submission import notes_on_ids, submission_key
from digitrec.scoring.versions import installed_versions

LOG = logging.getLogger("digitrec.scoring")


@dataclass(frozen=True)
class Scored:
    """Published predictions of a dataset. `folder`, `submission`: addresses; `already`: not by this run.

    `unsure`: rows with a confidence below `unsure_below`; `small`: rows that the small net of a cascade answered, if
    there was one; `notes`: what to know of `submission.csv`.
    """

    dataset: str
    version: str
    variant: str
    folder: str
    submission: str
    rows: int
    unsure: int
    already: bool
    seconds: float
    small: int | None = None
    unsure_below: float = UNSURE_BELOW
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        done = "already published" if self.already else f"scored in {self.seconds:.1f} s"
        limit = "" if self.unsure_below == UNSURE_BELOW else f", below {self.unsure_below:g}"
        share = f" ({self.unsure / self.rows:.1%}{limit})" if self.rows else ""
        counts = f"{self.rows:,} rows, {self.unsure:,} unsure{share}"
        if self.small is not None and self.rows:
            counts += f"; the small net answered {self.small / self.rows:.1%}"
        return [
            f"{self.dataset}: {done} with {self.version}.{self.variant}: {counts}",
            f"  predictions: {self.folder}",
            f"  submission:  {self.submission}",
            *(f"  note: {note}" for note in self.notes),
        ]


@dataclass
class DatasetState:
    """What one dataset has so far. `files`: parts by partition; `cost`: of what this run has computed; `resumed`:
    partitions that an earlier one had finished. Once it is complete, nothing changes it any more."""

    plan: DatasetPlan
    began: float = field(default_factory=time.monotonic)
    files: dict[int, File] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    cost: Cost = field(default_factory=Cost)
    rows: int = 0
    resumed: int = 0

    def keep(self, receipt: Receipt) -> None:
        """Take the receipt of a part."""
        self.files[receipt.index] = receipt.file
        self.counts += receipt.counts
        self.rows += receipt.file.rows
        if receipt.cost:
            self.cost += receipt.cost
        else:
            self.resumed += 1


Ended = Scored | Failure


class RunState:
    """Every dataset is open until it is complete or has failed; then the publisher has it, until it has `ended`.

    The thread that feeds the executor calls the methods; the publisher's thread only sees what is not open any more.
    """

    def __init__(
        self, plans: Sequence[DatasetPlan], publisher: Publisher[Ended], unsure_below: float, progress: Progress
    ) -> None:
        self.executor: Executor = RefusingExecutor()
        self.done = 0
        self._plans = plans
        self._publisher = publisher
        self._unsure_below = unsure_below
        self._progress = progress
        self._open = {plan.request.folder: DatasetState(plan) for plan in plans}
        self._ended: list[Ended] = []
        self._began = time.monotonic()
        self._unsure = 0
        self._cost = Cost()
        self.total = sum(plan.dataset.rows for plan in self.open)
        for plan in plans:
            if plan.published is not None:
                self._end(plan)

    @property
    def open(self) -> list[DatasetPlan]:
        """What is neither published, complete nor failed."""
        return [state.plan for state in self._open.values() if state.plan.published is None]

    @property
    def ended(self) -> list[Ended]:
        """What became of the datasets, in the order of the plan."""
        places = {plan.dataset.name: place for place, plan in enumerate(self._plans)}
        return sorted(self._ended, key=lambda ended: places[ended.dataset])

    def tasks(self) -> Iterator[Task]:
        """Yield what is still to be computed, lazily; receipts of earlier runs are taken as they are met."""
        self._began = time.monotonic()
        for plan in self.open:
            yield from self._tasks_of(plan)

    def record(self, task: Task, outcome: Outcome) -> None:
        """Take what became of a task. Once its dataset has failed, it is kept for the next run only."""
        state = self._open.get(task.request.folder)
        if isinstance(outcome, DigitrecError):
            LOG.error("%s: %s", task, outcome)
            if state:
                self.fail(state.plan, outcome)
        elif state:
            self._keep(state, outcome)
        self._ended += self._publisher.take_finished()

    def fail(self, plan: DatasetPlan, error: DigitrecError) -> None:
        """Give a dataset up; unless another run has published the same in the meantime."""
        self._end(plan, error)

    def finish(self) -> None:
        """Wait for all publications."""
        self._ended += self._publisher.take_finished(wait=True)

    def cost(self) -> RunCost | None:
        """Return what all datasets together took; None if nothing was computed."""
        return self._sum_up(self._cost, time.monotonic() - self._began)

    def _tasks_of(self, plan: DatasetPlan) -> Iterator[Task]:
        state = self._open[plan.request.folder]
        state.began = time.monotonic()
        for partition in plan.partitions:
            if plan.request.folder not in self._open:
                return
            task = Task(plan.request, partition)
            receipt = find_receipt(task) if partition.index in plan.finished else None
            if receipt:
                self._keep(state, receipt)
            else:
                yield task
        if not plan.partitions:
            self._end(plan)

    def _keep(self, state: DatasetState, receipt: Receipt) -> None:
        state.keep(receipt)
        self.done += receipt.file.rows
        self._unsure += receipt.counts.below(self._unsure_below)
        self._cost += receipt.cost or Cost()
        self._tell()
        if len(state.files) == len(state.plan.partitions):
            self._end(state.plan)

    def _tell(self) -> None:
        rate = self._cost.rows / max(time.monotonic() - self._began, 1e-9)
        facts = {"rows/s": f"{rate:,.0f}", "unsure": f"{self._unsure / max(self.done, 1):.1%}"}
        self._progress(Step("score", self.done, self.total, "rows", facts))

    def _end(self, plan: DatasetPlan, error: DigitrecError | None = None) -> None:
        """Close a dataset, and leave the rest to the publisher."""
        state = self._open.pop(plan.request.folder)
        self._publisher.submit(lambda: self._publish(state, error))

    # What follows is done by the publisher's thread.

    def _publish(self, state: DatasetState, error: DigitrecError | None) -> Ended:
        """Publish a dataset, if it is complete; return the report on it, or why there is none."""
        plan = state.plan
        try:
            published = self._find_or_publish(state, error)
        except DigitrecError as problem:
            return Failure(plan.dataset.name, problem)
        seconds = time.monotonic() - state.began
        notes: tuple[str, ...] = ()
        try:
            tidy(plan, published.manifest)
            if published.created:
                _note_run(state, seconds, self._sum_up(state.cost, seconds))
            notes = notes_on_ids(plan.request.store, plan.dataset, published.manifest)
        except DigitrecError as problem:  # what is published is published
            notes = (f"what follows a publication could not be done: {problem}",)
        return self._report(plan, published, seconds, notes)

    def _find_or_publish(self, state: DatasetState, error: DigitrecError | None) -> Published:
        """What stands in the store in the end. Raises what has kept it from being published."""
        plan = state.plan
        if plan.published is not None:
            return Published(plan.published, created=False)
        files = [state.files[index] for index in sorted(state.files)]
        try:
            if error:
                raise error
            return publish_predictions(plan, files, state.counts, self._publisher.proceed)
        except DigitrecError:
            with suppress(DigitrecError):
                if there := find_published(plan.request.store, make_manifest(plan.request, files, state.counts)):
                    return Published(there, created=False)
            raise

    def _report(self, plan: DatasetPlan, published: Published, seconds: float, notes: tuple[str, ...]) -> Scored:
        request, manifest = plan.request, published.manifest
        folder = request.store.address(request.folder)
        LOG.info("%s %s: %d rows", "published" if published.created else "already published:", folder, manifest.rows)
        return Scored(
            dataset=request.dataset,
            version=request.model,
            variant=request.variant,
            folder=folder,
            submission=request.store.address(submission_key(request.folder)),
            rows=manifest.rows,
            unsure=below(manifest.facts, self._unsure_below),
            already=not published.created,
            seconds=round(seconds, 3),
            small=manifest.facts.get("small"),
            unsure_below=self._unsure_below,
            notes=notes,
        )

    def _sum_up(self, cost: Cost, seconds: float) -> RunCost | None:
        return sum_up(cost, seconds, self.executor.workers, self.executor.count_memory_losses())


def _note_run(state: DatasetState, seconds: float, cost: RunCost | None) -> None:
    """Put `runs/<uuid>.json`: everything about this run that another run of the same request would not repeat."""
    body = {
        "format": FORMAT,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "seconds": round(seconds, 3),
        "rows": state.rows,
        "resumed_partitions": state.resumed,
        "computed": asdict(cost) if cost else None,
        "versions": installed_versions(),
    }
    request = state.plan.request
    key = f"{request.folder}/{RUNS}/{uuid.uuid4().hex}.json"
    request.store.storage.put(key, (canonical(body, indent=1) + "\n").encode())
