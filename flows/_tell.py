"""Telling others: a notification when a run fails, crashes or is cancelled, events when something was published."""

from contextlib import suppress
from typing import Any

from httpx import HTTPError
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.exceptions import PrefectException

from digitrec.shown import printable
from digitrec_prefect.telling import tell

MESSAGE_MAX = 2000
"""Of a notification: chat services refuse or cut what is longer."""


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook: hand a run's bad end to the notification block named by `DIGITREC_NOTIFY`, if one is."""
    tell(f"digitrec: {state.name}", printable(f"{name_of(flow_run)}: {state.message or state.name}", MESSAGE_MAX))


def name_of(flow_run: FlowRun) -> str:
    """The name that the run has now: a worker whose run was killed only knows the one that it had at first."""
    with suppress(HTTPError, PrefectException), get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run.id).name
    return flow_run.name


def promoted(store: str, version: str, why: str) -> None:
    """The event `digitrec.model.promoted`."""
    emit_event(
        "digitrec.model.promoted",
        {"prefect.resource.id": f"digitrec.model.{version}", "prefect.resource.name": version},
        payload={"store": store, "version": version, "why": why},
    )


def published(store: str, model: str, datasets: list[str], rows: int) -> None:
    """The event `digitrec.predictions.published`, one for all that a run has published."""
    emit_event(
        "digitrec.predictions.published",
        {"prefect.resource.id": f"digitrec.predictions.{model}", "prefect.resource.name": model},
        payload={"store": store, "model": model, "datasets": datasets[:100], "count": len(datasets), "rows": rows},
    )
