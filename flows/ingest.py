"""The flow `ingest`: CSV files in, a sealed dataset out.

Run it here with `python flows/ingest.py --help`, or deploy it (deployments/README.md).
"""

from typing import TYPE_CHECKING, Annotated, Any

import _quick  # noqa: F401
import _tell
from _server import server_at_hand
from _stage import abridged, in_one_line, leave, only_for_show, settings_for, shown, stage
from cyclopts import Parameter
from prefect import flow
from prefect.runtime import flow_run

from digitrec import __version__
from digitrec.catalog.store import Store
from digitrec.errors import UsageError
from digitrec.options import IngestOptions
from digitrec.settings import Settings
from digitrec.shown import printable
from digitrec.terminal import Here, answer, make_app, run_app

if TYPE_CHECKING:
    from digitrec.ingest.run import IngestReport


def run_name() -> str:
    """`ingest train.csv`, `ingest january.csv and 11 more as year`."""
    sources: list[str] = flow_run.parameters["sources"]
    options: IngestOptions = flow_run.parameters["options"]
    return printable(f"ingest {abridged(sources)}" + (f" as {options.dataset}" if options.dataset else ""))


@flow(
    name="ingest",
    flow_run_name=run_name,
    on_failure=[_tell.notify],
    on_crashed=[_tell.notify],
    on_cancellation=[_tell.notify],
)
@in_one_line
def ingest(sources: list[str], options: IngestOptions = IngestOptions(), store: str | None = None) -> "IngestReport":
    """Check CSV files row by row and seal what is good as a dataset.

    Args:
        sources: CSV files, also packed (gzip, zstd, bzip2, xz) or in a zip or tar, as the worker sees them
        options: how to read them
        store: root folder of all data; none: DIGITREC_STORE of the worker
    """
    if not sources:
        raise UsageError("`ingest` needs at least one CSV file in `sources`")
    return ingest_files(settings_for(store), sources, options)


@stage("ingest")
def ingest_files(settings: Settings, sources: list[str], options: IngestOptions) -> "IngestReport":
    from digitrec.ingest.run import ingest

    with shown("ingest") as progress:
        report = ingest(Store.at(settings.store), sources, options, threads=settings.threads, progress=progress)
    with only_for_show("what was ingested"):
        leave("ingest", report.lines(), [row(report)])
    return report


def row(report: "IngestReport") -> dict[str, Any]:
    """The line of the table in Prefect's UI."""
    return {
        "dataset": report.dataset,
        "rows": report.rows,
        "rejects": report.rejects,
        "reasons": ", ".join(f"{count} {reason}" for reason, count in sorted(report.reasons.items())),
        "labelled": report.labelled,
        "already": report.already,
    }


app = make_app("ingest.py", "Check CSV files and seal them as a dataset, as a Prefect flow.", __version__)


@app.default
def command(
    *sources: Annotated[str, Parameter(help="CSV files, also packed (gzip, zstd, bzip2, xz) or in a zip or tar")],
    options: Annotated[IngestOptions, Parameter(name="*")] = IngestOptions(),
    context: Here,
) -> None:
    """Check CSV files row by row and seal what is good as a dataset."""
    with server_at_hand("digitrec.ingest.run"):
        answer(context, ingest(list(sources), options, context.store.url))


if __name__ == "__main__":
    run_app(app)
