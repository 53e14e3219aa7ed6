"""Telling people: the notification block that `DIGITREC_NOTIFY` names."""

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block

from digitrec.errors import Misconfigured
from digitrec.settings import load_settings


def tell(subject: str, body: str) -> None:
    """Send a message through the notification block, if one is named. Raises `Misconfigured` if it is none."""
    name = load_settings().notify
    if name:
        block = Block.load(name)
        if not isinstance(block, NotificationBlock):
            raise Misconfigured(f"DIGITREC_NOTIFY is {name}: expected a notification block, as type/name")
        # Without a running event loop, which hooks and steps have not, this sends and returns nothing to wait for.
        block.notify(body, subject)  # type: ignore[unused-coroutine]
