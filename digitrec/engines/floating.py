"""Networks in floating point, by torch, on one core."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from digitrec.engines import Arithmetic, Network
from digitrec.network import SCALE, Perceptron


@contextmanager
def on_cores(number: int) -> Iterator[None]:
    """Let torch compute on so many cores; it keeps the number for each thread, so other threads keep theirs.

    On one where partitions are what runs in parallel: a product spread over cores rounds differently with their number;
    on one, a part comes out the same wherever it is computed, byte for byte.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_fp32(network: Perceptron) -> Network:
    """The network as it was trained."""

    @on_cores(1)
    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        answer: np.ndarray = network(torch.tensor(images)).numpy()  # [n, 10]
        return answer

    return logits


def in_bf16(network: Perceptron) -> Network:
    """Weights and activations in bfloat16: faster where the processor has it, about three digits of precision."""
    layers = copy.deepcopy(network.layers).bfloat16()

    @on_cores(1)
    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        scaled = (torch.tensor(images).float() * SCALE).bfloat16()  # [n, 784]
        answer: np.ndarray = layers(scaled).float().numpy()  # [n, 10]
        return answer

    return logits


IN_FLOATING: dict[Arithmetic, Callable[[Perceptron], Network]] = {"fp32": in_fp32, "bf16": in_bf16}
