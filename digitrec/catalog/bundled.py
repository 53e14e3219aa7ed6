"""The bundled model: a version in the package, published in a store that has no champion.

So scoring works on a fresh machine before anything was trained. `bench/pretrained.py` makes it.
"""

import gzip
import zlib
from pathlib import Path

from digitrec.catalog.champion import promote, read_champion
from digitrec.catalog.layout import MANIFEST
from digitrec.catalog.manifest import Manifest, parse_manifest
from digitrec.catalog.publish import find_published, publish
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, Misconfigured, TryAgain, storage_errors

BUNDLE = Path(__file__).parents[1] / "pretrained"
"""A whole model version as it lies in a store. What is large is packed, `NAME.gz`: a package is copied more often than
a model is put into a store."""
PACKED = ".gz"


def read_bundled() -> Manifest | None:
    """Return the manifest of the bundled version, or None if this package has none.

    Raises `Corrupt` if this installation is damaged.
    """
    path = BUNDLE / MANIFEST
    with storage_errors("read", path):
        if not BUNDLE.is_dir():
            return None
        try:
            return parse_manifest(path.read_bytes(), Store.at(BUNDLE), "")
        except (FileNotFoundError, Corrupt, Misconfigured) as error:
            raise _damaged(path) from error


def publish_bundled(store: Store) -> Manifest | None:
    """Publish the bundled version in a store, unless it is there; return it, or None if this package has none.

    Every byte is checked first. Raises `Corrupt` if this installation is damaged, `StorageFailed`.
    """
    manifest = read_bundled()
    if manifest is None:
        return None
    if there := find_published(store, manifest):
        return there
    with store.storage.scratch() as scratch:
        for file in manifest.files:
            staged = scratch.write(file.path.replace("/", "-"), read_bundled_file(file.path))
            if staged.sha256 != file.sha256:
                raise _damaged(BUNDLE / file.path)
            store.storage.upload(staged.path, manifest.key(file))
    return publish(store, manifest).manifest


def provide_champion(store: Store) -> tuple[Manifest | None, bool]:
    """Return the champion, and whether this call has made it: in a store that has none, the bundled version is
    published and promoted. None if this package has none either."""
    champion = read_champion(store)
    if champion is not None:
        return champion, False
    bundled = publish_bundled(store)
    if bundled is None:
        return None, False
    try:
        promote(store, bundled.name, "there was no champion, and it comes with digitrec", instead_of="")
    except TryAgain:
        return read_champion(store), False  # another process has promoted one meanwhile
    return bundled, True


def read_bundled_file(path: str) -> bytes:
    """Return the bytes that a file of the bundle stands for, unpacked; the manifest's digests are of those."""
    plain = BUNDLE / path
    packed = plain.with_name(plain.name + PACKED)
    with storage_errors("read", plain):
        try:
            return gzip.decompress(packed.read_bytes()) if packed.is_file() else plain.read_bytes()
        except (FileNotFoundError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(plain) from error


def _damaged(path: Path) -> Corrupt:
    return Corrupt(f"{path} of this installation is damaged or missing: install digitrec anew")
