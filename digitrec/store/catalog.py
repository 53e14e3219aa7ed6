"""What a store holds: datasets, model versions, predictions, newest first. Listings find folders, manifests decide.

An entry that cannot be read stops no other: it is listed with its problem, and whoever goes without it says so.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from digitrec.errors import Corrupt, DigitrecError, Misconfigured, NoInput, StorageFailed
from digitrec.store.layout import MANIFEST, Store, dataset_folder, model_folder
from digitrec.store.manifest import Kind, Manifest, find_manifest

LOG = logging.getLogger("digitrec.store")
TOP: dict[Kind, str] = {"dataset": "datasets", "model": "models", "predictions": "predictions"}
FACTS: dict[Kind, tuple[str, ...]] = {
    "dataset": ("labelled", "keyed"),
    "model": (),
    "predictions": ("keyed", "confidences"),
}
"""What a manifest must say to be of use here."""


@dataclass(frozen=True)
class Listed:
    """One published folder. `manifest` is None where it cannot be read or used; `problem` then says why.

    `published_s`: modification time of the manifest, seconds since the epoch; 0 where even that cannot be read.
    """

    folder: str
    published_s: float
    manifest: Manifest | None
    problem: DigitrecError | None = None


def listing(store: Store, kind: Kind) -> list[Listed]:
    """Return everything of a kind that is published, newest first (by the manifest's modification time, then by name).

    Raises `StorageFailed` only if nothing at all can be listed.
    """
    found = filter(None, (listed(store, kind, folder) for folder in folders(store, kind)))
    return sorted(found, key=lambda entry: (-entry.published_s, entry.folder))


def folders(store: Store, kind: Kind) -> Iterator[str]:
    """Yield where something of a kind may be published: the folders of a dataset or model version, or those below a
    dataset of predictions; one of the latter that cannot be listed stands for what is in it.
    """
    top = TOP[kind]
    for name in store.names(top):
        folder = f"{top}/{name}"
        if kind != "predictions":
            yield folder
            continue
        try:
            yield from (f"{folder}/{inner}" for inner in store.names(folder))
        except StorageFailed:
            yield folder


def listed(store: Store, kind: Kind, folder: str) -> Listed | None:
    """Return what is published at a folder; None if nothing is, or if it vanishes meanwhile."""
    try:
        manifest = find_manifest(store, folder)
        if manifest is None:
            return None
        check_use(manifest, kind, store.full(folder))
    except (StorageFailed, Misconfigured) as error:
        return Listed(folder, published_s(store, folder), None, error)
    return Listed(folder, published_s(store, folder), manifest)


def check_use(manifest: Manifest, kind: Kind, full: str) -> None:
    """Raise `Corrupt` or `Misconfigured` if a manifest, though whole, cannot be used where it lies."""
    name = full.rpartition("/")[2]
    if manifest.kind != kind or (kind != "predictions" and manifest.name != name):
        raise Corrupt(f"{full} holds the manifest of {manifest.kind} {manifest.name}: was it copied? make it anew")
    if missing := [fact for fact in FACTS[kind] if fact not in manifest.facts]:
        raise Misconfigured(f"{full} was made by another digitrec, which did not note {missing[0]}: make it anew")


def published_s(store: Store, folder: str) -> float:
    try:
        return Path(store.full(f"{folder}/{MANIFEST}")).stat().st_mtime
    except OSError:
        return 0.0


def published(store: Store, kind: Kind) -> list[Manifest]:
    """Return the readable manifests of a kind, newest first; what is left out is named in the log."""
    found = listing(store, kind)
    for entry in found:
        if entry.problem:
            LOG.warning("left out: %s", entry.problem)
    return [entry.manifest for entry in found if entry.manifest]


def dataset(store: Store, name: str) -> Manifest:
    """A dataset's manifest by name. Raises `NoInput`, naming those that exist."""
    return find_named(store, "dataset", name, dataset_folder(name))


def model(store: Store, version: str) -> Manifest:
    """A model version's manifest by name. Raises `NoInput`, naming those that exist."""
    return find_named(store, "model", version, model_folder(version))


def find_named(store: Store, kind: Kind, name: str, folder: str) -> Manifest:
    manifest = find_manifest(store, folder)
    if manifest is None:
        there = [entry.manifest.name for entry in listing(store, kind) if entry.manifest]
        raise NoInput(f"no {kind} {name} in {store.url}; there: {', '.join(there[:5]) or 'none'}")
    check_use(manifest, kind, store.full(folder))
    return manifest


def newest_labelled(store: Store) -> Manifest:
    """Return the dataset that training takes when none is named. Raises `NoInput` if no dataset has labels.

    Those that cannot be read are named in the log: one of them may be the newest.
    """
    for manifest in published(store, "dataset"):
        if manifest.facts["labelled"] and manifest.rows:
            return manifest
    raise NoInput(f"no labelled dataset in {store.url}; make one with `digitrec ingest train.csv`")


def unscored(store: Store, datasets: list[Manifest], model: Manifest | None = None) -> list[Manifest]:
    """Return those of `datasets` that have no labels and no published predictions (by `model`, if given; else by any).

    Names do not decide: predictions of what a dataset was before count for nothing.
    """
    done = {
        (manifest.asked["dataset"], manifest.asked["dataset_digest"])
        for manifest in published(store, "predictions")
        if model is None or (manifest.asked["model"], manifest.asked["model_digest"]) == (model.name, model.digest)
    }
    return [each for each in datasets if not each.facts["labelled"] and (each.name, each.digest) not in done]
