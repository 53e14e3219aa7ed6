"""What predictions come to in numbers: rows of each class, and how confident the answers are.

Confidences are kept as a histogram, so that whoever asks later, with whatever threshold, is answered exactly, and the
threshold is no part of what was predicted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np

from digitrec.contract import CLASSES, SMALL

BINS = 1000
EDGES = (np.arange(BINS + 1) / BINS).astype(np.float32)
"""Lower edges of the bins, float32 as confidences are: a bin holds what is at least its edge and below the next. The
last one, at 1.0, holds certainty alone, so that "below 1.0" is exact too."""


@dataclass(frozen=True)
class Counts:
    """Rows by label (10 numbers), by confidence (one for each of `EDGES`), and those that the small net of a cascade
    answered."""

    labels: tuple[int, ...] = (0,) * CLASSES
    confidences: tuple[int, ...] = (0,) * (BINS + 1)
    small: int = 0

    @classmethod
    def of(cls, label: np.ndarray, confidence: np.ndarray, net: np.ndarray | None = None) -> "Counts":
        """Count predictions: label uint8 [n], confidence float32 [n], net uint8 [n]."""
        bins = np.searchsorted(EDGES, confidence, side="right") - 1
        return cls(
            tuple(np.bincount(label, minlength=CLASSES).tolist()),
            tuple(np.bincount(bins.clip(0), minlength=BINS + 1).tolist()),
            0 if net is None else int((net == SMALL).sum()),
        )

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            tuple(map(add, self.labels, other.labels)),
            tuple(map(add, self.confidences, other.confidences)),
            self.small + other.small,
        )

    def below(self, threshold: float) -> int:
        """Return how many confidences lie below a threshold of at most three decimals."""
        return sum(self.confidences[: bin_of(threshold)])

    def facts(self) -> dict[str, Any]:
        """Return what a manifest says: `confidences` has the bins that are not empty, by their lower edge."""
        return {
            "labels": list(self.labels),
            "confidences": {f"{place / BINS:.3f}": count for place, count in enumerate(self.confidences) if count},
        }


def below(facts: Mapping[str, Any], threshold: float) -> int:
    """Return how many predictions of a manifest with these facts have a confidence below a threshold of at most three
    decimals, exactly."""
    counts: dict[str, int] = facts["confidences"]
    return sum(count for edge, count in counts.items() if bin_of(float(edge)) < bin_of(threshold))


def bin_of(threshold: float) -> int:
    return round(threshold * BINS)
