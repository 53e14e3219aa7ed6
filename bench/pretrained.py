"""Make the model that comes along: digitrec/pretrained/, from a sealed model version.

    python bench/pretrained.py STORE VERSION

Leaves checkpoints out, names the version pretrained-<16 hex of its request>, and writes a manifest of what is left. How
the version that is there now was made stands on its card.
"""

import gzip
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from machine import say

from digitrec.catalog import listing as catalog
from digitrec.catalog.bundled import BUNDLE, PACKED
from digitrec.catalog.layout import MANIFEST, model_folder, name_from
from digitrec.catalog.manifest import Manifest, canonical, describe, read_checked
from digitrec.catalog.store import Store
from digitrec.training.card import markdown
from digitrec.training.sealed import CARD, CARD_FOR_PEOPLE

LEFT_OUT = ("checkpoints/", "metrics.csv")
BYTES_MAX = 10_000_000
PACKED_FROM = 1_000_000


def bundle(store: Store, version: str, target: Path) -> Manifest:
    """Write the bundle of a sealed version, every byte of which is checked."""
    sealed = catalog.model(store, version)
    name = name_from("pretrained", sealed.request)
    source, folder = model_folder(version), model_folder(name)
    shutil.rmtree(target, ignore_errors=True)
    made = Store.at(target.parent)  # so that a path below the target can be described
    files = []
    for file in sealed.files:
        inside = file.path.removeprefix(f"{source}/")
        if not inside.startswith(LEFT_OUT):
            path = target / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(renamed(inside, read_checked(store, file), name, read_checked(store, sealed.file(CARD))))
            files.append(replace(describe(made, f"{target.name}/{inside}"), path=f"{folder}/{inside}"))
            if path.stat().st_size > PACKED_FROM:
                pack(path)
    manifest = Manifest("model", name, sealed.asked, tuple(files), facts=sealed.facts)
    (target / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def pack(path: Path) -> None:
    """The same bytes each time: no name and no time in the header."""
    path.with_name(path.name + PACKED).write_bytes(gzip.compress(path.read_bytes(), compresslevel=9, mtime=0))
    path.unlink()


def renamed(inside: str, data: bytes, name: str, card: bytes) -> bytes:
    """A file's bytes; the cards carry the new name, and the version they were sealed as."""
    body = json.loads(card)
    body |= {"version": name, "sealed_as": body["version"]}
    cards = {CARD: canonical(body, indent=1) + "\n", CARD_FOR_PEOPLE: markdown(body)}
    return cards[inside].encode() if inside in cards else data


def main(location: str, version: str) -> None:
    manifest = bundle(Store.at(location), version, BUNDLE)
    size = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file())
    say(f"{manifest.name}: {size / 1e6:.2f} MB in {BUNDLE.name}/")
    if size > BYTES_MAX:
        raise SystemExit(f"too large: {size:,} bytes, at most {BYTES_MAX:,} may come along")


if __name__ == "__main__":
    main(*sys.argv[1:])
