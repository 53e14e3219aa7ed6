"""Networks in floating point, by torch, on one core."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from digitrec.engines import Arithmetic, Network
from digitrec.network import SCALE, Perceptron


@contextmanager
def one_core() -> Iterator[None]:
    """Partitions are what runs in parallel. A product spread over cores rounds differently with their number; on one,
    a part comes out the same wherever it is computed, byte for byte.

    Torch keeps the number of cores for each thread: other threads keep theirs.
    """
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
    layers = copy.deepcopy(network.layers).bfloat16()

    @one_core()
    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        scaled = (torch.tensor(images).float() * SCALE).bfloat16()  # [n, 784]
        answer: np.ndarray = layers(scaled).float().numpy()  # [n, 10]
        return answer

    return logits


IN_FLOATING: dict[Arithmetic, Callable[[Perceptron], Network]] = {"fp32": in_fp32, "bf16": in_bf16}
