"""The commit protocol, the same for datasets, model versions and predictions.

Data files first, under names that carry their digest; then the manifest, with put-if-absent: the one moment at which
anything becomes visible. Execution is at least once, publication exactly once: whoever finds a manifest of the same
request there has succeeded, and reports what is published, not what it made itself.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from digitrec.catalog.layout import digest_name, manifest_path
from digitrec.catalog.manifest import File, Json, Manifest, RowGroup, find_manifest, read_manifest
from digitrec.catalog.marker import mark_format
from digitrec.catalog.store import Store
from digitrec.errors import AlreadyPublished, StorageFailed, TryAgain
from digitrec.storage import NotFound, StagedFile

STATS_AT_ONCE = 16
SMALL = 64
"""So few files are looked at one after the other."""


@dataclass(frozen=True)
class Published:
    """What stands in the store after an attempt to publish; `created`: by this attempt."""

    manifest: Manifest
    created: bool


def upload(
    store: Store,
    folder: str,
    staged: StagedFile,
    name: str,
    *,
    rows: int = 0,
    row_groups: tuple[RowGroup, ...] = (),
) -> File:
    """Make a finished staged file a data file of a folder, and return what a manifest says of it.

    `name` (`plots/confusion.png`) gets the digest before its suffix. Doing it twice, or in two places at once, is
    harmless. Raises `StorageFailed`.
    """
    stem, dot, suffix = name.rpartition(".")
    path = digest_name(stem, staged.sha256, dot + suffix)
    store.storage.upload(staged.path, f"{folder}/{path}")
    return File(path, rows, staged.bytes, staged.sha256, row_groups)


def publish(store: Store, manifest: Manifest) -> Published:
    """Make everything that `manifest` names visible, once, and return what stands there now.

    The first publication in a store notes its format.

    Raises `AlreadyPublished` if another request stands there, `TryAgain` if a file is not there any more.
    """
    mark_format(store)
    *apart, (_, data) = manifest.stamped().to_objects().items()
    for path, content in apart:
        with store.storage.scratch() as scratch:
            store.storage.upload(scratch.write(path, content).path, f"{manifest.folder}/{path}")
    check_uploaded(store, manifest)
    created = create(store, manifest_path(manifest.folder), data)
    there = read_manifest(store, manifest.folder)
    check_same_request(store, there, manifest)
    return Published(there, created)


def create(store: Store, key: str, data: bytes) -> bool:
    """Put an object if absent, and return whether these bytes stand there now: also where the put was done and only its
    reply was lost, so `data` tells one attempt from another.

    Raises `StorageFailed` if the put failed, and has left nothing that can be seen, or nothing that is sure to last.
    """
    try:
        if store.storage.put_if_absent(key, data):
            return True
    except StorageFailed:
        if not _stands(store, key, data):
            raise
        # It stands there, but what failed may have been to make it last: that is asked once more, and may not fail.
        store.storage.put_if_absent(key, data)
        return True
    return _stands(store, key, data)


def _stands(store: Store, key: str, data: bytes) -> bool:
    try:
        return store.storage.read(key) == data
    except NotFound:
        return False


def find_published(store: Store, manifest: Manifest) -> Manifest | None:
    """Return what is published where `manifest` would be, if it answers the same request; None if nothing is.

    Raises `AlreadyPublished` if it answers another one.
    """
    there = find_manifest(store, manifest.folder)
    if there is not None:
        check_same_request(store, there, manifest)
    return there


def check_same_request(store: Store, there: Manifest, manifest: Manifest) -> None:
    """Raise `AlreadyPublished` unless two manifests answer the same request."""
    if there.request != manifest.request:
        raise AlreadyPublished(
            f"{store.address(manifest.folder)} already holds something else (request {there.request[:8]}, not "
            f"{manifest.request[:8]}): {_difference(there.asked, manifest.asked)}; nothing was changed, choose another "
            "name"
        )


def check_uploaded(store: Store, manifest: Manifest) -> None:
    """Raise `TryAgain` unless every file that a manifest names is there in its size.

    Asked immediately before publication: a file that was reused may have been swept since.
    """

    def missing(file: File) -> str | None:
        found = store.storage.stat(manifest.key(file))
        return None if found and found.size == file.bytes else store.address(manifest.key(file))

    if gone := next(filter(None, _map(missing, manifest.files)), None):
        raise TryAgain(f"{gone} has been removed before it could be published; run it again")


def _map(look: Callable[[File], str | None], files: tuple[File, ...]) -> Iterator[str | None]:
    if len(files) <= SMALL:
        yield from map(look, files)
        return
    with ThreadPoolExecutor(STATS_AT_ONCE) as pool:
        yield from pool.map(look, files)


def _difference(there: dict[str, Json], here: dict[str, Json]) -> str:
    """The first few options in which two requests differ, for a person."""
    names = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    return "different " + ", ".join(names[:3]) if names else "different"
