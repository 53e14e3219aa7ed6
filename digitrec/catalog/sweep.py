"""Removing what no manifest names. It never races with reuse.

Nothing is removed that is younger than `GRACE_S`, and whoever reuses a file that is older than half of that makes it
young first (`keep_alive`). A publication looks at all its files once more, immediately before its manifest.
"""

import time
from collections.abc import Collection
from contextlib import suppress

from digitrec.catalog.layout import MANIFEST
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


def sweep_folder(store: Store, folder: str, keep: Collection[str], *, grace_s: float = GRACE_S) -> list[str]:
    """Remove the objects directly in a folder that are older than `grace_s` and that `keep` (names in it) does not
    name, and what killed processes have left half-written. A manifest is never removed.

    Returns the keys removed. Failing to clean up is no failure.
    """
    removed = []
    with suppress(DigitrecError):
        for name in store.storage.list(folder):
            if name.endswith("/") or name in keep or name == MANIFEST:
                continue
            if remove_if_old(store, f"{folder}/{name}", grace_s):
                removed.append(f"{folder}/{name}")
        store.storage.sweep_unfinished(folder, grace_s)
    return removed


def sweep_tree(store: Store, prefix: str, *, grace_s: float) -> list[str]:
    """Remove all objects below a prefix if the youngest of them is older than `grace_s`: work that was given up.

    Returns the keys removed.
    """
    with suppress(DigitrecError):
        keys = _walk(store, prefix)
        found = [store.storage.stat(key) for key in keys]
        if keys and all(stat and time.time() - stat.modified_s > grace_s for stat in found):
            return _remove(store, keys)
    return []


def remove_tree(store: Store, prefix: str) -> list[str]:
    """Remove all objects below a prefix that nobody needs any more. Returns the keys removed; failing is no failure."""
    with suppress(DigitrecError):
        return _remove(store, _walk(store, prefix))
    return []


def remove_if_old(store: Store, key: str, grace_s: float) -> bool:
    """Remove an object that is older than `grace_s`; whether this call has removed it."""
    with suppress(DigitrecError):
        found = store.storage.stat(key)
        if found and time.time() - found.modified_s > grace_s:
            store.storage.delete(key)
            return True
    return False


def _remove(store: Store, keys: list[str]) -> list[str]:
    for key in keys:
        store.storage.delete(key)
    return keys


def _walk(store: Store, prefix: str) -> list[str]:
    keys = []
    for name in store.storage.list(prefix):
        if name.endswith("/"):
            keys += _walk(store, f"{prefix}/{name[:-1]}")
        else:
            keys.append(f"{prefix}/{name}")
    return keys
