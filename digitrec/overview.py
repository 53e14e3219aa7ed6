"""Short answers about a store: what it holds, who is champion and was before, a model's card, what was fetched."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from digitrec.catalog import listing as catalog
from digitrec.catalog.champion import Entry, find_champion, read_log
from digitrec.catalog.layout import model_folder
from digitrec.catalog.listing import Listed, listing
from digitrec.catalog.manifest import Kind, Manifest, parse_json, read_file
from digitrec.catalog.store import Store
from digitrec.contract import UNSURE_BELOW
from digitrec.errors import Corrupt, Misconfigured, StorageFailed
from digitrec.ingest.rejects import Reject
from digitrec.scoring.counts import below

KINDS: dict[str, Kind] = {"datasets": "dataset", "models": "model", "predictions": "predictions"}
UNKNOWN_TIME = "????-??-?? ??:??"


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
    """List everything published of a kind. What cannot be read is listed with the reason. Raises `OldStore`."""
    best, problem = None, ""
    if what == "models":
        try:
            best = find_champion(store)
        except (StorageFailed, Misconfigured) as error:
            problem = f"the champion is not known: {error}"
    return Overview(what, store.url, tuple(_row(entry, best) for entry in listing(store, KINDS[what])), problem)


def _row(entry: Listed, best: Entry | None) -> Row:
    if entry.manifest is None:
        return Row(entry.folder, UNKNOWN_TIME, 0, f"UNREADABLE: {entry.problem}")
    rows = entry.manifest.facts.get("training_rows", entry.manifest.rows)
    return Row(entry.manifest.name, _local_time(entry.published), rows, _notes(entry.manifest, best))


def _local_time(at: str) -> str:
    """Return a time in ISO 8601 as a person here writes it, to the minute."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return UNKNOWN_TIME


def _notes(manifest: Manifest, best: Entry | None) -> str:
    facts = manifest.facts
    if manifest.kind == "dataset":
        rejects = sum(facts.get("rejects", {}).values())
        return ("labelled" if facts["labelled"] else "unlabelled") + (f", {rejects:,} rejects" if rejects else "")
    if manifest.kind == "model":
        accuracy = [f"validation accuracy {facts['accuracy']:.2%}"] if "accuracy" in facts else []
        is_best = best is not None and (best.version, best.digest) == (manifest.name, manifest.digest)
        return ", ".join(accuracy + ["champion"] * is_best)
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
        version, who = (max(len(getattr(entry, name)) for entry in self.entries) for name in ("version", "who"))
        return [
            f"{entry.number:>5}  {entry.at}  {entry.action:<8}  {entry.version:<{version}}  {entry.who:<{who}}  "
            f"{entry.why}"
            for entry in self.entries
        ]


def history(store: Store) -> History:
    """Return who was made champion when, by whom and why. Raises `Corrupt` if the log has a gap or an entry cannot be
    read."""
    return History(store.url, tuple(read_log(store)))


@dataclass(frozen=True)
class Shown:
    """The card of a model version, its page for people, and what is known of each run that trained it."""

    card: dict[str, Any]
    page: str
    runs: tuple[dict[str, Any], ...]

    def lines(self) -> list[str]:
        told = ["## Its runs", "", *(_run_line(run) for run in self.runs)] if self.runs else []
        return [*self.page.splitlines(), "", *told]


def _run_line(run: dict[str, Any]) -> str:
    where = run.get("gpu") or run.get("processor") or "an unknown processor"
    return (
        f"- {run['at']}: {run['epochs_run']:,} epochs in {run['seconds']:,.1f} s, {run['images_per_s']:,.0f} images/s, "
        f"on {where} (threads: {run['threads']})"
    )


def show(store: Store, version: str) -> Shown:
    """Return the card of a model version and its runs. Raises `NoInput` if there is no such version, `Corrupt` if its
    card or the note of a run is damaged."""
    manifest = catalog.model(store, version)
    card, page = (read_file(store, manifest, name) for name in ("card.json", "card.md"))
    folder = f"{model_folder(version)}/runs"
    runs = [_read_run(store, f"{folder}/{name}") for name in store.storage.list(folder) if name.endswith(".json")]
    return Shown(json.loads(card), page.decode(), tuple(sorted(runs, key=lambda run: run["at"])))


def _read_run(store: Store, key: str) -> dict[str, Any]:
    where = store.address(key)
    damaged = f"{where} is damaged; no manifest names it: remove it"
    run = parse_json(store.storage.read(key), where, damaged)
    try:
        _run_line(run)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(damaged) from error
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
    """Return the first `limit` rejected rows of a dataset. Raises `NoInput` without such a dataset, `Corrupt` if bytes
    are damaged."""
    from digitrec.catalog.reader import rejects_table

    manifest = catalog.dataset(store, dataset)
    table = rejects_table(store, manifest, manifest.folder)
    return Rejected(dataset, table.num_rows, tuple(table.slice(0, limit).to_pylist()))


@dataclass(frozen=True)
class Fetched:
    """CSV files that were written."""

    files: tuple[Path, ...] = field(default=())

    def lines(self) -> list[str]:
        return [f"wrote {file}" for file in self.files]
