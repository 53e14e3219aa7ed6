"""Networks in floating point, by torch, on one core."""

import copy
from collections.abc import Callable
from contextlib import ContextDecorator
from threading import Lock

import numpy as np
import torch

from digitrec.engines import Arithmetic, Network
from digitrec.network import SCALE, Perceptron


class OneCore(ContextDecorator):
    """Partitions are what runs in parallel. A product spread over cores rounds differently with their number; on one,
    a part comes out the same wherever it is computed, byte for byte.

    Of torch's numbers of threads some are a thread's own and some are not: all stay at one while anybody is inside.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.before = Lock(), 0, 1

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = torch.get_num_threads()
            self.inside += 1
            torch.set_num_threads(1)

    def __exit__(self, *_error: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                torch.set_num_threads(self.before)


one_core = OneCore()


def in_fp32(network: Perceptron) -> Network:
    """The network as it was trained."""

    @one_core
    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        answer: np.ndarray = network(torch.tensor(images)).numpy()  # [n, 10]
        return answer

    return logits


def in_bf16(network: Perceptron) -> Network:
    """Weights and activations in bfloat16: faster where the processor has it, about three digits of precision."""
    layers = copy.deepcopy(network.layers).bfloat16()

    @one_core
    @torch.inference_mode()
    def logits(images: np.ndarray) -> np.ndarray:
        scaled = (torch.tensor(images).float() * SCALE).bfloat16()  # [n, 784]
        answer: np.ndarray = layers(scaled).float().numpy()  # [n, 10]
        return answer

    return logits


IN_FLOATING: dict[Arithmetic, Callable[[Perceptron], Network]] = {"fp32": in_fp32, "bf16": in_bf16}
