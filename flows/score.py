"""The flow `score`: new files and a model version in, published predictions out.

Run it here with `python flows/score.py --help`, or deploy it (deployments/README.md).
"""

from typing import TYPE_CHECKING, Annotated, Any

import _quick  # noqa: F401
from _server import server_at_hand
from _stage import abridged, in_one_line, leave, settings_for, shown, stage
from cyclopts import Parameter
from prefect import flow
from prefect.runtime import flow_run

from digitrec import __version__
from digitrec.options import ScoreOptions
from digitrec.settings import Settings
from digitrec.store.layout import Store
from digitrec.terminal import Here, answer, make_app, run_app

if TYPE_CHECKING:
    from digitrec.night import Gathered, Scoring
    from digitrec.scoring.ledger import Scored
    from digitrec.scoring.run import ScoreReport


def run_name() -> str:
    """`score test-3f2a9c01 with the champion`, `score what is new with best-1c8e77aa`."""
    options: ScoreOptions = flow_run.parameters["options"]
    what = options.dataset or abridged(flow_run.parameters["sources"]) or "what is new"
    return f"score {what} with {options.model or 'the champion'}"


@flow(name="score", flow_run_name=run_name)
@in_one_line
def score(
    sources: list[str] = [],  # noqa: B006  # Prefect's form needs the default; nobody changes it
    options: ScoreOptions = ScoreOptions(),
    store: str | None = None,
    dask: str | None = None,
    insecure: bool = False,
) -> "Scoring":
    """Classify images on a Dask cluster and publish the predictions.

    With neither sources nor a dataset it does the night's work: ingests what is new in landing/, and scores every
    unlabelled dataset that has no predictions yet.

    Args:
        sources: CSV files to ingest first, as the worker sees them; none: the new files of landing/
        options: what to score, and how
        store: root folder of all data; none: DIGITREC_STORE of the worker
        dask: address of a Dask scheduler; none: DIGITREC_DASK of the worker, or a cluster of its own
        insecure: allow tcp:// to another machine, without TLS
    """
    settings = settings_for(store)
    if dask is not None:
        settings = settings.model_copy(update={"dask": dask})
    gathered = ingest_new_files(settings, sources, options)
    return gathered.with_score(score_datasets(settings, gathered.options, insecure))


@stage("ingest new files")
def ingest_new_files(settings: Settings, sources: list[str], options: ScoreOptions) -> "Gathered":
    from digitrec.night import gather

    with shown("ingest") as progress:
        gathered = gather(Store.at(settings.store), sources, options, threads=settings.threads, progress=progress)
    if gathered.ingested:
        leave("ingest", gathered.ingested.lines())
    return gathered


@stage("score")
def score_datasets(settings: Settings, options: ScoreOptions, insecure: bool) -> "ScoreReport":
    from digitrec.scoring.run import Means, score_all

    with shown("score") as progress:
        report = score_all(Store.at(settings.store), options, settings, Means(insecure=insecure), progress)
    # First what was done, then what failed: the table is there in the morning, whatever became of the run.
    leave("score", report.lines(), [row(scored) for scored in report.datasets])
    report.raise_if_failed()
    return report


def row(scored: "Scored") -> dict[str, Any]:
    """A line of the table in Prefect's UI."""
    return {
        "dataset": scored.dataset,
        "model": scored.version,
        "variant": scored.variant,
        "rows": scored.rows,
        "unsure": scored.unsure,
        "rows/s": round(scored.rows / scored.seconds) if scored.seconds else None,
        "already": scored.already,
        "predictions": scored.folder,
    }


app = make_app("score.py", "Classify images and publish the predictions, as a Prefect flow.", __version__)


@app.default
def command(
    *sources: Annotated[str, Parameter(help="CSV files to ingest first; none: the new files of landing/")],
    options: Annotated[ScoreOptions, Parameter(name="*")] = ScoreOptions(),
    dask: Annotated[str | None, Parameter(help="address of a Dask scheduler (DIGITREC_DASK)")] = None,
    insecure: Annotated[bool, Parameter(negative=(), help="allow tcp:// to another machine, without TLS")] = False,
    context: Here,
) -> None:
    """Classify images on a Dask cluster and publish the predictions."""
    with server_at_hand("digitrec.scoring.run"):
        answer(context, score(list(sources), options, context.store.url, dask, insecure))


if __name__ == "__main__":
    run_app(app)
