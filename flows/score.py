"""The flow `score`: new files and a model version in, published predictions out.

Run it here with `python flows/score.py --help`, or deploy it (deployments/README.md).
"""

from typing import TYPE_CHECKING, Annotated, cast

import _quick  # noqa: F401
import _tell
from _night import LIMITS, Limits, Tries, lines_of, link_to, picture_of, summary, warning, worries_of
from _server import server_at_hand
from _stage import (
    abridged,
    in_one_line,
    leave,
    only_for_show,
    settings_for,
    show_link,
    show_markdown,
    show_table,
    shown,
    stage,
)
from cyclopts import Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from digitrec import __version__
from digitrec.catalog.store import Store
from digitrec.options import ReadOptions, ScoreOptions
from digitrec.settings import Settings
from digitrec.shown import printable
from digitrec.terminal import Here, answer, make_app, run_app

if TYPE_CHECKING:
    from digitrec.night import Gathered, Scoring
    from digitrec.scoring.run import ScoreReport


def run_name() -> str:
    """`score test-3f2a9c01 with the champion`, `score what is new with best-1c8e77aa`."""
    options: ScoreOptions = flow_run.parameters["options"]
    what = options.dataset or abridged(flow_run.parameters["sources"]) or "what is new"
    return printable(f"score {what} with {options.model or 'the champion'}")


@flow(
    name="score",
    flow_run_name=run_name,
    on_failure=[_tell.notify],
    on_crashed=[_tell.notify],
    on_cancellation=[_tell.notify],
)
@in_one_line
def score(
    sources: list[str] = [],  # noqa: B006  # Prefect's form needs the default; nobody changes it
    options: ScoreOptions = ScoreOptions(),
    store: str | None = None,
    dask: str | None = None,
    insecure: bool = False,
    limits: Limits = LIMITS,
    reading: ReadOptions = ReadOptions(),
) -> "Scoring | State[Scoring]":
    """Classify images on a Dask cluster and publish the predictions.

    With neither sources nor a dataset it does the night's work: ingests what is new in landing/, and scores every
    unlabelled dataset that has no predictions yet.

    Args:
        sources: CSV files to ingest first, as the worker sees them; none: the new files of landing/
        options: what to score, and how
        store: root folder of all data; none: DIGITREC_STORE of the worker
        dask: address of a Dask scheduler; none: DIGITREC_DASK of the worker, or a cluster of its own
        insecure: allow tcp:// to another machine, without TLS
        limits: what is beyond them makes a complete run Degraded, which stops nothing
        reading: how the sources are read
    """
    settings = settings_for(store)
    settings = settings.with_dask(dask)
    gathered = ingest_new_files(settings, sources, options, reading)
    scoring, worries = score_datasets(settings, gathered, insecure, limits, Tries())
    message = printable("; ".join(worries[:WORRIES]))
    return Completed(name="Degraded", message=message, data=scoring) if worries else scoring


WORRIES = 5
"""A state's message names so many; the warning artifact has them all."""


@stage("ingest new files")
def ingest_new_files(settings: Settings, sources: list[str], options: ScoreOptions, reading: ReadOptions) -> "Gathered":
    from digitrec.night import gather

    with shown("ingest") as progress:
        store = Store.at(settings.store)
        gathered = gather(store, sources, options, reading, threads=settings.threads, progress=progress)
    if gathered.ingested:
        with only_for_show("what was ingested"):
            leave("ingest", gathered.ingested.lines())
    return gathered


@stage("score")
def score_datasets(
    settings: Settings, gathered: "Gathered", insecure: bool, limits: Limits, tries: Tries
) -> "tuple[Scoring, list[str]]":
    """Score, show the night, and say what is beyond the limits."""
    from digitrec.scoring.executors import Execution
    from digitrec.scoring.run import score_all

    store = Store.at(settings.store)
    with shown("score") as progress:
        report = score_all(store, gathered.options, settings, Execution(insecure=insecure), progress)
    with only_for_show("what was published as an event"):
        tell_published(settings, report)
    report = tries.add(report)
    night = gathered.with_score(report)
    # First what was done, then what failed: the table is there in the morning, whatever became of the run.
    worries = show_night(store, night, limits)
    report.raise_if_failed()
    return night, worries


def tell_published(settings: Settings, report: "ScoreReport") -> None:
    new = [scored for scored in report.datasets if not scored.already]
    if new:
        names, rows = [scored.dataset for scored in new], sum(scored.rows for scored in new)
        _tell.published(settings.store, report.model, names, rows)


def show_night(store: Store, night: "Scoring", limits: Limits) -> list[str]:
    """Leave the night's artifacts, each as far as it can be shown; return what is beyond the limits."""
    notes: list[str] = []
    lines = lines_of(store, night.scored.datasets, notes)
    worries = worries_of(lines, limits)
    picture = None
    with only_for_show("the picture of unsure digits", notes):
        picture = picture_of(store, lines)
    with only_for_show("the summary"):
        show_markdown("score-summary", summary(store, night, lines, worries, picture, notes))
    with only_for_show("the table"):
        show_table("score-table", [line.row() for line in lines])
    if lines:
        with only_for_show("the link to the predictions"):
            show_link("score-predictions", link_to(store, lines), "predictions")
    if worries:
        show_markdown("score-degraded", warning(worries))
    return worries


app = make_app("score.py", "Classify images and publish the predictions, as a Prefect flow.", __version__)


@app.default
def command(
    *sources: Annotated[str, Parameter(help="CSV files to ingest first; none: the new files of landing/")],
    options: Annotated[ScoreOptions, Parameter(name="*")] = ScoreOptions(),
    dask: Annotated[str | None, Parameter(help="address of a Dask scheduler (DIGITREC_DASK)")] = None,
    insecure: Annotated[bool, Parameter(negative=(), help="allow tcp:// to another machine, without TLS")] = False,
    limits: Annotated[Limits, Parameter(name="*")] = LIMITS,
    reading: Annotated[
        ReadOptions, Parameter(name="*", negative_bool=(), group="How the sources are read")
    ] = ReadOptions(),
    dry_run: Annotated[
        bool, Parameter(negative=(), help="say what would be scored, where and how much it is; change nothing")
    ] = False,
    context: Here,
) -> None:
    """Classify images on a Dask cluster and publish the predictions."""
    if dry_run:  # nothing runs, so there is nothing to orchestrate
        from digitrec.night import plan

        answer(context, plan(context.store, sources, options, context.settings.with_dask(dask)))
        return
    with server_at_hand("digitrec.scoring.run"):
        scoring = score(list(sources), options, context.store.url, dask, insecure, limits, reading)
        answer(context, cast("Scoring", scoring))


if __name__ == "__main__":
    run_app(app)
