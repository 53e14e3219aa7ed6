"""What a night says of itself: a summary with pictures, a table, and whether it was worse than it should be."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from _stage import TABLE_ROWS
from pydantic import Field

from digitrec.options import Options
from digitrec.store.catalog import dataset
from digitrec.store.layout import Store

if TYPE_CHECKING:
    from digitrec.ingest.landing_scan import NotTaken
    from digitrec.night import Scoring
    from digitrec.scoring.ledger import Scored

ALWAYS_ALLOWED = 3
"""So many rows of a dataset may be rejects, or unsure, whatever the share: the rule of `--max-rejects`."""


class Limits(Options):
    """Beyond these a run that did everything is called Degraded. None of them stops or changes anything."""

    soft_rejects: Annotated[float, Field(ge=0, le=1, description="share of a dataset's rows that were refused")] = 0.002
    soft_unsure: Annotated[float, Field(ge=0, le=1, description="share of a dataset's rows that are unsure")] = 0.2


LIMITS = Limits()


@dataclass(frozen=True)
class Line:
    """A dataset that was scored, and the rows that its ingest had refused."""

    scored: "Scored"
    rejects: int

    @property
    def rows_per_s(self) -> int | None:
        return round(self.scored.rows / self.scored.seconds) if self.scored.seconds else None

    def row(self) -> dict[str, Any]:
        """A line of the table in Prefect's UI."""
        return {
            "dataset": self.scored.dataset,
            "model": self.scored.version,
            "variant": self.scored.variant,
            "rows": self.scored.rows,
            "rejects": self.rejects,
            "unsure": self.scored.unsure,
            "rows/s": self.rows_per_s,
            "already": self.scored.already,
            "predictions": self.scored.folder,
        }

    def worries(self, limits: Limits) -> list[str]:
        """What is beyond a soft limit, in words."""
        lines = self.scored.rows + self.rejects
        counts = (
            ("refused", self.rejects, lines, limits.soft_rejects),
            ("unsure", self.scored.unsure, self.scored.rows, limits.soft_unsure),
        )
        return [
            f"{self.scored.dataset}: {found:,} of {rows:,} rows {what} ({found / rows:.1%}, expected ≤ {share:.1%})"
            for what, found, rows, share in counts
            if found > max(ALWAYS_ALLOWED, share * rows)
        ]


def lines_of(store: Store, scored: Sequence["Scored"]) -> list[Line]:
    """Each dataset with its rejects, as its manifest counts them."""
    return [Line(entry, sum(dataset(store, entry.dataset).facts["rejects"].values())) for entry in scored]


def worries_of(lines: Sequence[Line], limits: Limits) -> list[str]:
    """What passes the soft limits in datasets that this run has scored."""
    return [worry for line in lines if not line.scored.already for worry in line.worries(limits)]


def summary(store: Store, night: "Scoring", lines: Sequence[Line], worries: Sequence[str]) -> str:
    """The night as Markdown: what was done, what was refused, what it was unsure of."""
    refused, waiting, noted = (getattr(night.ingested, name, ()) for name in ("refused", "waiting", "notes"))
    notes = [*noted, *night.scored.notes]
    rows = sum(line.scored.rows for line in lines)
    parts = [
        f"**{len(lines):,} datasets, {rows:,} rows** with `{night.scored.model}`, in `{store.url}/predictions/`",
        *([warning(worries)] if worries else []),
        *named("Refused", refused),
        *named("Waiting", waiting),
        *pictures(store, lines),
        *(["### Scored", table(lines)] if lines else ["Nothing was new."]),
        *(["### Notes", *listed(notes)] if notes else []),
    ]
    return "\n\n".join(parts)


def named(title: str, entries: "Sequence[NotTaken]") -> list[str]:
    """Files of landing/ and a reason each, under a title; nothing if there are none."""
    return [f"### {title}", *listed(f"`{entry.path}`: {entry.reason}" for entry in entries)] if entries else []


def link_to(store: Store, lines: Sequence[Line]) -> str:
    """Where the predictions lie, as a URL: of one dataset, or of all."""
    folder = lines[0].scored.folder if len(lines) == 1 else store.full("predictions")
    return folder if "://" in folder else Path(folder).as_uri()


def warning(worries: Sequence[str]) -> str:
    return "\n".join(["### ⚠ Degraded", "", *listed(worries)])


def listed(entries: Any) -> list[str]:
    """A Markdown list of at most `TABLE_ROWS`, in one part."""
    every = list(entries)
    more = [f"- and {len(every) - TABLE_ROWS:,} more"] if len(every) > TABLE_ROWS else []
    return ["\n".join([*(f"- {entry}" for entry in every[:TABLE_ROWS]), *more])]


def table(lines: Sequence[Line]) -> str:
    shown = [
        f"| {line.scored.dataset} | {line.scored.rows:,} | {line.rejects:,} | {line.scored.unsure:,} "
        f"| {line.rows_per_s or 0:,} |"
        for line in lines[:TABLE_ROWS]
    ]
    more = [f"\nand {len(lines) - TABLE_ROWS:,} more"] if len(lines) > TABLE_ROWS else []
    return "\n".join(["| dataset | rows | rejects | unsure | rows/s |", "|---|--:|--:|--:|--:|", *shown, *more])


def pictures(store: Store, lines: Sequence[Line]) -> list[str]:
    """The digits in doubt, inside the Markdown itself: Prefect's UI shows `data:` pictures."""
    from digitrec.gallery import unsure_digits

    unsure = [line.scored for line in lines if line.scored.unsure]
    folders = [store.relative(scored.folder) for scored in unsure]
    picture = unsure_digits(store, folders, unsure[0].unsure_below) if unsure else None
    if picture is None:
        return []
    return ["### Unsure", f"![unsure digits](data:image/png;base64,{base64.b64encode(picture).decode()})"]
