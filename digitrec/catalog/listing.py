"""What a store holds: datasets, model versions, predictions, newest first. Listings find folders, manifests decide.

An entry that cannot be read stops no other: it is listed with its problem, and whoever goes without it says so. Listing
costs a read for everything that was ever published: no scheduled run does it (see `pending`).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from digitrec.catalog.layout import champion_folder, dataset_folder, model_folder
from digitrec.catalog.manifest import Kind, Manifest, find_manifest
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, DigitrecError, Misconfigured, NoInput, StorageFailed

LOG = logging.getLogger("digitrec.catalog")
TOP: dict[Kind, str] = {"dataset": "datasets", "model": "models", "predictions": "predictions"}
NAMED = 5
FACTS: dict[Kind, tuple[str, ...]] = {
    "dataset": ("labelled", "keyed"),
    "model": (),
    "predictions": ("keyed", "confidences"),
}
"""What a manifest must say to be of use here."""


@dataclass(frozen=True)
class Listed:
    """One published folder. `manifest` is None where it cannot be read or used; `problem` then says why."""

    folder: str
    manifest: Manifest | None
    problem: DigitrecError | None = None

    @property
    def published(self) -> str:
        """When it was published, ISO 8601 in UTC; "" where that cannot be read."""
        return self.manifest.published if self.manifest else ""


def listing(store: Store, kind: Kind) -> list[Listed]:
    """Return everything of a kind that is published, newest first (by the time of publication, then by name).

    Raises `StorageFailed` only if nothing at all can be listed.
    """
    found = list(filter(None, (find_listed(store, kind, folder) for folder in folders(store, kind))))
    found.sort(key=lambda entry: entry.folder)
    return sorted(found, key=lambda entry: entry.published, reverse=True)


def folders(store: Store, kind: Kind) -> Iterator[str]:
    """Yield where something of a kind may be published: the folders of a dataset or model version, or those below a
    dataset of predictions; one of the latter that cannot be listed stands for what is in it.
    """
    top = TOP[kind]
    for name in folder_names(store, top):
        folder = f"{top}/{name}"
        if kind != "predictions":
            if folder != champion_folder():
                yield folder
            continue
        try:
            yield from (f"{folder}/{inner}" for inner in folder_names(store, folder))
        except StorageFailed:
            yield folder


def folder_names(store: Store, prefix: str) -> list[str]:
    """Return the names of the folders directly below a prefix, sorted."""
    return [name[:-1] for name in store.storage.list(prefix) if name.endswith("/")]


def find_listed(store: Store, kind: Kind, folder: str) -> Listed | None:
    """Return what is published at a folder; None if nothing is, or if it vanishes meanwhile."""
    try:
        manifest = find_manifest(store, folder)
        if manifest is None:
            return None
        check_use(store, manifest, kind, folder)
    except (StorageFailed, Misconfigured) as error:
        return Listed(folder, None, error)
    return Listed(folder, manifest)


def check_use(store: Store, manifest: Manifest, kind: Kind, folder: str) -> None:
    """Raise `Corrupt` or `Misconfigured` if a manifest, though whole, cannot be used in this folder."""
    where = store.address(folder)
    if manifest.kind != kind or manifest.folder != folder:
        raise Corrupt(f"{where} holds the manifest of {manifest.kind} {manifest.name}: was it copied? make it anew")
    if missing := [fact for fact in FACTS[kind] if fact not in manifest.facts]:
        raise Misconfigured(f"{where} was made by another digitrec, which did not note {missing[0]}: make it anew")


def published(store: Store, kind: Kind) -> list[Manifest]:
    """Return the readable manifests of a kind, newest first; what is left out is named in the log."""
    found = listing(store, kind)
    for entry in found:
        if entry.problem:
            LOG.warning("left out: %s", entry.problem)
    return [entry.manifest for entry in found if entry.manifest]


def dataset(store: Store, name: str) -> Manifest:
    """Return a dataset's manifest by name. Raises `NoInput`, naming some that exist."""
    return _find_named(store, "dataset", name, dataset_folder(name))


def model(store: Store, version: str) -> Manifest:
    """Return a model version's manifest by name. Raises `NoInput`, naming some that exist."""
    return _find_named(store, "model", version, model_folder(version))


def _find_named(store: Store, kind: Kind, name: str, folder: str) -> Manifest:
    manifest = find_manifest(store, folder)
    if manifest is None:
        there = [other.rpartition("/")[2] for other in folders(store, kind)]
        more = f" and {len(there) - NAMED:,} more" if len(there) > NAMED else ""
        raise NoInput(f"no {kind} {name} in {store.url}; there: {', '.join(there[:NAMED]) or 'none'}{more}")
    check_use(store, manifest, kind, folder)
    return manifest


def newest_labelled(store: Store) -> Manifest:
    """Return the dataset that training takes when none is named. Raises `NoInput` if no dataset has labels.

    Those that cannot be read are named in the log: one of them may be the newest.
    """
    for manifest in published(store, "dataset"):
        if manifest.facts["labelled"] and manifest.rows:
            return manifest
    raise NoInput(f"no labelled dataset in {store.url}; make one with `digitrec ingest train.csv`")
