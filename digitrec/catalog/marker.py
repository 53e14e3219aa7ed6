"""The note of a store's format, by which a store of an earlier digitrec is refused before anything is added to it."""

from contextlib import suppress

from digitrec.catalog.listing import TOP, folder_names
from digitrec.catalog.manifest import canonical, find_manifest, parse_json
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, StorageFailed
from digitrec.storage import NotFound

MARKER = "store.json"
LOOKED_AT = 3
"""So many datasets, and model versions, of a store without a marker are looked at: all are of one format."""


def check_format(store: Store) -> None:
    """Refuse a store of another format; costs one read where there is a marker.

    Raises `OldStore` or `OtherFormat`. A store that cannot be read at all is for others to refuse.
    """
    try:
        data = store.storage.read(MARKER)
    except NotFound:
        _look_at_manifests(store)
        return
    where = store.address(MARKER)
    parse_json(data, where, f"{where} is damaged: remove it, and it is written again")


def mark_format(store: Store) -> None:
    """Note the format of a store, unless that is done. Raises like `check_format`."""
    if not store.storage.exists(MARKER):
        _look_at_manifests(store)
        store.storage.put_if_absent(MARKER, (canonical({"format": FORMAT}) + "\n").encode())


def _look_at_manifests(store: Store) -> None:
    for kind in ("dataset", "model"):
        for name in [name for name in folder_names(store, TOP[kind]) if name != "champion"][:LOOKED_AT]:
            with suppress(Corrupt, StorageFailed):
                find_manifest(store, f"{TOP[kind]}/{name}")
