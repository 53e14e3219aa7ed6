"""The `digitrec` command: options in, one library call, a report out.

Heavy rooms are imported by the command that needs them, so that `digitrec --help` is quick.
"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from digitrec import __version__
from digitrec.errors import DigitrecError, UsageError
from digitrec.options import IngestOptions, ReadOptions, ScoreOptions, TrainOptions
from digitrec.terminal import Here, answer, make_app, progress_shown, run_app

Flat = Parameter(name="*")
"""Spread a model's fields over the command line as options of their own."""

app = make_app("digitrec", "Distributed batch scoring of handwritten digits.", __version__)


@app.command
def fetch(
    source: Literal["sample", "kaggle", "openml", "idx"],
    *files: Path,
    to: Annotated[Path, Parameter(help="folder to write CSV files into")] = Path("data"),
    context: Here,
) -> None:
    """Write CSV files of real digits: a bundled sample, Kaggle's, OpenML's mnist_784, or those in IDX files."""
    from digitrec.ingest.sources import fetch_idx, fetch_kaggle, fetch_openml, fetch_sample
    from digitrec.overview import Fetched

    if bool(files) != (source == "idx"):
        raise UsageError(
            "`fetch idx` needs the IDX files to convert" if source == "idx" else f"`fetch {source}` takes no files"
        )
    simple = {"sample": fetch_sample, "kaggle": fetch_kaggle, "openml": fetch_openml}
    answer(context, Fetched(tuple(fetch_idx(files, to) if source == "idx" else simple[source](to))))


@app.command
def ingest(
    *sources: Annotated[str, Parameter(help="CSV files, also packed (gzip, zstd, bzip2, xz) or in a zip or tar")],
    options: Annotated[IngestOptions, Flat] = IngestOptions(),
    context: Here,
) -> None:
    """Check CSV files row by row and publish what is good as a dataset."""
    from digitrec.ingest.run import ingest

    if not sources:
        raise UsageError("`ingest` needs at least one CSV file; see --help")
    with progress_shown() as progress:
        report = ingest(context.store, sources, options, threads=context.settings.threads, progress=progress)
    answer(context, report)


@app.command
def train(*, options: Annotated[TrainOptions, Flat] = TrainOptions(), context: Here) -> None:
    """Train a perceptron on labelled datasets, seal it, and make it champion if it is better."""
    from digitrec.training.run import train

    with progress_shown() as progress:
        report = train(context.store, options, threads=context.settings.threads, progress=progress)
    answer(context, report)


@app.command
def score(
    *sources: Annotated[str, Parameter(help="CSV files to ingest first; none: the new files of landing/")],
    options: Annotated[ScoreOptions, Flat] = ScoreOptions(),
    reading: Annotated[
        ReadOptions, Parameter(name="*", negative_bool=(), group="How the sources are read")
    ] = ReadOptions(),
    dask: Annotated[str | None, Parameter(help="address of a Dask scheduler (DIGITREC_DASK)")] = None,
    insecure: Annotated[bool, Parameter(negative=(), help="allow tcp:// to another machine, without TLS")] = False,
    dry_run: Annotated[
        bool, Parameter(negative=(), help="say what would be scored, where and how much it is; change nothing")
    ] = False,
    context: Here,
) -> None:
    """Classify images on a Dask cluster and publish the predictions.

    With neither source nor dataset it does the night's work: ingests what is new in landing/, and scores every
    unlabelled dataset that has no predictions yet.
    """
    from digitrec.night import gather
    from digitrec.scoring.executors import Execution
    from digitrec.scoring.run import score_all

    settings = context.settings.with_dask(dask)
    if dry_run:
        from digitrec.night import plan

        answer(context, plan(context.store, sources, options, settings))
        return
    with progress_shown() as progress:
        gathered = gather(context.store, sources, options, reading, threads=settings.threads, progress=progress)
        try:
            report = score_all(context.store, gathered.options, settings, Execution(insecure=insecure), progress)
        except DigitrecError:
            answer(context, gathered)  # what came in stays said, whatever becomes of the scoring
            raise
    answer(context, gathered.with_score(report))
    report.raise_if_failed()


