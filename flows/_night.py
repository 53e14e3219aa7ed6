"""What a night says of itself: a summary with pictures, a table, and whether it was worse than it should be."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from _stage import TABLE_ROWS, only_for_show
from pydantic import Field

from digitrec.catalog.layout import predictions_folder
from digitrec.catalog.listing import dataset
from digitrec.catalog.store import Store
from digitrec.options import Options
from digitrec.settings import load_settings
from digitrec.shown import in_markdown

if TYPE_CHECKING:
    from digitrec.ingest.landing_scan import NotTaken
    from digitrec.night import Scoring
    from digitrec.scoring.run import ScoreReport
    from digitrec.scoring.state import Scored

ENTRY_MAX = 1000
"""Characters of an entry of a list: a message may name many files."""
ALWAYS_ALLOWED = 3
"""So many rows of a dataset may be rejects, or unsure, whatever the share: the rule of `--max-rejects`."""


class Limits(Options):
    """Beyond these a run that did everything is called Degraded. None of them stops or changes anything."""

    soft_rejects: Annotated[float, Field(ge=0, le=1, description="share of a dataset's rows that were refused")] = 0.002
    soft_unsure: Annotated[float, Field(ge=0, le=1, description="share of a dataset's rows that are unsure")] = 0.2


LIMITS = Limits()


class Tries:
    """What the tries of one stage have scored together: what the first has published, the second has not to do.

    No dataclass or collection: those Prefect takes apart, and this very object it hands to each try.
    """

    def __init__(self) -> None:
        self._scored: dict[str, Scored] = {}
        self._notes: dict[str, None] = {}

    def add(self, report: "ScoreReport") -> "ScoreReport":
        """Return the report of a try with what was scored, and is to be noted, before it."""
        for scored in report.datasets:
            self._scored.setdefault(scored.folder, scored)
        self._notes |= dict.fromkeys(report.notes)
        return replace(report, datasets=tuple(self._scored.values()), notes=tuple(self._notes))


@dataclass(frozen=True)
class Line:
    """A dataset that was scored, and how many rows its ingest had refused (None: that cannot be read any more)."""

    scored: "Scored"
    rejects: int | None

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
        rejects = self.rejects or 0
        counts = (
            ("refused", rejects, self.scored.rows + rejects, limits.soft_rejects),
            ("unsure", self.scored.unsure, self.scored.rows, limits.soft_unsure),
        )
        return [
            f"{self.scored.dataset}: {found:,} of {rows:,} rows {what} ({found / rows:.1%}, expected ≤ {share:.1%})"
            for what, found, rows, share in counts
            if found > max(ALWAYS_ALLOWED, share * rows)
        ]


def lines_of(store: Store, scored: Sequence["Scored"], notes: list[str]) -> list[Line]:
    """Each dataset with its rejects, as its manifest counts them; what cannot be read goes to `notes`."""
    lines = []
    for entry in scored:
        rejects = None
        with only_for_show(f"the rejects of {entry.dataset}", notes):
            rejects = sum(dataset(store, entry.dataset).facts["rejects"].values())
        lines.append(Line(entry, rejects))
    return lines


def worries_of(lines: Sequence[Line], limits: Limits) -> list[str]:
    """What passes the soft limits in datasets that this run has scored."""
    return [worry for line in lines if not line.scored.already for worry in line.worries(limits)]


def summary(
    store: Store,
    night: "Scoring",
    lines: Sequence[Line],
    worries: Sequence[str],
    picture: bytes | None,
    notes: Sequence[str],
) -> str:
    """The night as Markdown: what was done, what was refused, what it was unsure of; `picture` is a PNG of that."""
    refused, waiting, noted = (getattr(night.ingested, name, ()) for name in ("refused", "waiting", "notes"))
    rows = sum(line.scored.rows for line in lines)
    failures = night.scored.failures
    of_datasets = [f"{line.scored.dataset}: {note}" for line in lines for note in line.scored.notes]
    every_note = [*noted, *night.scored.notes, *of_datasets, *notes]
    parts = [
        f"**{len(lines):,} datasets, {rows:,} rows** with {in_markdown(night.scored.model)}, "
        f"in {in_markdown(store.address('predictions'))}",
        *([warning(worries)] if worries else []),
        *named("Refused", refused),
        *named("Waiting", waiting),
        *(["### Failed", listed(f"{entry.dataset}: {entry.error}" for entry in failures)] if failures else []),
        *(["### Unsure", embedded(picture)] if picture else []),
        *(["### Scored", table(lines)] if lines else ["Nothing was new."]),
        *(["### Notes", listed(every_note)] if every_note else []),
    ]
    return "\n\n".join(parts)


def named(title: str, entries: "Sequence[NotTaken]") -> list[str]:
    """Files of landing/ and a reason each, under a title; nothing if there are none."""
    return [f"### {title}", listed(f"{entry.path}: {entry.reason}" for entry in entries)] if entries else []


def link_to(store: Store, lines: Sequence[Line]) -> str:
    """Where the predictions lie, as a URL: of one dataset, or of all."""
    address = lines[0].scored.folder if len(lines) == 1 else store.address("predictions")
    return address if "://" in address else f"file://{quote(address)}"


def warning(worries: Sequence[str]) -> str:
    return "\n".join(["### ⚠ Degraded", "", listed(worries)])


def listed(entries: Iterable[str]) -> str:
    """A Markdown list of at most `TABLE_ROWS`, each as it is."""
    every = list(entries)
    more = [f"- and {len(every) - TABLE_ROWS:,} more"] if len(every) > TABLE_ROWS else []
    return "\n".join([*(f"- {in_markdown(entry, ENTRY_MAX)}" for entry in every[:TABLE_ROWS]), *more])


def table(lines: Sequence[Line]) -> str:
    shown = [
        f"| {in_markdown(line.scored.dataset)} | {line.scored.rows:,} "
        f"| {'?' if line.rejects is None else f'{line.rejects:,}'} | {line.scored.unsure:,} "
        f"| {line.rows_per_s or 0:,} |"
        for line in lines[:TABLE_ROWS]
    ]
    more = [f"\nand {len(lines) - TABLE_ROWS:,} more"] if len(lines) > TABLE_ROWS else []
    return "\n".join(["| dataset | rows | rejects | unsure | rows/s |", "|---|--:|--:|--:|--:|", *shown, *more])


def picture_of(store: Store, lines: Sequence[Line]) -> bytes | None:
    """The digits in doubt, as a PNG; None if there are none, or if images are not to leave the store."""
    if not load_settings().share_rows:
        return None
    from digitrec.gallery import unsure_digits

    unsure = [line.scored for line in lines if line.scored.unsure]
    folders = [predictions_folder(scored.dataset, scored.version, scored.variant) for scored in unsure]
    return unsure_digits(store, folders, unsure[0].unsure_below) if unsure else None


def embedded(picture: bytes) -> str:
    """A PNG inside the Markdown itself: Prefect's UI shows `data:` pictures."""
    return f"![unsure digits](data:image/png;base64,{base64.b64encode(picture).decode()})"
