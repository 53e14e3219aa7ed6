"""What a store holds: datasets, model versions, predictions, newest first. Listings find folders, manifests decide."""

from dataclasses import dataclass

from digitrec.errors import Corrupt, Misconfigured, NoInput
from digitrec.store.layout import MANIFEST, Store, dataset_folder, model_folder, parent
from digitrec.store.manifest import Kind, Manifest, find_manifest, read_manifest

PATTERNS: dict[Kind, str] = {"dataset": "datasets/*", "model": "models/*", "predictions": "predictions/*/*"}


@dataclass(frozen=True)
class Listed:
    """One published folder. `manifest` is None where it cannot be read; `problem` then says why."""

    folder: str
    published_s: float
    manifest: Manifest | None
    problem: str = ""


def listing(store: Store, kind: Kind) -> list[Listed]:
    """Everything of a kind that is published, newest first (by the manifest's modification time, then by name)."""
    found = [listed(store, path) for path in store.glob(f"{PATTERNS[kind]}/{MANIFEST}")]
    return sorted(found, key=lambda entry: (-entry.published_s, entry.folder))


def listed(store: Store, path: str) -> Listed:
    folder, published_s = parent(path), store.fs.modified(store.full(path)).timestamp()
    try:
        return Listed(folder, published_s, find_manifest(store, folder))
    except (Corrupt, Misconfigured) as error:
        return Listed(folder, published_s, None, str(error))


def published(store: Store, kind: Kind) -> list[Manifest]:
    """The readable manifests of a kind, newest first."""
    return [entry.manifest for entry in listing(store, kind) if entry.manifest]


def dataset(store: Store, name: str) -> Manifest:
    """A dataset's manifest by name. Raises `NoInput`, naming those that exist."""
    return find_named(store, "dataset", name, dataset_folder(name))


def model(store: Store, version: str) -> Manifest:
    """A model version's manifest by name. Raises `NoInput`, naming those that exist."""
    return find_named(store, "model", version, model_folder(version))


def find_named(store: Store, kind: Kind, name: str, folder: str) -> Manifest:
    if not store.exists(f"{folder}/{MANIFEST}"):
        there = ", ".join(manifest.name for manifest in published(store, kind)[:5]) or "none"
        raise NoInput(f"no {kind} {name} in {store.url}; there: {there}")
    return read_manifest(store, folder)


def newest_labelled(store: Store) -> Manifest:
    """The dataset that training takes when none is named. Raises `NoInput` if no dataset has labels."""
    for manifest in published(store, "dataset"):
        if manifest.facts["labelled"] and manifest.rows:
            return manifest
    raise NoInput(f"no labelled dataset in {store.url}; make one with `digitrec ingest train.csv`")


def unscored(store: Store, version: str | None = None) -> list[Manifest]:
    """Unlabelled datasets with no published predictions (by `version`, if given; else by any), oldest first."""
    done = {
        manifest.asked["dataset"]
        for manifest in published(store, "predictions")
        if version is None or manifest.asked["model"] == version
    }
    datasets = reversed(published(store, "dataset"))
    return [manifest for manifest in datasets if not manifest.facts["labelled"] and manifest.name not in done]
