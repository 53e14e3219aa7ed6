"""Notes on what may still have to be scored, so that a scheduled run finds it without listing everything.

`pending/<dataset>` is put before the manifest of an unlabelled dataset, and removed after its predictions. A note may
delay work or cause a look in vain; what is done, manifests alone decide.
"""

from digitrec.catalog.layout import NAME, PENDING, dataset_folder, pending_key
from digitrec.catalog.listing import folder_names, published
from digitrec.catalog.manifest import Manifest, find_manifest
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import GRACE_S, remove_if_old
from digitrec.errors import DigitrecError, Misconfigured, StorageFailed


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
    return [name for name in store.storage.list(PENDING) if NAME.fullmatch(name)]


def has_predictions(store: Store, dataset: str, digest: str) -> bool:
    """Return whether a dataset, in the state of this digest, has published predictions by any model version.

    Raises what reading a manifest does, if none that can be read fits.
    """
    problem: DigitrecError | None = None
    for name in folder_names(store, f"predictions/{dataset}"):
        try:
            manifest = find_manifest(store, f"predictions/{dataset}/{name}")
        except (StorageFailed, Misconfigured) as error:
            problem = error
            continue
        if manifest and manifest.asked.get("dataset_digest") == digest:
            return True
    if problem:
        raise problem
    return False


def rebuild_notes(store: Store) -> list[str]:
    """Put a note for each unlabelled dataset that has no predictions, and remove those of others, if nobody has put
    them again meanwhile.

    Reads every manifest of the store. A note whose dataset cannot be read stays; one without a dataset does so as long
    as that may still be published. Returns the names of the datasets that wait.
    """
    before = {name: store.storage.stat(pending_key(name)) for name in noted(store)}
    readable = {manifest.name: manifest for manifest in published(store, "dataset")}
    waiting = sorted(name for name, manifest in readable.items() if _may_wait(store, manifest))
    for name in waiting:
        confirm_note(store, name)
    for name, note in before.items():
        key = pending_key(name)
        if name in readable and name not in waiting and note:
            store.storage.delete(key, state=note.state)
        elif not _is_published(store, name):
            remove_if_old(store, key, GRACE_S)
    return waiting


def _may_wait(store: Store, dataset: Manifest) -> bool:
    try:
        return not dataset.facts["labelled"] and not has_predictions(store, dataset.name, dataset.digest)
    except DigitrecError:
        return True  # the run that looks at it will say why it cannot be read


def _is_published(store: Store, name: str) -> bool:
    """Whether there is such a dataset; also if it cannot be read."""
    try:
        return find_manifest(store, dataset_folder(name)) is not None
    except DigitrecError:
        return True
