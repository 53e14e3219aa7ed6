"""The arithmetic: a published model version as a function of a batch. The only module of scoring that imports torch."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from digitrec.errors import Corrupt
from digitrec.network import SCALE, Architecture, Perceptron, load_network
from digitrec.options import Precision
from digitrec.scoring.predict import Engine, Network
from digitrec.store.layout import Store, model_folder
from digitrec.store.manifest import read_checked, read_manifest


@lru_cache(maxsize=4)
def load_engine(store: Store, version: str, digest: str, precision: Precision) -> Engine:
    """Load a model version, once a process, every byte checked against the manifest whose digest is given.

    Raises `Corrupt`, naming the file.
    """
    manifest = read_manifest(store, model_folder(version))
    if manifest.digest != digest:
        raise Corrupt(f"the manifest of model {version} in {store.url} changed while scoring; run it again")
    card = json.loads(read_checked(store, manifest.file("card.json")))
    network = load_network(
        Architecture.from_json(card["architecture"]), read_checked(store, manifest.file("weights.safetensors"))
    )
    return Engine(IN_PRECISION[precision](network), float(card["temperature"]))


@contextmanager
def one_core() -> Iterator[None]:
    """Partitions are what runs in parallel. A product spread over cores rounds differently with their number; on one,
    a part comes out the same wherever it is computed, byte for byte."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_fp32(network: Perceptron) -> Network:
    """The network as it was trained."""

    @one_core()
    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        answer: np.ndarray = network(torch.tensor(images)).numpy()  # [n, 10]
        return answer

    return logits


def in_bf16(network: Perceptron) -> Network:
    """Weights and activations in bfloat16: faster where the processor has it, about three digits of precision."""
    layers = network.layers.bfloat16()

    @one_core()
    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        scaled = (torch.tensor(images).float() * SCALE).bfloat16()  # [n, 784]
        answer: np.ndarray = layers(scaled).float().numpy()  # [n, 10]
        return answer

    return logits


IN_PRECISION: dict[Precision, Callable[[Perceptron], Network]] = {"fp32": in_fp32, "bf16": in_bf16}
