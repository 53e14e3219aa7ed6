"""score(): datasets × a model version → published predictions, over one cluster and one window of partitions."""

import shutil
from dataclasses import dataclass
from functools import cache

from digitrec.catalog import listing as catalog
from digitrec.catalog.bundled import Ruling, ruling
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.engines.choice import Choice, cascade_of, choose, processor_flags
from digitrec.errors import DigitrecError, Interrupted, StorageFailed, combined, storage_errors
from digitrec.options import ScoreOptions
from digitrec.progress import Progress, silent
from digitrec.scoring.cluster import Cluster, connect
from digitrec.scoring.cost import RunCost, multiply_adds
from digitrec.scoring.engine import read_card
from digitrec.scoring.job import Job, prepare
from digitrec.scoring.ledger import Crew, Failure, Ledger, Scored
from digitrec.scoring.partition import score_partition
from digitrec.scoring.peak import matrix_peak
from digitrec.scoring.plan import partition_rows
from digitrec.scoring.space import still_needed
from digitrec.scoring.window import STALL_S, Compute, Window
from digitrec.settings import Settings
from digitrec.shown import printable

NAMED_FAILURES = 5


@dataclass(frozen=True)
class ScoreReport:
    """What was scored, by which model version in which arithmetic, at what cost, and what was not."""

    datasets: tuple[Scored, ...]
    model: str
    precision: Arithmetic
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    cost: RunCost | None = None

    def lines(self) -> list[str]:
        if not self.datasets and not self.failures:
            return [*self.notes, "nothing to score: every unlabelled dataset has predictions"]
        return [
            *self.notes,
            *(line for scored in self.datasets for line in scored.lines()),
            *(self.cost.lines() if self.cost else []),
            *(f"{failure.dataset}: FAILED: {failure.error}" for failure in self.failures),
        ]

    def raise_if_failed(self) -> None:
        """Raise what stopped a dataset; of several, one error that names them (see `errors.combined`)."""
        if not self.failures:
            return
        failed, all_of_them = len(self.failures), len(self.failures) + len(self.datasets)
        if all_of_them == 1:
            raise self.failures[0].error
        told = (printable(f"{failure.dataset}: {failure.error}") for failure in self.failures[:NAMED_FAILURES])
        named = "; ".join(told)
        more = f"; and {failed - NAMED_FAILURES} more" if failed > NAMED_FAILURES else ""
        raise combined(
            [failure.error for failure in self.failures],
            f"{failed} of {all_of_them} datasets were not scored, the others are published: {named}{more}",
        )


def score(
    store: Store, options: ScoreOptions, settings: Settings, *, insecure: bool = False, progress: Progress = silent
) -> ScoreReport:
    """Classify and publish: the dataset named, or every unlabelled one that has no predictions yet.

    Work that was done before is reported, not repeated. One dataset's failure stops no other; it is raised at the end:
    `Corrupt` names a damaged file, `ComputationFailed` a partition, `AlreadyPublished` what differs. Raises `NoInput`
    without dataset or model, `Unavailable` or `Misconfigured` for the cluster, `Interrupted` on Ctrl-C.
    """
    report = score_all(store, options, settings, Means(insecure=insecure), progress)
    report.raise_if_failed()
    return report


@dataclass(frozen=True)
class Means:
    """How a run is carried out; none of it changes the predictions.

    `processes`: whether local workers are processes (None: by the size of the job); `compute`: what a worker does;
    `stall_s`: see `Window`; `partition_rows`: see `plan`.
    """

    insecure: bool = False
    processes: bool | None = None
    compute: Compute = score_partition
    stall_s: float = STALL_S
    partition_rows: int | None = None


