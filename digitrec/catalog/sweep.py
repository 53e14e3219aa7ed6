"""Removing what no manifest names, and work that was given up, while other processes work in the same store.

Nothing is removed that is younger than `GRACE_S`, and whoever reuses a file that is older than half of that makes it
young first (`keep_alive`). A publication looks at all its files once more, immediately before its manifest.
"""

import time
from collections.abc import Collection
from contextlib import suppress

from digitrec.catalog.layout import ATTEMPTS, LANDED, LEASES, LOGS, MANIFEST, PENDING, TRAININGS, champion_folder
from digitrec.catalog.listing import TOP, folder_names, folders
from digitrec.catalog.manifest import find_manifest
from digitrec.catalog.store import Store
from digitrec.errors import DigitrecError
from digitrec.storage import NotFound, Stat

GRACE_S = 7 * 86_400.0
GIVEN_UP_S = 30 * 86_400.0
"""So long an unfinished training can be resumed."""


def keep_alive(store: Store, key: str, found: Stat) -> bool:
    """Make an object that is about to be reused young, if it is old enough to be swept soon. False if it is gone."""
    if time.time() - found.modified_s > GRACE_S / 2:
        try:
            store.storage.touch(key)
        except NotFound:
            return False
    return True


def sweep_folder(store: Store, folder: str, keep: Collection[str] = (), *, grace_s: float = GRACE_S) -> list[str]:
    """Remove the objects in a folder that are older than `grace_s` and that neither its manifest nor `keep` (names in
    it) names, and what killed processes have left half-written.

    What the manifest names is read here, so no caller can forget a part of it; where it cannot be read, nothing is
    removed. Folders inside are looked into if the manifest names something there. Returns the keys removed. Failing to
    clean up is no failure.
    """
    removed: list[str] = []
    with suppress(DigitrecError):
        manifest = find_manifest(store, folder)
        named = manifest.paths if manifest else frozenset()
        for inner in sorted({path.rpartition("/")[0] for path in named} | {""}):
            place, start = (f"{folder}/{inner}", f"{inner}/") if inner else (folder, "")
            for name in store.storage.list(place):
                key = f"{place}/{name}"
                unnamed = not name.endswith("/") and start + name not in named and start + name not in keep
                if unnamed and remove_if_old(store, key, grace_s):
                    removed.append(key)
            store.storage.sweep_unfinished(place, grace_s)
    return removed


def sweep_store(store: Store, keep: Collection[str] = ()) -> list[str]:
    """Sweep everything: all published folders, in which `keep` names what no manifest does and is kept; folders of
    what was never published; trainings that were given up, their logs and leases; half-written landing records, notes
    and entries of the champion's log.

    Lists the whole store. A training that is alive leaves checkpoints and renews its lease, so it is young. Returns the
    keys removed.
    """
    removed = []
    for kind in TOP:
        for folder in folders(store, kind):
            removed += _sweep_published_or_given_up(store, folder, keep)
    leases = [f"{LEASES}/{name}" for name in folder_names(store, LEASES)]
    for top in (TRAININGS, LOGS, *leases):
        for name in folder_names(store, top):
            removed += sweep_tree(store, f"{top}/{name}", grace_s=GIVEN_UP_S)
    for prefix in (LANDED, PENDING, champion_folder()):
        store.storage.sweep_unfinished(prefix, GRACE_S)
    return removed


def _sweep_published_or_given_up(store: Store, folder: str, keep: Collection[str]) -> list[str]:
    with suppress(DigitrecError):  # what cannot be read is left alone
        if find_manifest(store, folder) is None:
            return sweep_tree(store, folder, grace_s=GRACE_S)
        attempts = sweep_tree(store, f"{folder}/{ATTEMPTS}", grace_s=GRACE_S)
        return attempts + sweep_folder(store, folder, keep)
    return []


def sweep_tree(store: Store, prefix: str, *, grace_s: float) -> list[str]:
    """Remove all objects below a prefix if the youngest of them is older than `grace_s`: work that was given up.

    Where anything below is published, nothing was given up: a copy of a dataset's folder, or a folder of folders that
    could not be listed a moment ago. The last one goes first, so that numbers never have a gap. Returns the keys
    removed.
    """
    with suppress(DigitrecError):
        keys = _walk(store, prefix)
        if any(key.endswith(f"/{MANIFEST}") for key in keys):
            return []
        found = [store.storage.stat(key) for key in keys]
        if keys and all(stat and time.time() - stat.modified_s > grace_s for stat in found):
            pairs = zip(reversed(keys), reversed(found), strict=True)
            return [key for key, stat in pairs if stat and store.storage.delete(key, state=stat.state)]
    return []


def remove_tree(store: Store, prefix: str) -> list[str]:
    """Remove all objects below a prefix that nobody needs any more. Returns the keys removed; failing is no failure."""
    with suppress(DigitrecError):
        return [key for key in reversed(_walk(store, prefix)) if store.storage.delete(key)]
    return []


def remove_if_old(store: Store, key: str, grace_s: float) -> bool:
    """Remove an object that is older than `grace_s`; whether this call has removed it."""
    with suppress(DigitrecError):
        found = store.storage.stat(key)
        if found and time.time() - found.modified_s > grace_s:
            return store.storage.delete(key, state=found.state)  # unless it was touched just now
    return False


def _walk(store: Store, prefix: str) -> list[str]:
    keys: list[str] = []
    for name in store.storage.list(prefix):
        if name.endswith("/"):
            keys += _walk(store, f"{prefix}/{name[:-1]}")
        else:
            keys.append(f"{prefix}/{name}")
    return keys
