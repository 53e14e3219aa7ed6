"""The state of a run: what each dataset has, what it still lacks, and what became of it."""

import logging
import platform
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from digitrec.catalog.manifest import File, Manifest, canonical
from digitrec.contract import FORMAT, UNSURE_BELOW
from digitrec.errors import DigitrecError
from digitrec.progress import Progress, Step
from digitrec.scoring.cluster import installed_versions
from digitrec.scoring.cost import LONG_S, RunCost, cost_of
from digitrec.scoring.counts import Counts, below
from digitrec.scoring.job import RUNS, Job, find_published, publish_job, tidy
from digitrec.scoring.partition import Outcome
from digitrec.scoring.plan import partitions
from digitrec.scoring.receipts import Cost, Receipt, find_receipt, receipt_path
from digitrec.scoring.replaced import set_aside
from digitrec.scoring.submission import SUBMISSION, notes_on_ids
from digitrec.scoring.window import Task
from digitrec.store.commit import write_replacing

LOG = logging.getLogger("digitrec.scoring")


@dataclass(frozen=True)
class Scored:
    """Published predictions of a dataset. `folder`, `submission`: full paths; `already`: not by this run.

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


@dataclass(frozen=True)
class Failure:
    """A dataset whose predictions are not published, and why."""

    dataset: str
    error: DigitrecError


@dataclass
class Account:
    """What one job has so far. `parts`: by partition; `computed`: rows of this run; `resumed`: partitions that an
    earlier one had finished."""

    job: Job
    began: float = field(default_factory=time.monotonic)
    parts: dict[int, File] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    costs: list[Cost] = field(default_factory=list)
    rows: int = 0
    computed: int = 0
    resumed: int = 0

    def keep(self, receipt: Receipt, cost: Cost | None) -> None:
        self.parts[receipt.index] = receipt.file
        self.counts += receipt.counts
        self.rows += receipt.file.rows
        if cost:
            self.costs.append(cost)
            self.computed += receipt.file.rows
        else:
            self.resumed += 1


@dataclass(frozen=True)
class Crew:
    """Who computes: so many workers at a time, what they could do at best (`cost.cost_of`), and how many were lost.

    The last two are found out when they are asked for.
    """

    workers: int = 1
    ceiling: Callable[[], float | None] = lambda: None
    memory_losses: Callable[[], int] = lambda: 0

    def cost(self, costs: list[Cost], rows: int, seconds: float) -> RunCost | None:
        """What was computed; None if nothing was."""
        if not costs:
            return None
        ceiling = self.ceiling() if seconds >= LONG_S else None
        return cost_of(costs, rows, seconds, self.workers, ceiling, self.memory_losses())


class Ledger:
    """Every job is open until it is in `scored` or `failures`.

    `done`, `total`: rows, over the jobs of this run; `computed`, `costs`: of what no earlier run had finished; `notes`:
    what was set aside.
    """

    def __init__(self, jobs: Iterable[Job], partition_rows: int | None, progress: Progress) -> None:
        self.partition_rows = partition_rows
        self.progress = progress
        self.scored: list[Scored] = []
        self.failures: list[Failure] = []
        self.notes: list[str] = []
        self.open: dict[str, Account] = {}
        for job in jobs:
            self.enter(job)
        self.began = time.monotonic()
        self.total = sum(account.job.rows for account in self.open.values())
        self.done = self.computed = self.unsure = 0
        self.costs: list[Cost] = []
        self.crew = Crew()

    def enter(self, job: Job) -> None:
        """Open an account, unless the work was done before, or something else stands in its place."""
        account = Account(job)
        try:
            self.notes += set_aside(job.work.store, job.dataset)
            there = find_published(job)
            if there is None:
                self.open[job.work.folder] = account
            else:
                self.settle(account, there, already=True)
        except DigitrecError as error:
            self.fail(account, error)

    def tasks(self) -> Iterator[Task]:
        """What is still to be computed, lazily; receipts of earlier runs are taken as they are met."""
        self.began = time.monotonic()
        for account in list(self.open.values()):
            try:
                yield from self.tasks_of(account)
            except DigitrecError as error:
                self.fail(account, error)

    def tasks_of(self, account: Account) -> Iterator[Task]:
        job = account.job
        account.began = time.monotonic()
        for partition in partitions(job.dataset, self.partition_rows):
            if job.work.folder not in self.open:
                return
            if receipt := find_receipt(job.work, partition):
                self.keep(account, receipt, None)
            else:
                yield Task(job.work, partition)
        if job.rows == 0:
            self.publish(account)

    def record(self, task: Task, outcome: Outcome) -> None:
        """Take what became of a task. Once its dataset has failed, it is kept for the next run only."""
        account = self.open.get(task.work.folder)
        if isinstance(outcome, DigitrecError):
            LOG.error("%s: %s", task, outcome)
            if account:
                self.fail(account, outcome)
        elif account:
            self.keep(account, outcome.receipt, outcome.cost)

    def keep(self, account: Account, receipt: Receipt, cost: Cost | None) -> None:
        account.keep(receipt, cost)
        self.done += receipt.file.rows
        self.unsure += receipt.counts.below(account.job.unsure_below)
        if cost:
            self.costs.append(cost)
            self.computed += receipt.file.rows
        self.tell()
        if account.rows == account.job.rows:
            self.publish(account)

    def publish(self, account: Account) -> None:
        """A dataset is complete: prove it, publish it, and write down what it took."""
        job = account.job
        try:
            manifest, created = publish_job(job, account.parts, account.counts)
            for partition in partitions(job.dataset, self.partition_rows):
                Path(job.work.store.full(receipt_path(job.work, partition))).unlink(missing_ok=True)
            self.settle(account, manifest, already=not created)
        except DigitrecError as error:
            self.fail(account, error)

    def settle(self, account: Account, manifest: Manifest, *, already: bool) -> None:
        """The predictions stand: derive `submission.csv` and close the account."""
        job = account.job
        tidy(job, manifest)
        seconds = time.monotonic() - account.began
        if not already:
            note_run(account, seconds, self.crew.cost(account.costs, account.computed, seconds))
        work = job.work
        folder = work.store.full(work.folder)
        scored = Scored(
            dataset=job.name,
            version=work.model,
            variant=str(job.asked["variant"]),
            folder=folder,
            submission=f"{folder}/{SUBMISSION}",
            rows=manifest.rows,
            unsure=below(manifest.facts, job.unsure_below),
            already=already,
            seconds=round(seconds, 3),
            small=manifest.facts.get("small"),
            unsure_below=job.unsure_below,
            notes=notes_on_ids(work.store, job.dataset, manifest),
        )
        self.open.pop(work.folder, None)
        self.scored.append(scored)
        LOG.info("%s %s: %d rows", "already published:" if already else "published", folder, manifest.rows)

    def fail(self, account: Account, error: DigitrecError) -> None:
        """Close an account without predictions; unless another run published the same in the meantime."""
        self.open.pop(account.job.work.folder, None)
        with suppress(DigitrecError):
            if there := find_published(account.job):
                self.settle(account, there, already=True)
                return
        self.failures.append(Failure(account.job.name, error))

    @property
    def seconds(self) -> float:
        """Since the first task went out."""
        return time.monotonic() - self.began

    def cost(self) -> RunCost | None:
        """Of all datasets together; None if nothing was computed."""
        return self.crew.cost(self.costs, self.computed, self.seconds)

    def tell(self) -> None:
        """Say how far the run is."""
        rate = self.computed / max(self.seconds, 1e-9)
        facts = {"rows/s": f"{rate:,.0f}", "unsure": f"{self.unsure / max(self.done, 1):.1%}"}
        self.progress(Step("score", self.done, self.total, "rows", facts))


def note_run(account: Account, seconds: float, cost: RunCost | None) -> None:
    """`runs/<uuid>.json`: everything about this run that another run of the same request would not repeat."""
    body = {
        "format": FORMAT,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "seconds": round(seconds, 3),
        "rows": account.rows,
        "resumed_partitions": account.resumed,
        "computed": asdict(cost) if cost else None,
        "versions": installed_versions(),
    }
    path = f"{account.job.work.folder}/{RUNS}/{uuid.uuid4().hex}.json"
    write_replacing(account.job.work.store, path, (canonical(body, indent=1) + "\n").encode())
