"""score(): datasets × a model version → published predictions. The plan is made first, then carried out."""

from contextlib import closing
from dataclasses import dataclass

from digitrec.catalog import listing
from digitrec.catalog.bundled import provide_champion
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.marker import check_format
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.errors import DigitrecError, Interrupted, StorageFailed, Unavailable, combined
from digitrec.options import ScoreOptions
from digitrec.progress import Progress, silent
from digitrec.scoring.cost import RunCost
from digitrec.scoring.executors import Execution, start_executor
from digitrec.scoring.plan import ScoringPlan, make_plan, no_champion
from digitrec.scoring.publication import Publisher
from digitrec.scoring.replaced import set_aside
from digitrec.scoring.selection import Failure, remove_notes
from digitrec.scoring.state import Ended, RunState, Scored
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
            return [*self.notes, "nothing to score: no dataset waits for predictions"]
        return [
            *self.notes,
            *(line for scored in self.datasets for line in scored.lines()),
            *(self.cost.lines() if self.cost else []),
            *(f"{failure.dataset}: FAILED: {failure.error}" for failure in self.failures),
        ]

    def raise_if_failed(self) -> None:
        """Raise what stopped a dataset, or stopped several at once; of several errors, one that names them (see
        `errors.combined`)."""
        if not self.failures:
            return
        failed, all_of_them = len(self.failures), len(self.failures) + len(self.datasets)
        first = self.failures[0].error
        if all_of_them == 1 or (failed > 1 and all(failure.error is first for failure in self.failures)):
            raise first
        told = (printable(f"{failure.dataset}: {failure.error}") for failure in self.failures[:NAMED_FAILURES])
        named = "; ".join(told)
        others = ", the others are published" if self.datasets else ""
        more = f"; and {failed - NAMED_FAILURES} more" if failed > NAMED_FAILURES else ""
        raise combined(
            [failure.error for failure in self.failures],
            f"{failed} of {all_of_them} datasets were not scored{others}: {named}{more}",
        )


def score(
    store: Store, options: ScoreOptions, settings: Settings, *, insecure: bool = False, progress: Progress = silent
) -> ScoreReport:
    """Classify and publish: the dataset named, or every unlabelled one that has no predictions yet.

    Work that was done before is reported, not repeated. One dataset's failure stops no other; it is raised at the end:
    `Corrupt` names a damaged file, `ComputationFailed` a partition, `AlreadyPublished` what differs. Raises `NoInput`
    without dataset or model, `Unavailable` or `Misconfigured` for the cluster, `Interrupted` on Ctrl-C.
    """
    report = score_all(store, options, settings, Execution(insecure=insecure), progress)
    report.raise_if_failed()
    return report


def score_all(
    store: Store,
    options: ScoreOptions,
    settings: Settings,
    execution: Execution = Execution(),
    progress: Progress = silent,
) -> ScoreReport:
    """Score as `score` does, with what failed in the report instead of raised."""
    check_format(store)  # before anything is added to it
    if options.dataset:
        listing.dataset(store, options.dataset)  # one that is not there is no reason to make a champion
    model, notes = _provide_model(store, options)
    is_limited = store.storage.free_bytes() is not None
    plan = make_plan(store, options, settings, execution, model, sizes=is_limited)
    return _carry_out(plan, options, settings, execution, progress, notes)


def _provide_model(store: Store, options: ScoreOptions) -> tuple[Manifest, tuple[str, ...]]:
    """The model version to score with, and what to say of it. Raises `NoInput` if there is none."""
    if options.model:
        return listing.model(store, options.model), ()
    champion, is_new = provide_champion(store)
    if champion is None:
        raise no_champion(store)
    made = f"there was no champion: {champion.name}, which comes with digitrec, was made champion"
    return champion, (made,) if is_new else ()


def _carry_out(
    plan: ScoringPlan,
    options: ScoreOptions,
    settings: Settings,
    execution: Execution,
    progress: Progress,
    notes: tuple[str, ...],
) -> ScoreReport:
    """Do what a plan says, on one executor."""
    remove_notes(plan.store, plan.selection)
    state, cost = None, None
    try:
        with Publisher[Ended]() as publisher:
            state = RunState(plan.datasets, publisher, options.unsure_below, progress)
            moved = _set_aside_stale(plan, state)
            _check_space(plan, state)
            if state.open:  # nothing to do is no reason to start anybody
                with start_executor(plan.placement, settings, execution) as executor:
                    state.executor = executor
                    try:
                        with closing(executor.run(state.tasks())) as outcomes:
                            for task, outcome in outcomes:
                                state.record(task, outcome)
                    except Unavailable as error:  # all workers are lost: what is published, or has failed, is told
                        for each in state.open:
                            state.fail(each, error)
                    cost = state.cost()
            state.finish()
    except KeyboardInterrupt:
        done, total = (state.done, state.total) if state else (0, 0)
        raise Interrupted(
            f"stopped with {done:,} of {total:,} rows done; they are kept, the same command goes on"
        ) from None
    scored = tuple(ended for ended in state.ended if isinstance(ended, Scored))
    failed = tuple(ended for ended in state.ended if isinstance(ended, Failure))
    computed = f"computed in {plan.choice.precision}: {plan.choice.why}"
    return ScoreReport(
        datasets=scored,
        model=plan.model.name,
        precision=plan.choice.precision,
        failures=(*plan.failures, *failed),
        notes=(*notes, *moved, *([computed] if any(not entry.already for entry in scored) else [])),
        cost=cost,
    )


def _set_aside_stale(plan: ScoringPlan, state: RunState) -> list[str]:
    """Take what is published of earlier datasets or models of these names out of the way; return notes on it."""
    notes: list[str] = []
    for each in plan.datasets:
        if each.stale:
            try:
                notes += set_aside(plan.store, each.dataset)
            except DigitrecError as error:
                state.fail(each, error)
    return notes


def _check_space(plan: ScoringPlan, state: RunState) -> None:
    """Give up the datasets whose predictions will not fit, before anything is computed."""
    free = plan.store.storage.free_bytes()
    if free is None:
        return
    for each in state.open:
        needed = each.needed_bytes or 0
        if needed <= free:
            free -= needed
            continue
        rows = sum(partition.rows for partition in each.left)
        state.total -= each.dataset.rows
        state.fail(
            each,
            StorageFailed(
                f"{rows:,} predictions need about {needed / 1e6:,.1f} MB more in {plan.store.url}, where "
                f"{free / 1e6:,.1f} MB are free; free some space and run it again"
            ),
        )
