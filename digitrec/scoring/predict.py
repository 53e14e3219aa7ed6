"""Images in, predictions out. Pure: no files, no clock, no torch; the network is any function of a batch."""

from dataclasses import dataclass

import numpy as np

from digitrec.contract import CLASSES
from digitrec.engines import Network
from digitrec.errors import ComputationFailed

BATCH = 1024
"""Images in one call of the network: 512 to 2048 keep the activations in the cache; 8192 is slower."""


@dataclass(frozen=True)
class Engine:
    """A network ready to classify, and the temperature that calibrates it."""

    network: Network
    temperature: float


@dataclass(frozen=True)
class Predictions:
    """One row an image, in the images' order.

    `label`, `runner_up`: uint8 [n], the two likeliest classes (of equals, the smaller number comes first);
    `probabilities`: float32 [n, 10], calibrated; `confidence`, `runner_up_confidence`: float32 [n], theirs.
    """

    label: np.ndarray
    confidence: np.ndarray
    runner_up: np.ndarray
    runner_up_confidence: np.ndarray
    probabilities: np.ndarray


def predict(network: Network, images: np.ndarray, *, temperature: float = 1.0, batch: int = BATCH) -> Predictions:
    """Classify uint8 [n, 784]. Probabilities are softmax(logits / temperature) (Guo et al. 2017, temperature scaling).

    Raises `ComputationFailed` if the network answers with something that is not a number.
    """
    logits = np.empty((len(images), CLASSES), np.float32)
    for start in range(0, len(images), batch):
        logits[start : start + batch] = network(images[start : start + batch])
    if not np.isfinite(logits).all():
        raise ComputationFailed("the network's answer is not a number: its weights are unusable, train it again")
    return rank(logits, softmax(logits / np.float32(temperature)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """float32 [n, 10] → float32 [n, 10], each row summing to 1; shifted by the maximum so that nothing overflows."""
    classes = np.ascontiguousarray(logits.T)  # [10, n]: a quarter of the time that short rows take
    powers = np.exp(classes - classes.max(axis=0))
    return np.ascontiguousarray((powers / powers.sum(axis=0)).T)


def rank(logits: np.ndarray, probabilities: np.ndarray) -> Predictions:
    """Take the best two of each row. Logits decide, because two of them may round to one probability."""
    rows = np.arange(len(logits))
    label = logits.argmax(axis=1)
    others = logits.copy()
    others[rows, label] = -np.inf
    runner_up = others.argmax(axis=1)
    return Predictions(
        label.astype(np.uint8),
        probabilities[rows, label],
        runner_up.astype(np.uint8),
        probabilities[rows, runner_up],
        probabilities,
    )
