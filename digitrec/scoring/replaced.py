"""Predictions of what a dataset, or a model version, was before it was removed and made anew under the same name.

They stand where the new predictions belong, and say of every row something about another image. So they are set aside,
whole, before anything new is written: `predictions/X/V.VARIANT` → `_replaced/predictions/X/V.VARIANT/<digest>`. Nothing
is overwritten or deleted, a rename is all or nothing, and a manifest is still published once, in a folder without one.
To refuse instead would end each scheduled run in a failure until somebody clears the folder by hand.
"""

import fcntl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from digitrec.catalog.layout import dataset_folder, model_folder, parent
from digitrec.catalog.manifest import Manifest, find_manifest
from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, StorageFailed, TryAgain, storage_errors
from digitrec.store.commit import make_folder, share, sync_file

REPLACED = "_replaced"


def set_aside(store: Store, dataset: Manifest) -> list[str]:
    """Set aside all predictions that are of another state of `dataset`, or by another state of their model version;
    return a note on each. What cannot be read stays: it is reported where it stands in the way.

    Raises `TryAgain` if `dataset` itself is not in the store any more as it is given: then it is the stale one.
    """
    top = f"predictions/{dataset.name}"
    stale = [folder for name in store.names(top) if is_stale(store, dataset, folder := f"{top}/{name}")]
    if not stale:
        return []
    with sole(store):
        # Another process may have been here first, and have published since: what is looked at now stays as it is,
        # because nobody publishes where a manifest is, and nobody else takes one away.
        there = find_manifest(store, dataset_folder(dataset.name))
        if there is None or there.digest != dataset.digest:
            raise TryAgain(f"dataset {dataset.name} was replaced just now; run it again")
        return [
            f"{folder} was made from an earlier {dataset.name}, or by an earlier model of that name: set aside in "
            + move(store, folder)
            for folder in stale
            if is_stale(store, dataset, folder)
        ]


def is_stale(store: Store, dataset: Manifest, folder: str) -> bool:
    """Whether predictions are of another state of the dataset, or by another state of a model version that is there."""
    try:
        manifest = find_manifest(store, folder)
        if manifest is None or manifest.kind != "predictions":
            return False
        if manifest.asked["dataset_digest"] != dataset.digest:
            return True
        model = find_manifest(store, model_folder(manifest.asked["model"]))
        return model is not None and model.digest != manifest.asked["model_digest"]
    except (StorageFailed, Misconfigured, KeyError):
        return False


def move(store: Store, folder: str) -> str:
    """Rename a folder to a place that nobody else uses; return its full path."""
    manifest = find_manifest(store, folder)
    target = f"{REPLACED}/{folder}/{manifest.digest[:16] if manifest else ''}-{uuid.uuid4().hex[:8]}"
    make_folder(store, parent(target))
    with storage_errors("set aside"):
        Path(store.full(folder)).rename(store.full(target))
        sync_file(store.full(parent(target)))
        sync_file(store.full(parent(folder)))
    return store.full(target)


@contextmanager
def sole(store: Store) -> Iterator[None]:
    """Let one process at a time set aside. The lock ends with its process; its file stays (see flock(2))."""
    path = Path(make_folder(store, REPLACED), "lock")
    with storage_errors("lock"):
        file = path.open("a")
        share(store, path, writable=True)
    with file:
        with storage_errors("lock"):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
