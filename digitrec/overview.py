"""Short answers about a store: what it holds, who is champion and was before, a model's card, what was fetched."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from digitrec.catalog import champion
from digitrec.catalog import listing as catalog
from digitrec.catalog.champion import Entry, champion
from digitrec.catalog.layout import model_folder
from digitrec.catalog.listing import Listed, listing
from digitrec.catalog.manifest import Kind, Manifest, read_checked
from digitrec.catalog.store import Store
from digitrec.contract import UNSURE_BELOW
from digitrec.errors import Corrupt, Misconfigured, StorageFailed, storage_errors
from digitrec.ingest.rejects import Reject
from digitrec.scoring.counts import below

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
    problem: str = ""

    def lines(self) -> list[str]:
        problem = [f"UNREADABLE: {self.problem}"] if self.problem else []
        if not self.found:
            return [f"no {self.what} in {self.store}", *problem]
        width = max(len(row.name) for row in self.found)
        rows = [f"{row.name:<{width}}  {row.published}  {row.rows:>12,} rows  {row.notes}" for row in self.found]
        return rows + problem


def overview(store: Store, what: Literal["datasets", "models", "predictions"]) -> Overview:
    """List everything published of a kind. What cannot be read is listed with the reason."""
    best, problem = None, ""
    if what == "models":
        try:
            best = champion(store)
        except (StorageFailed, Misconfigured) as error:
            problem = f"the champion is not known: {error}"
    return Overview(what, store.url, tuple(row(entry, best) for entry in listing(store, KINDS[what])), problem)


def row(entry: Listed, best: str | None) -> Row:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.published_s))
    if entry.manifest is None:
        return Row(entry.folder, when, 0, f"UNREADABLE: {entry.problem}")
    rows = entry.manifest.facts.get("training_rows", entry.manifest.rows)
    return Row(entry.manifest.name, when, rows, notes(entry.manifest, best))


def notes(manifest: Manifest, best: str | None) -> str:
    facts = manifest.facts
    if manifest.kind == "dataset":
        rejects = sum(facts.get("rejects", {}).values())
        return ("labelled" if facts["labelled"] else "unlabelled") + (f", {rejects:,} rejects" if rejects else "")
    if manifest.kind == "model":
        accuracy = [f"validation accuracy {facts['accuracy']:.2%}"] if "accuracy" in facts else []
        return ", ".join(accuracy + ["champion"] * (manifest.name == best))
    return f"{below(facts, UNSURE_BELOW):,} unsure"


@dataclass(frozen=True)
class Promoted:
    """The new entry of the champion's log."""

    entry: Entry

    def lines(self) -> list[str]:
        return [f"champion is now {self.entry.version} (entry {self.entry.number}, {self.entry.action})"]


@dataclass(frozen=True)
class History:
    """The champion's log, oldest first."""

    store: str
    entries: tuple[Entry, ...]

    def lines(self) -> list[str]:
        if not self.entries:
            return [f"no champion yet in {self.store}"]
        width = max(len(entry.version) for entry in self.entries)
        return [
            f"{entry.number:>5}  {entry.at}  {entry.action:<8}  {entry.version:<{width}}  {entry.why}"
            for entry in self.entries
        ]


def history(store: Store) -> History:
    """Raises `Corrupt` if the log has a gap or an entry cannot be read."""
    return History(store.url, tuple(aliases.history(store)))


@dataclass(frozen=True)
class Shown:
    """The card of a model version, its page for people, and what is known of each run that trained it."""

    card: dict[str, Any]
    page: str
    runs: tuple[dict[str, Any], ...]

    def lines(self) -> list[str]:
        told = ["## Its runs", "", *(run_line(run) for run in self.runs)] if self.runs else []
        return [*self.page.splitlines(), "", *told]


def run_line(run: dict[str, Any]) -> str:
    where = run.get("gpu") or run.get("processor") or "an unknown processor"
    return (
        f"- {run['at']}: {run['epochs_run']:,} epochs in {run['seconds']:,.1f} s, {run['images_per_s']:,.0f} images/s, "
        f"on {where} (threads: {run['threads']})"
    )


def show(store: Store, version: str) -> Shown:
    """Raises `NoInput` if there is no such version, `Corrupt` if its card or the diary of a run is damaged."""
    manifest = catalog.model(store, version)
    card, page = (read_checked(store, manifest.file(name)) for name in ("card.json", "card.md"))
    runs = [read_run(store, path) for path in run_paths(store, version)]
    return Shown(json.loads(card), page.decode(), tuple(sorted(runs, key=lambda run: run["at"])))


def run_paths(store: Store, version: str) -> list[str]:
    folder = f"{model_folder(version)}/runs"
    return [f"{folder}/{name}" for name in store.names(folder) if name.endswith(".json") and not name.startswith(".")]


def read_run(store: Store, path: str) -> dict[str, Any]:
    try:
        with storage_errors("read", store.full(path)):
            run: dict[str, Any] = json.loads(store.read(path))
        run_line(run)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{store.full(path)} is damaged; no manifest names it: remove it") from error
    return run


@dataclass(frozen=True)
class Rejected:
    """The first rejected rows of a dataset, and how many there are in all."""

    dataset: str
    total: int
    rows: tuple[dict[str, Any], ...]

    def lines(self) -> list[str]:
        if not self.total:
            return [f"no row of {self.dataset} was rejected"]
        more = [f"and {self.total - len(self.rows):,} more"] if self.total > len(self.rows) else []
        return [*(str(Reject(**row)) for row in self.rows), *more]


def rejected(store: Store, dataset: str, limit: int) -> Rejected:
    """The first `limit` rejected rows of a dataset. Raises `NoInput` without such a dataset, `Corrupt` if bytes are
    damaged."""
    from digitrec.catalog.reader import rejects_table

    table = rejects_table(store, catalog.dataset(store, dataset))
    return Rejected(dataset, table.num_rows, tuple(table.slice(0, limit).to_pylist()))


@dataclass(frozen=True)
class Fetched:
    """CSV files that were written."""

    files: tuple[Path, ...] = field(default=())

    def lines(self) -> list[str]:
        return [f"wrote {file}" for file in self.files]