@app.command
def verify(
    *places: Annotated[str, Parameter(help="published folders, by path or key; none: the whole store")], context: Here
) -> None:
    """Hash every file again and prove that every id is there once."""
    from digitrec.verify import verify

    answer(context, verify(context.store, places))


@app.command(name="list")
def list_(what: Literal["datasets", "models", "predictions"], *, context: Here) -> None:
    """What the store holds, newest first."""
    from digitrec.overview import overview

    answer(context, overview(context.store, what))


@app.command
def rejects(
    dataset: str,
    *,
    limit: Annotated[int, Parameter(help="rows to show at most")] = 100,
    context: Here,
) -> None:
    """Show the rows of a dataset's sources that were rejected: where, why, and the value."""
    from digitrec.overview import rejected

    answer(context, rejected(context.store, dataset, limit))


Why = Annotated[str, Parameter(help="the reason, for `models history`")]
Who = Annotated[str | None, Parameter(help="who decides it, for `models history`; none: user@host")]


@app.command
def promote(version: str, *, why: Why = "asked for", who: Who = None, context: Here) -> None:
    """Make a model version the champion."""
    from digitrec.catalog.champion import promote
    from digitrec.overview import Promoted

    answer(context, Promoted(promote(context.store, version, why, who=who)))


@app.command
def rollback(*, why: Why = "asked for", who: Who = None, context: Here) -> None:
    """Go back to the champion before this one."""
    from digitrec.catalog.champion import rollback
    from digitrec.overview import Promoted

    answer(context, Promoted(rollback(context.store, why, who=who)))


models = App(name="models", help="Look into model versions: history, cards, accuracy, differences.")
app.command(models)


@models.command
def diff(
    a: str,
    b: str,
    *,
    dataset: Annotated[
        str | None, Parameter(help="all its rows; none: validation rows of what both trained on")
    ] = None,
    picture: Annotated[Path | None, Parameter(help="PNG file to write the images into, the first 64")] = None,
    context: Here,
) -> None:
    """Which images two model versions answer differently, and which of them is right more often."""
    from digitrec.training.comparison import compare, with_picture

    found = compare(context.store, a, b, dataset)
    answer(context, with_picture(context.store, found, picture) if picture else found)


@models.command
def evaluate(
    version: str,
    *,
    dataset: Annotated[str, Parameter(help="labelled dataset to measure on")],
    allow_seen: Annotated[bool, Parameter(negative=(), help="also if it was trained on some; told apart")] = False,
    context: Here,
) -> None:
    """Accuracy, recall and calibration of a model version on a labelled dataset that it was not trained on."""
    from digitrec.training.evaluation import evaluate

    answer(context, evaluate(context.store, version, dataset, allow_seen=allow_seen))


@models.command(name="history")
def history_(*, context: Here) -> None:
    """Who was made champion when, by whom, and why."""
    from digitrec.overview import history

    answer(context, history(context.store))


@models.command
def show(version: str, *, context: Here) -> None:
    """The card of a model version, and when, where and how fast it was trained."""
    from digitrec.overview import show

    answer(context, show(context.store, version))


@app.command
def doctor(
    *,
    rebuild_index: Annotated[
        bool, Parameter(negative=(), help="list the whole store: note what waits to be scored, remove old debris")
    ] = False,
    context: Here,
) -> None:
    """Say what is missing or misconfigured here, and what to do."""
    from digitrec.doctor import examine

    diagnosis = examine(context.settings, rebuild_index=rebuild_index)
    answer(context, diagnosis)
    diagnosis.raise_if_ill()


def main() -> None:
    """The console script."""
    run_app(app)
