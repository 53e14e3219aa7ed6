"""Telling others: a notification when a run fails or crashes, events when something was published or promoted."""

from typing import Any

from prefect import Flow
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event

from digitrec.errors import Misconfigured
from digitrec.settings import load_settings
from digitrec.shown import printable

MESSAGE_MAX = 2000
"""Of a notification: chat services refuse or cut what is longer."""


def notify(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook: hand a run's bad end to the notification block named by `DIGITREC_NOTIFY`, if one is."""
    name = load_settings().notify
    if name:
        block = Block.load(name)
        if not isinstance(block, NotificationBlock):
            raise Misconfigured(f"DIGITREC_NOTIFY is {name}: expected a notification block, as type/name")
        # Without a running event loop, which hooks have not, this sends and returns nothing to wait for.
        told = printable(f"{flow_run.name}: {state.message or state.name}", MESSAGE_MAX)
        block.notify(told, f"digitrec: {state.name}")  # type: ignore[unused-coroutine]


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
