"""Make the bundled model: digitrec/pretrained/, from a published model version.

    python bench/pretrained.py STORE VERSION

Leaves out what nobody reads there (metrics.csv), names the version pretrained-<16 hex of its request>, and writes a
manifest of what is left, with the files that it names beside it, large ones packed. The same version gives the same
bytes. STORE may also be one where the bundled model was published, and VERSION that one: after a change of the layout
it is written anew from the same weights. How it was trained stands on its card.
"""

import gzip
import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from machine import say

from digitrec.catalog import listing as catalog
from digitrec.catalog.bundled import BUNDLE, PACKED
from digitrec.catalog.layout import digest_name, name_from
from digitrec.catalog.manifest import File, Manifest, canonical, read_file
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.training.card import markdown
from digitrec.training.sealed import CARD, CARD_FOR_PEOPLE

LEFT_OUT = {"metrics.csv"}
BYTES_MAX = 10_000_000
PACKED_FROM = 1_000_000


def bundle(store: Store, version: str, target: Path) -> Manifest:
    """Write the bundle of a published version, every byte of which is checked."""
    published = catalog.model(store, version)
    name = name_from("pretrained", published.request)
    cards = renamed_cards(json.loads(read_file(store, published, CARD)), name)
    contents = {
        file: cards.get(file.name) or read_file(store, published, file.name)
        for file in published.files
        if file.name not in LEFT_OUT
    }
    shutil.rmtree(target, ignore_errors=True)
    files = tuple(write(target, file, data) for file, data in contents.items())
    manifest = Manifest("model", name, published.asked, files, facts=published.facts)
    for path, data in manifest.to_objects().items():
        (target / path).write_bytes(data)
    return manifest


def renamed_cards(card: dict[str, object], name: str) -> dict[str, bytes]:
    """The cards with the new name, and the one under which the version was trained."""
    card = {"trained_as": card["version"]} | card | {"format": FORMAT, "version": name}
    return {CARD: (canonical(card, indent=1) + "\n").encode(), CARD_FOR_PEOPLE: markdown(card).encode()}


def write(target: Path, file: File, data: bytes) -> File:
    """Write a file under its digest's name, packed if it is large; return what the manifest says of it."""
    folder, slash, _ = file.path.rpartition("/")
    stem, dot, suffix = file.name.rpartition(".")
    sha256 = hashlib.sha256(data).hexdigest()
    path = target / f"{folder}{slash}{digest_name(stem, sha256, dot + suffix)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(data) > PACKED_FROM:  # no name and no time in the header: the same bytes each time
        path.with_name(path.name + PACKED).write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    else:
        path.write_bytes(data)
    return replace(file, path=path.relative_to(target).as_posix(), bytes=len(data), sha256=sha256)


def main(location: str, version: str) -> None:
    manifest = bundle(Store.at(location), version, BUNDLE)
    size = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file())
    say(f"{manifest.name}: {size / 1e6:.2f} MB in {BUNDLE.name}/")
    if size > BYTES_MAX:
        raise SystemExit(f"too large: {size:,} bytes, at most {BYTES_MAX:,} may be bundled")


if __name__ == "__main__":
    main(*sys.argv[1:])
