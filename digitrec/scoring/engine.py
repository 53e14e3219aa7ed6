"""A published model version as something that classifies: every byte checked before it is used."""

import json
from functools import lru_cache
from typing import Any

from digitrec.engines import INT8_FILE, Arithmetic, Network
from digitrec.errors import Corrupt
from digitrec.scoring.predict import Engine
from digitrec.store.layout import Store, model_folder
from digitrec.store.manifest import Manifest, read_checked, read_manifest


@lru_cache(maxsize=4)
def load_engine(store: Store, version: str, digest: str, precision: Arithmetic) -> Engine:
    """Load a model version, once a process, every byte checked against the manifest whose digest is given.

    Raises `Corrupt`, naming the file.
    """
    manifest = read_manifest(store, model_folder(version))
    if manifest.digest != digest:
        raise Corrupt(f"the manifest of model {version} in {store.url} changed while scoring; run it again")
    card = read_card(store, manifest)
    load = in_int8 if precision == "int8" else in_floating
    return Engine(load(store, manifest, card, precision), float(card["temperature"]))


def read_card(store: Store, model: Manifest) -> dict[str, Any]:
    """The card of a model version. Raises `Corrupt` if its bytes are not the manifest's."""
    card: dict[str, Any] = json.loads(read_checked(store, model.file("card.json")))
    return card


# torch takes seconds to import, onnxruntime a third of one: each only where it computes.


def in_int8(store: Store, model: Manifest, card: dict[str, Any], precision: Arithmetic) -> Network:
    from digitrec.engines.int8 import open_int8

    file = model.file(INT8_FILE)
    return open_int8(read_checked(store, file), store.full(file.path))


def in_floating(store: Store, model: Manifest, card: dict[str, Any], precision: Arithmetic) -> Network:
    from digitrec.engines.floating import IN_FLOATING
    from digitrec.network import Architecture, load_network

    architecture = Architecture.from_json(card["architecture"])
    network = load_network(architecture, read_checked(store, model.file("weights.safetensors")))
    return IN_FLOATING[precision](network)
