"""What is derived from a trained network when it is sealed: engines for quicker arithmetic, and how well they agree."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator

from digitrec.engines import INT8_FILE, Arithmetic, Network
from digitrec.engines.choice import processor_flags
from digitrec.engines.floating import in_bf16, in_fp32, on_cores
from digitrec.engines.int8 import open_int8
from digitrec.engines.quantise import quantise
from digitrec.network import Perceptron
from digitrec.training.augment import Distortion, distort

COMPARED_IMAGES = 50_000
CALIBRATION_IMAGES = 4096
BATCH = 1024
SEED = 1
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Processors on which torch computes bf16 in seconds; on others it would take minutes."""


@dataclass(frozen=True)
class Derived:
    """Files for the model version, by name, and what its card says of them."""

    files: dict[str, bytes]
    facts: dict[str, Any]


@on_cores(1)
def derive(network: Perceptron, images: np.ndarray) -> Derived:
    """Quantise a network, calibrated on training images (uint8 [n, 784]), and compare the arithmetics with fp32.

    The same on one machine. Between processors the last bits of fp32 may differ, and with them an agreement by an image
    or two; bf16 is compared only where the processor has it.
    """
    shown = sample(images, COMPARED_IMAGES)
    engine = quantise(network, spread(shown, CALIBRATION_IMAGES))
    rivals: dict[Arithmetic, Network] = {"int8": open_int8(engine, INT8_FILE)}
    if BF16_FLAGS & processor_flags():
        rivals["bf16"] = in_bf16(network)
    wanted = labels(in_fp32(network), shown)
    facts: dict[str, Any] = {
        precision: {"agreement": float((labels(rival, shown) == wanted).mean()), "images": len(shown)}
        for precision, rival in rivals.items()
    }
    return Derived({INT8_FILE: engine}, facts)


def sample(images: np.ndarray, rows: int) -> np.ndarray:
    """uint8 [rows, 784]: training images, every other one as it is (but none twice), the rest distorted."""
    generator = Generator().manual_seed(SEED)
    plain = spread(images, min(len(images), rows // 2))
    others = spread(images, rows - len(plain))
    distorted = [rounded(torch.from_numpy(batch), generator) for batch in batches(others)]
    shown = np.concatenate([plain, *distorted])
    mixed: np.ndarray = shown[torch.randperm(len(shown), generator=generator).numpy()]
    return mixed


def spread(images: np.ndarray, rows: int) -> np.ndarray:
    """So many of the images, evenly over all of them; each more than once where there are too few."""
    return images[np.arange(rows) * len(images) // rows]


def rounded(images: torch.Tensor, generator: Generator) -> np.ndarray:
    """Distorted images as they could be ingested: uint8 [n, 784]."""
    distorted: np.ndarray = distort(images, Distortion(), generator).round().clamp(0, 255).to(torch.uint8).numpy()
    return distorted


def batches(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))


def labels(network: Network, images: np.ndarray) -> np.ndarray:
    """int64 [n]."""
    found: np.ndarray = answers(network, images).argmax(axis=1)
    return found


def answers(network: Network, images: np.ndarray) -> np.ndarray:
    """float32 logits [n, 10], n > 0."""
    return np.concatenate([network(batch) for batch in batches(images)])
