"""The model that comes along: a version in the package, put into a store that has no champion.

So scoring works on a fresh machine before anything was trained. `bench/pretrained.py` makes it.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

from digitrec.errors import NoInput, TryAgain, storage_errors
from digitrec.store.aliases import champion, promote
from digitrec.store.commit import make_folder, remove_folder, settle_folder
from digitrec.store.layout import MANIFEST, Store, manifest_path, model_folder, staging_folder
from digitrec.store.manifest import parse_manifest

BUNDLE = Path(__file__).parents[1] / "pretrained"
"""A whole model version as it lies in a store, without checkpoints; its manifest's paths are those it will have.

What is large is packed, `NAME.gz`: a package is copied more often than a model is put into a store."""
PACKED = ".gz"


@dataclass(frozen=True)
class Ruling:
    """The model version that scoring uses when none is named, and what a person should know of it."""

    version: str
    notes: tuple[str, ...] = ()


def ruling(store: Store) -> Ruling:
    """The champion; in a store that has none, the bundled version, made champion. Raises `NoInput` without either,
    `TryAgain` if the champions change faster than they can be read."""
    best = champion(store)
    if best:
        return Ruling(best)
    if not (BUNDLE / MANIFEST).is_file():
        raise NoInput(
            f"no champion in {store.url}: train one with `digitrec ingest train.csv` and `digitrec train`, "
            "or name a --model"
        )
    version = parse_manifest((BUNDLE / MANIFEST).read_bytes(), str(BUNDLE / MANIFEST)).name
    put_in(store, version)
    try:
        promote(store, version, "there was no champion, and it comes with digitrec", instead_of="")
    except TryAgain:
        best = champion(store)  # another process has promoted one meanwhile
        if best is None:
            raise
        return Ruling(best)
    return Ruling(version, (f"there was no champion: {version}, which comes with digitrec, was made champion",))


def put_in(store: Store, version: str) -> None:
    """Publish the bundle as a model version of this store, all at once, unless it is there."""
    if store.exists(manifest_path(model_folder(version))):
        return
    staged = staging_folder()
    try:
        make_folder(store, staged)
        with storage_errors("write", store.full(staged)):
            unpack(BUNDLE, Path(store.full(staged)))
        settle_folder(store, staged, model_folder(version))
    finally:
        remove_folder(store, staged)


def unpack(bundle: Path, folder: Path) -> None:
    """Write what a bundle's files hold below a folder. The manifest's digests are of that.

    Modes and times are not the package's: it may be read-only, and so old that a sweep would take its copy for debris.
    """
    for path in bundle.rglob("*"):
        if path.is_file():
            target, data = folder / path.relative_to(bundle), path.read_bytes()
            packed = path.suffix == PACKED
            target.parent.mkdir(parents=True, exist_ok=True)
            (target.with_suffix("") if packed else target).write_bytes(gzip.decompress(data) if packed else data)
