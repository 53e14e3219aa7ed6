"""The flow `train`: labelled datasets in, a sealed model version out, the champion if it is better.

Run it here with `python flows/train.py --help`, or deploy it (deployments/README.md).
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
from digitrec.options import TrainOptions
from digitrec.settings import Settings
from digitrec.shown import printable
from digitrec.terminal import Here, answer, make_app, run_app

if TYPE_CHECKING:
    from digitrec.training.run import TrainReport


def run_name() -> str:
    """`train default on mnist`."""
    options: TrainOptions = flow_run.parameters["options"]
    return printable(f"train {options.preset} on {abridged(options.dataset) or 'the newest labelled dataset'}")


@flow(
    name="train",
    flow_run_name=run_name,
    on_failure=[_tell.notify],
    on_crashed=[_tell.notify],
    on_cancellation=[_tell.notify],
)
@in_one_line
def train(options: TrainOptions = TrainOptions(), store: str | None = None) -> "TrainReport":
    """Train a perceptron on labelled datasets, seal it, and make it champion if it is better.

    Args:
        options: what to train on, and how
        store: root folder of all data; none: DIGITREC_STORE of the worker
    """
    return train_model(settings_for(store), options)


@stage("train")
def train_model(settings: Settings, options: TrainOptions) -> "TrainReport":
    from digitrec.training.run import train

    with shown("train") as progress:
        report = train(Store.at(settings.store), options, threads=settings.threads, progress=progress)
    with only_for_show("what was trained"):
        leave("train", report.lines(), [row(report)])
    if report.promoted:
        with only_for_show("the promotion as an event"):
            _tell.promoted(settings.store, report.version, report.why)
    return report


def row(report: "TrainReport") -> dict[str, Any]:
    """The line of the table in Prefect's UI."""
    return {
        "version": report.version,
        "datasets": ", ".join(report.datasets),
        "validation accuracy": f"{report.accuracy:.2%}",
        "epochs": report.epochs,
        "champion": report.promoted,
        "why": report.why,
    }


app = make_app("train.py", "Train a perceptron on labelled datasets, as a Prefect flow.", __version__)


@app.default
def command(*, options: Annotated[TrainOptions, Parameter(name="*")] = TrainOptions(), context: Here) -> None:
    """Train a perceptron on labelled datasets, seal it, and make it champion if it is better."""
    with server_at_hand("digitrec.training.run"):
        answer(context, train(options, context.store.url))


if __name__ == "__main__":
    run_app(app)
