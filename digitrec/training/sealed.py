"""A model version as it lies sealed in a store → a network that answers, and the rows it was trained on."""

import json
from dataclasses import dataclass

import numpy as np

from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import Manifest, read_file
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt
from digitrec.network import Architecture, Perceptron, load_network

WEIGHTS, CARD, CARD_FOR_PEOPLE, ROWS = "weights.safetensors", "card.json", "card.md", "rows.bin"


@dataclass(frozen=True)
class Sealed:
    """A model version as read back, every byte checked. `trained_on`: uint64 [n], sorted (`rows.row_digests`)."""

    manifest: Manifest
    network: Perceptron
    temperature: float
    trained_on: np.ndarray

    @property
    def version(self) -> str:
        return self.manifest.name

    def has_seen(self, digests: np.ndarray) -> np.ndarray:
        """Which rows, by their digests uint64 [n], it was trained on: bool [n]."""
        seen: np.ndarray = np.isin(digests, self.trained_on)
        return seen


def open_sealed(store: Store, version: str) -> Sealed:
    """Raises `NoInput` if there is no such version, `Corrupt` if its bytes are not the manifest's."""
    manifest = catalog.model(store, version)
    found = {name: read_file(store, manifest, name) for name in (CARD, WEIGHTS, ROWS)}
    try:
        card = json.loads(found[CARD])
        architecture, temperature = Architecture.from_json(card["architecture"]), float(card["temperature"])
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"the card of model {version} holds no architecture or temperature") from error
    return Sealed(manifest, load_network(architecture, found[WEIGHTS]), temperature, unpacked(found[ROWS]))


def packed(digests: np.ndarray) -> bytes:
    """rows.bin: the digests of the training rows (`rows.row_digests`), 8 big-endian bytes each, sorted."""
    return np.sort(digests).astype(">u8").tobytes()


def unpacked(data: bytes) -> np.ndarray:
    """rows.bin → uint64 [n], sorted."""
    return np.frombuffer(data, dtype=">u8").astype(np.uint64)
