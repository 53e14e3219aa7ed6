"""Removing what no manifest names. It never races with reuse.

Nothing is removed that is younger than `GRACE_S`, and whoever reuses a file that is older than half of that makes it
young first (`keep_alive`). A publication looks at all its files once more, immediately before its manifest.
"""

import time
from collections.abc import Collection
from contextlib import suppress

from digitrec.catalog.manifest import find_manifest
from digitrec.catalog.store import Store
from digitrec.errors import DigitrecError
from digitrec.storage import NotFound, Stat

GRACE_S = 7 * 86_400.0


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


def sweep_tree(store: Store, prefix: str, *, grace_s: float) -> list[str]:
    """Remove all objects below a prefix if the youngest of them is older than `grace_s`: work that was given up.

    The last one goes first, so that numbers never have a gap. Returns the keys removed.
    """
    with suppress(DigitrecError):
        keys = _walk(store, prefix)
        found = [store.storage.stat(key) for key in keys]
        if keys and all(stat and time.time() - stat.modified_s > grace_s for stat in found):
            for key in reversed(keys):
                store.storage.delete(key)
            return keys
    return []


def remove_if_old(store: Store, key: str, grace_s: float) -> bool:
    """Remove an object that is older than `grace_s`; whether this call has removed it."""
    with suppress(DigitrecError):
        found = store.storage.stat(key)
        if found and time.time() - found.modified_s > grace_s:
            store.storage.delete(key)
            return True
    return False


def _walk(store: Store, prefix: str) -> list[str]:
    keys: list[str] = []
    for name in store.storage.list(prefix):
        if name.endswith("/"):
            keys += _walk(store, f"{prefix}/{name[:-1]}")
        else:
            keys.append(f"{prefix}/{name}")
    return keys
