"""Notes on what may still have to be scored, so that a scheduled run finds it without listing everything.

`pending/<dataset>` is put before the manifest of an unlabelled dataset, and removed after its predictions. A note may
delay work or cause a look in vain; what is done, manifests alone decide.
"""

from digitrec.catalog.layout import pending_key
from digitrec.catalog.listing import folder_names, published
from digitrec.catalog.manifest import Manifest, find_manifest
from digitrec.catalog.store import Store
from digitrec.errors import DigitrecError

PREFIX = "pending"


def put_note(store: Store, dataset: str) -> None:
    """Note that a dataset will have to be scored; before its manifest is published."""
    store.storage.put(pending_key(dataset), b"")


def confirm_note(store: Store, dataset: str) -> None:
    """Put a note again if it is gone: asked once the dataset is published."""
    if not store.storage.exists(pending_key(dataset)):
        put_note(store, dataset)


def remove_note(store: Store, dataset: str) -> None:
    """Note that a dataset has predictions."""
    store.storage.delete(pending_key(dataset))


def noted(store: Store) -> list[str]:
    """Return the names of the datasets that may have to be scored, sorted."""
    return [name for name in store.storage.list(PREFIX) if not name.endswith("/")]


def has_predictions(store: Store, dataset: str, digest: str) -> bool:
    """Return whether a dataset, in the state of this digest, has published predictions by any model version."""
    top = f"predictions/{dataset}"
    found = (find_manifest(store, f"{top}/{name}") for name in folder_names(store, top))
    return any(manifest and manifest.asked.get("dataset_digest") == digest for manifest in found)


def rebuild_notes(store: Store) -> list[str]:
    """Put a note for each unlabelled dataset that has no predictions, and remove those of the others.

    Reads every manifest of the store. Returns the names noted.
    """
    waiting = {manifest.name for manifest in published(store, "dataset") if _may_wait(store, manifest)}
    for name in waiting:
        put_note(store, name)
    for name in noted(store):
        if name not in waiting and find_manifest(store, f"datasets/{name}") is not None:
            remove_note(store, name)
    return sorted(waiting)


def _may_wait(store: Store, dataset: Manifest) -> bool:
    try:
        return not dataset.facts["labelled"] and not has_predictions(store, dataset.name, dataset.digest)
    except DigitrecError:
        return True  # the run that looks at it will say why it cannot be read
