"""A published model version as something that classifies: every byte checked before it is used."""

import json
from functools import lru_cache
from threading import Lock
from typing import Any

from digitrec.catalog.layout import model_folder
from digitrec.catalog.manifest import Manifest, read_file, read_manifest
from digitrec.catalog.store import Store
from digitrec.engines import CASCADE_FILE, INT8_FILE, Arithmetic, Network
from digitrec.engines.choice import cascade_of
from digitrec.errors import Corrupt
from digitrec.scoring.predict import Engine, Small

ONE_AT_A_TIME = Lock()


def load_engine(store: Store, version: str, digest: str, precision: Arithmetic, cascade: bool = False) -> Engine:
    """Load a model version, once a process, every byte checked against the manifest whose digest is given.

    Raises `Corrupt`, naming the file; `Misconfigured` if there is no cascade, or it cannot be run here.
    """
    with ONE_AT_A_TIME:
        return loaded(store, version, digest, precision, cascade)


@lru_cache(maxsize=4)
def loaded(store: Store, version: str, digest: str, precision: Arithmetic, cascade: bool) -> Engine:
    """Once for all threads, if they ask one after the other."""
    manifest = read_manifest(store, model_folder(version))
    if manifest.digest != digest:
        raise Corrupt(f"the manifest of model {version} in {store.url} changed while scoring; run it again")
    card = read_card(store, manifest)
    load = in_int8 if precision == "int8" else in_floating
    small = load_small(store, manifest, card) if cascade else None
    return Engine(load(store, manifest, card, precision), float(card["temperature"]), small)


def read_card(store: Store, model: Manifest) -> dict[str, Any]:
    """The card of a model version. Raises `Corrupt` if its bytes are not the manifest's."""
    card: dict[str, Any] = json.loads(read_file(store, model, "card.json"))
    return card


# torch takes seconds to import, onnxruntime a third of one: each only where it computes.


def in_int8(store: Store, model: Manifest, card: dict[str, Any], precision: Arithmetic) -> Network:
    from digitrec.engines.int8 import open_int8

    return open_int8(read_file(store, model, INT8_FILE), store.address(model.key(model.file(INT8_FILE))))


def load_small(store: Store, model: Manifest, card: dict[str, Any]) -> Small:
    """In int8 whatever the large one's precision: which net answers then depends neither on batch nor on processor."""
    from digitrec.engines.int8 import open_int8

    found = cascade_of(card)
    network = open_int8(read_file(store, model, CASCADE_FILE), store.address(model.key(model.file(CASCADE_FILE))))
    return Small(network, float(found["temperature"]), float(found["threshold"]))


def in_floating(store: Store, model: Manifest, card: dict[str, Any], precision: Arithmetic) -> Network:
    from digitrec.engines.floating import IN_FLOATING
    from digitrec.network import Architecture, load_network

    architecture = Architecture.from_json(card["architecture"])
    network = load_network(architecture, read_file(store, model, "weights.safetensors"))
    return IN_FLOATING[precision](network)
