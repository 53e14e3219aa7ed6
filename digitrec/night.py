"""What `digitrec score` does before it scores: bring in the sources it was given, or whatever is new in landing/.

The stages never import one another; this is where ingest and scoring meet, for the command line and the flow alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digitrec.catalog.store import Store
from digitrec.errors import UsageError
from digitrec.options import IngestOptions, ReadOptions, ScoreOptions
from digitrec.progress import Progress, silent

if TYPE_CHECKING:
    from digitrec.ingest.landing import LandingReport
    from digitrec.ingest.run import IngestReport
    from digitrec.scoring.plan import PlanReport
    from digitrec.scoring.run import ScoreReport
    from digitrec.settings import Settings


@dataclass(frozen=True)
class Scoring:
    """What was brought in and what was scored."""

    ingested: "IngestReport | LandingReport | None"
    scored: "ScoreReport"

    def lines(self) -> list[str]:
        return (self.ingested.lines() if self.ingested else []) + self.scored.lines()


@dataclass(frozen=True)
class Gathered:
    """What was brought in, and the scoring options that follow from it."""

    options: ScoreOptions
    ingested: "IngestReport | LandingReport | None" = None

    def lines(self) -> list[str]:
        return self.ingested.lines() if self.ingested else []

    def with_score(self, report: "ScoreReport") -> Scoring:
        return Scoring(self.ingested, report)


def gather(
    store: Store,
    sources: Sequence[str],
    options: ScoreOptions,
    reading: ReadOptions = ReadOptions(),
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> Gathered:
    """Bring in what is to be scored. Raises what `ingest` raises; a refused file of landing/ stops nobody.

    Sources given: they become one dataset, read as `reading` says, and that is scored. A dataset named: nothing to
    bring in. Neither: the night's work, beginning with the new files of landing/, whose folders say how they are read.
    Raises `UsageError` for options of reading where they would be without effect, `OldStore` before anything is added
    to a store of an earlier digitrec.
    """
    if not sources and (given := reading.model_dump(exclude_defaults=True)):
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise UsageError(
            f"{option} says how sources are read, and none was given; files in landing/ are read as the "
            ".digitrec.toml of their folder says"
        )
    if sources:
        from digitrec.ingest.run import ingest

        asked = IngestOptions(dataset=options.dataset, **reading.model_dump())
        report = ingest(store, sources, asked, threads=threads, progress=progress)
        return Gathered(options.model_copy(update={"dataset": report.dataset}), report)
    if options.dataset:
        return Gathered(options)  # and nothing of ingest was imported: half a second
    from digitrec.ingest.landing import ingest_landing

    landed = ingest_landing(store, retry_refused=options.retry_refused, threads=threads, progress=progress)
    return Gathered(options, landed)


def plan(store: Store, sources: Sequence[str], options: ScoreOptions, settings: "Settings") -> "PlanReport":
    """Return what `score` would do with what is in the store: nothing is ingested for it, nor looked at in landing/.

    Raises `UsageError` if sources are given, and what `plan_scoring` raises.
    """
    from digitrec.scoring.plan import plan_scoring

    if sources:
        raise UsageError(
            "--dry-run plans what is in the store, and sources are not: `digitrec ingest` them first, then name the "
            "--dataset"
        )
    return plan_scoring(store, options, settings).report()