def score_all(
    store: Store, options: ScoreOptions, settings: Settings, means: Means, progress: Progress = silent
) -> ScoreReport:
    """`score`, with what failed in the report instead of raised."""
    if options.dataset:
        catalog.dataset(store, options.dataset)  # one that is not there is no reason to make a champion
    ruled = Ruling(options.model) if options.model else ruling(store)
    model = catalog.model(store, ruled.version)
    datasets, unreadable = chosen(store, options, model)
    card = read_card(store, model)
    choice = choose(options.precision, card, processor_flags())
    if options.cascade:
        cascade_of(card)  # refused here, not by a worker
    jobs = (prepare(store, dataset, model, options, choice.precision) for dataset in datasets)
    ledger = Ledger(jobs, means.partition_rows, progress)
    cost = None
    if ledger.open:
        check_space(ledger, store)
    if ledger.open:  # nothing to do is no reason to start a cluster
        effort = Effort(choice.precision, None if options.cascade else multiply_adds(card))
        cost = compute_open(ledger, settings, means, effort)
    scored, failures = tuple(ledger.scored), (*unreadable, *ledger.failures)
    notes = (*ruled.notes, *ledger.notes, *notes_on(choice, scored))
    return ScoreReport(scored, ruled.version, choice.precision, failures, notes, cost)


def notes_on(choice: Choice, scored: tuple[Scored, ...]) -> tuple[str, ...]:
    """The arithmetic and why it was chosen, if anything was computed in it."""
    return (f"computed in {choice.precision}: {choice.why}",) if not all(entry.already for entry in scored) else ()


@dataclass(frozen=True)
class Effort:
    """What an image costs: multiply-adds (None: not the same for all) in an arithmetic."""

    precision: Arithmetic
    multiply_adds: int | None

    def crew(self, cluster: Cluster) -> Crew:
        """The workers of a cluster, and their rows/s at matrix peak, measured once, when it is asked for."""

        @cache
        def ceiling() -> float | None:
            peak = matrix_peak(cluster, self.precision) if self.multiply_adds else None
            return peak / self.multiply_adds if peak and self.multiply_adds else None

        return Crew(cluster.slots, ceiling, cluster.memory_losses)


def compute_open(ledger: Ledger, settings: Settings, means: Means, effort: Effort) -> RunCost | None:
    """Send the partitions of every open job through one cluster and one window; what it took."""
    sizes = [account.job.rows for account in ledger.open.values()]
    estimate = sum(1 + rows // (means.partition_rows or partition_rows(rows)) for rows in sizes)
    try:
        with connect(
            settings, rows=ledger.total, partitions=estimate, insecure=means.insecure, processes=means.processes
        ) as cluster:
            ledger.crew = effort.crew(cluster)
            for task, outcome in Window(cluster, means.compute, means.stall_s).outcomes(ledger.tasks()):
                ledger.record(task, outcome)
            return ledger.cost()
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped with {ledger.done:,} of {ledger.total:,} rows done; they are kept, the same command goes on"
        ) from None


def chosen(store: Store, options: ScoreOptions, model: Manifest) -> tuple[list[Manifest], list[Failure]]:
    """The datasets to score, oldest first, and, unless one was named, those whose manifest cannot be read."""
    if options.dataset:
        return [catalog.dataset(store, options.dataset)], []
    listing = catalog.listing(store, "dataset")
    unreadable = [Failure(entry.folder, entry.problem) for entry in listing if entry.problem]
    readable = [entry.manifest for entry in reversed(listing) if entry.manifest]
    return catalog.unscored(store, readable, model if options.rescore else None), unreadable


def check_space(ledger: Ledger, store: Store) -> None:
    """Close the accounts of datasets whose predictions will not fit, before anything is computed."""
    with storage_errors("look at", store.url):
        free = shutil.disk_usage(store.url).free
    for account in list(ledger.open.values()):
        try:
            free -= take_room(account.job, ledger.partition_rows, free)
        except DigitrecError as error:
            ledger.total -= account.job.rows
            ledger.fail(account, error)


def take_room(job: Job, partition_rows: int | None, free: int) -> int:
    """Return the bytes that a job still needs. Raises `StorageFailed` if that is more than are free."""
    rows, needed = still_needed(job, partition_rows)
    if needed > free:
        raise StorageFailed(
            f"{rows:,} predictions need about {needed / 1e6:,.1f} MB more in {job.work.store.url}, where "
            f"{free / 1e6:,.1f} MB are free; free some space and run it again"
        )
    return needed
