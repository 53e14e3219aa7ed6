"""How good a network is: accuracy with its interval, calibration, recall of each digit, and the paired test."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from digitrec.contract import CLASSES
from digitrec.network import Perceptron

CALIBRATION_BINS = 15
TEMPERATURE_MIN, TEMPERATURE_MAX = 0.25, 4.0
BATCH = 2048

Interval = tuple[float, float]


@dataclass(frozen=True)
class Bin:
    """The rows of one range of confidence: their mean confidence, and the share of them that is right."""

    confidence: float
    right: float
    rows: int


@dataclass(frozen=True)
class Quality:
    """How answers compare with labels. `confusion[label][answer]` counts rows; a digit without rows has no recall."""

    rows: int
    accuracy: float
    interval95: Interval
    loss: float
    calibration_error: float
    reliability: tuple[Bin, ...]
    recall: tuple[float | None, ...]
    recall_interval95: tuple[Interval | None, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Calibration:
    """The temperature, and the calibration error without it (at 1), with it on the rows it was fitted on, and with it
    on rows it was not fitted on (each half of the rows under the temperature of the other half)."""

    temperature: float
    error_uncalibrated: float
    error_fitted: float
    error_cross_fitted: float


def logits_of(network: Perceptron, images: np.ndarray) -> np.ndarray:
    """uint8 [n, 784] → float32 logits [n, 10], in the arithmetic that scoring uses."""
    with torch.inference_mode():
        batches = torch.split(torch.tensor(images), BATCH)
        return np.concatenate([network(batch).numpy() for batch in batches])


def softmax(logits: np.ndarray) -> np.ndarray:
    """float [n, 10] → probabilities, float64 [n, 10]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit the temperature of float logits [n, 10] to labels uint8 [n], n > 1, and say what it is worth."""
    temperature = fit_temperature(logits, labels)
    crossed = np.empty_like(logits)
    for half, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        crossed[half] = logits[half] / fit_temperature(logits[other], labels[other])
    errors = (
        calibration_error(reliability(softmax(scaled), labels)) for scaled in (logits, logits / temperature, crossed)
    )
    return Calibration(temperature, *errors)


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
    answers, rows = logits.argmax(axis=1), len(labels)
    confusion = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(confusion, (labels, answers), 1)
    right, shown = confusion.diagonal().tolist(), confusion.sum(axis=1).tolist()
    truth = np.maximum(probabilities[np.arange(rows), labels], np.finfo(np.float64).tiny)
    bins = reliability(probabilities, labels)
    return Quality(
        rows=rows,
        accuracy=sum(right) / rows,
        interval95=wilson(sum(right), rows),
        loss=float(-np.log(truth).mean()),
        calibration_error=calibration_error(bins),
        reliability=bins,
        recall=tuple(hit / n if n else None for hit, n in zip(right, shown, strict=True)),
        recall_interval95=tuple(wilson(hit, n) if n else None for hit, n in zip(right, shown, strict=True)),
        confusion=tuple(map(tuple, confusion.tolist())),
    )


def wilson(right: int, rows: int) -> Interval:
    """95 % interval of a share (Wilson, JASA 1927)."""
    z, share = 1.959964, right / rows
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, centre - half), min(1.0, centre + half)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Bin, ...]:
    """float [n, 10] against labels [n] → the bins of equal width, by confidence, that hold any row."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    filled = [bins == i for i in range(CALIBRATION_BINS) if (bins == i).any()]
    return tuple(Bin(float(confidence[mask].mean()), float(right[mask].mean()), int(mask.sum())) for mask in filled)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015)."""
    return sum(bin_.rows * abs(bin_.confidence - bin_.right) for bin_ in bins) / sum(bin_.rows for bin_ in bins)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test (Psychometrika 1947): rows that only one of two models gets right."""
    discordant = gained + lost
    ways = tail = 1
    for k in range(min(gained, lost)):
        ways = ways * (discordant - k) // (k + 1)
        tail += ways
    return float(min(1, 2 * tail / 2**discordant))
