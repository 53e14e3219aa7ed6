"""How a long stage says how far it is: one small value, handed to whoever shows it (a terminal, a log, Prefect)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """`done` of `total` (None: not known yet) in `unit` ("bytes", "epochs", "rows"); `facts` are shown as they are.

    `logged`: the stage has written this step to its log, so a bar may show it, but no second log line.
    """

    stage: str
    done: float
    total: float | None
    unit: str
    facts: Mapping[str, str] = field(default_factory=dict)
    logged: bool = False


Progress = Callable[[Step], None]
"""Called from the stage's own thread, often: whoever shows it does the throttling."""


def silent(step: Step) -> None:
    """Show nothing."""
