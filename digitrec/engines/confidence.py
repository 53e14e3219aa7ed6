"""How sure a network is of its answer, calibrated: what training judges a small net by, and what scoring goes by."""

import numpy as np


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature), float32 [10, n], of float32 logits [n, 10] (Guo et al., ICML 2017,
    temperature scaling).

    A class after the other: a quarter of the time that short rows take, and the same bits however rows are cut.
    """
    shares, totals = _scale(logits, temperature)
    shares /= totals
    return shares


def confidence(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return the largest of softmax(logits / temperature) of each row, float32 [n]."""
    sure: np.ndarray = 1 / _scale(logits, temperature)[1]
    return sure


def _scale(logits: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """exp(logits / temperature), float32 [10, n], shifted so that the best of a row is 1, and the sums of rows, [n]."""
    classes = np.ascontiguousarray(logits.T) / np.float32(temperature)
    classes -= classes.max(axis=0)
    np.exp(classes, out=classes)
    totals = classes[0].copy()
    for shares in classes[1:]:  # `sum` adds in another order where there is one row
        totals += shares
    return classes, totals
