"""Predictions of what a dataset, or a model version, was before it was removed and made anew under the same name.

They stand where the new predictions belong, and say of every row something about another image. So they are set aside,
whole, before anything new is written: `predictions/X/V.VARIANT` → `_replaced/predictions/X/V.VARIANT/<digest>`. All is
copied first, the manifest last; then the stale manifest is deleted, the only one that ever is. At any moment the stale
predictions are published, or set aside, whole.
To refuse instead would end each scheduled run in a failure until somebody clears the folder by hand.
"""

import time
from contextlib import suppress

from digitrec.catalog.layout import DIGEST_DIGITS, MANIFEST, dataset_folder, manifest_path, model_folder
from digitrec.catalog.leases import hold
from digitrec.catalog.listing import folder_names
from digitrec.catalog.manifest import Manifest, find_manifest, parse_manifest
from digitrec.catalog.publish import create
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import remove_if_old
from digitrec.errors import Misconfigured, StorageFailed, TryAgain
from digitrec.scoring.receipts import RUNS
from digitrec.scoring.submission import SUBMISSION, submission_key
from digitrec.storage import NotFound

REPLACED = "_replaced"


def find_stale(store: Store, dataset: Manifest) -> tuple[str, ...]:
    """Return the folders of predictions that are of another state of `dataset`, or by another state of their model
    version. What cannot be read is left out: it is reported where it stands in the way."""
    top = f"predictions/{dataset.name}"
    folders = (f"{top}/{name}" for name in folder_names(store, top))
    return tuple(folder for folder in folders if _read_stale(store, dataset, folder))


def set_aside(store: Store, dataset: Manifest) -> list[str]:
    """Set aside all stale predictions of a dataset; return a note on each.

    Raises `TryAgain` if `dataset` itself is not in the store any more as it is given: then it is the stale one.
    """
    if not find_stale(store, dataset):
        return []
    with hold(store, f"replaced/{dataset.name}"):
        there = find_manifest(store, dataset_folder(dataset.name))
        if there is None or there.digest != dataset.digest:
            raise TryAgain(f"dataset {dataset.name} was replaced just now; run it again")
        # Looked for again: another process may have been here first, and have published since.
        return [
            f"{folder} was made from an earlier {dataset.name}, or by an earlier model of that name: set aside in "
            + moved
            for folder in find_stale(store, dataset)
            if (moved := _move(store, dataset, folder))
        ]


def _read_stale(store: Store, dataset: Manifest, folder: str) -> Manifest | None:
    """The manifest of predictions that are of another state of the dataset, or by another state of a model version that
    is there; None if they are not."""
    try:
        manifest = find_manifest(store, folder)
        if manifest is None or manifest.kind != "predictions":
            return None
        if manifest.asked["dataset_digest"] != dataset.digest:
            return manifest
        model = find_manifest(store, model_folder(manifest.asked["model"]))
        return manifest if model is not None and model.digest != manifest.asked["model_digest"] else None
    except (StorageFailed, Misconfigured, KeyError):
        return None


def _read_bytes(store: Store, folder: str, manifest: Manifest) -> bytes | None:
    """The bytes of a manifest as they lie there; None if it is gone or another one."""
    try:
        data = store.storage.read(manifest_path(folder))
    except NotFound:
        return None
    return data if parse_manifest(data, store, folder).digest == manifest.digest else None


def _move(store: Store, dataset: Manifest, folder: str) -> str:
    """Copy stale predictions to a place of their own, then take them away; return that place's address, or "" if they
    are not stale any more. Doing it again after a crash ends in the same."""
    began, storage = time.time(), store.storage
    manifest = _read_stale(store, dataset, folder)
    if manifest is None:
        return ""
    submission = storage.stat(submission_key(folder))
    target = f"{REPLACED}/{folder}/{manifest.digest[:DIGEST_DIGITS]}"
    named = sorted(manifest.paths - {MANIFEST})
    runs = [f"{RUNS}/{name}" for name in storage.list(f"{folder}/{RUNS}") if not name.endswith("/")]

    def copy(*paths: str) -> None:
        for path in paths:
            with suppress(NotFound):  # what is missing is missing there too: `verify` says so
                storage.copy(f"{folder}/{path}", f"{target}/{path}")

    # This process may have been paused: what no digest names may be of what another one has published here since.
    copy(*named)
    if not storage.exists(manifest_path(target)):
        copy(SUBMISSION, *runs)
        data = _read_bytes(store, folder, manifest)
        if data is None:
            return ""
        create(store, manifest_path(target), data)
    there = storage.stat(manifest_path(folder))
    now = _read_stale(store, dataset, folder)
    if there is None or now is None or now.digest != manifest.digest:
        return ""
    if not storage.delete(manifest_path(folder), state=there.state):
        return ""
    # Not what another process has uploaded since, though it is of the same content: it may be about to name it.
    if submission:
        storage.delete(submission_key(folder), state=submission.state)
    for path in (*runs, *named):
        remove_if_old(store, f"{folder}/{path}", time.time() - began)
    return store.address(target)
