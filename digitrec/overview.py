"""Short answers about a store: what it holds, who is champion, what was fetched."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from digitrec.store.aliases import Entry, champion
from digitrec.store.catalog import Listed, listing
from digitrec.store.layout import Store
from digitrec.store.manifest import Kind, Manifest

KINDS: dict[str, Kind] = {"datasets": "dataset", "models": "model", "predictions": "predictions"}


@dataclass(frozen=True)
class Row:
    """One published thing; `rows` of a model are those it was trained on; `notes` tell it apart for a person."""

    name: str
    published: str
    rows: int
    notes: str


@dataclass(frozen=True)
class Overview:
    """What a store holds of one kind, newest first."""

    what: str
    store: str
    found: tuple[Row, ...]

    def lines(self) -> list[str]:
        if not self.found:
            return [f"no {self.what} in {self.store}"]
        width = max(len(row.name) for row in self.found)
        return [f"{row.name:<{width}}  {row.published}  {row.rows:>12,} rows  {row.notes}" for row in self.found]


def overview(store: Store, what: Literal["datasets", "models", "predictions"]) -> Overview:
    """List everything published of a kind. What cannot be read is listed with the reason."""
    best = champion(store) if what == "models" else None
    return Overview(what, store.url, tuple(row(entry, best) for entry in listing(store, KINDS[what])))


def row(entry: Listed, best: str | None) -> Row:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.published_s))
    if entry.manifest is None:
        return Row(entry.folder, when, 0, f"UNREADABLE: {entry.problem}")
    rows = entry.manifest.facts.get("training_rows", entry.manifest.rows)
    return Row(entry.manifest.name, when, rows, notes(entry.manifest, best))


def notes(manifest: Manifest, best: str | None) -> str:
    facts = manifest.facts
    if manifest.kind == "dataset":
        rejects = sum(facts["rejects"].values())
        return ("labelled" if facts["labelled"] else "unlabelled") + (f", {rejects:,} rejects" if rejects else "")
    if manifest.kind == "model":
        return f"validation accuracy {facts['accuracy']:.2%}" + (", champion" if manifest.name == best else "")
    return f"{facts['unsure']:,} unsure"


@dataclass(frozen=True)
class Promoted:
    """The new entry of the champion's log."""

    entry: Entry

    def lines(self) -> list[str]:
        return [f"champion is now {self.entry.version} (entry {self.entry.number}, {self.entry.action})"]


@dataclass(frozen=True)
class Fetched:
    """CSV files that were written."""

    files: tuple[Path, ...] = field(default=())

    def lines(self) -> list[str]:
        return [f"wrote {file}" for file in self.files]
