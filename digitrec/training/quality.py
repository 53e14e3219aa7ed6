"""How good a network is: accuracy with its interval, calibration, recall of each digit, and the paired test."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from digitrec.contract import CLASSES
from digitrec.network import Perceptron
from digitrec.training.data import EVALUATION_BATCH

CALIBRATION_BINS = 15
TEMPERATURE_MIN, TEMPERATURE_MAX = 0.25, 4.0


@dataclass(frozen=True)
class Quality:
    """Measured on rows the network was not trained on. `confusion[label][answer]` counts rows."""

    rows: int
    accuracy: float
    interval95: tuple[float, float]
    loss: float
    calibration_error: float
    recall: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def logits_of(network: Perceptron, images: np.ndarray) -> np.ndarray:
    """uint8 [n, 784] → float32 logits [n, 10], in the arithmetic that scoring uses."""
    with torch.inference_mode():
        batches = torch.split(torch.from_numpy(images), EVALUATION_BATCH)
        return np.concatenate([network(batch).numpy() for batch in batches])


def softmax(logits: np.ndarray) -> np.ndarray:
    """float [n, 10] → probabilities, float64 [n, 10]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature under which softmax(logits / temperature) is likeliest (Guo et al., ICML 2017).

    Targets are softened by one pseudo-row, as Platt (1999) does: without a single mistake among a few hundred rows the
    likeliest temperature would be zero, and every confidence 1. The loss is convex in 1/temperature, so halving an
    interval on the sign of its slope finds the one minimum.
    """
    doubt = 1 / (len(labels) + 2)
    truth = (1 - doubt) * logits[np.arange(len(labels)), labels] + doubt * logits.mean(axis=1)
    low, high = 1 / TEMPERATURE_MAX, 1 / TEMPERATURE_MIN
    for _ in range(50):
        middle = (low + high) / 2
        slope = ((softmax(logits * middle) * logits).sum(axis=1) - truth).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(1 / low)


def judge(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Quality:
    """Quality of answers, float logits [n, 10] against labels uint8 [n], n > 0."""
    probabilities = softmax(logits / temperature)
    answers, rows = probabilities.argmax(axis=1), len(labels)
    right = answers == labels
    confusion = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(confusion, (labels, answers), 1)
    truth = np.maximum(probabilities[np.arange(rows), labels], np.finfo(np.float64).tiny)
    return Quality(
        rows=rows,
        accuracy=float(right.mean()),
        interval95=wilson(int(right.sum()), rows),
        loss=float(-np.log(truth).mean()),
        calibration_error=calibration_error(probabilities.max(axis=1), right),
        recall=tuple(float(row[i] / row.sum()) if row.sum() else None for i, row in enumerate(confusion)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def wilson(right: int, rows: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 1927)."""
    z, share = 1.959964, right / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, centre - half), min(1.0, centre + half)


def calibration_bins(confidence: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean confidence, share right, rows) of each non-empty bin of equal width."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    chosen = [bins == i for i in range(CALIBRATION_BINS) if (bins == i).any()]
    return [(float(confidence[mask].mean()), float(right[mask].mean()), int(mask.sum())) for mask in chosen]


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015)."""
    bins = calibration_bins(confidence, right)
    return sum(rows * abs(mean - share) for mean, share, rows in bins) / len(right)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test (Psychometrika 1947): rows that only one of two models gets right."""
    discordant = gained + lost
    tail = sum(math.comb(discordant, k) for k in range(min(gained, lost) + 1))
    return float(min(1, 2 * tail / 2**discordant))
