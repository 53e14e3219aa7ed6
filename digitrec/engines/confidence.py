"""How sure a network is of its answer, calibrated: what training judges a small net by, and what scoring goes by."""

import numpy as np


def powers(logits: np.ndarray, temperature: float) -> np.ndarray:
    """float32 logits [n, 10] → float32 [10, n]: exp(logits / temperature), shifted so that the best of a row is 1.

    A class after the other: a quarter of the time that short rows take, and the same bits however rows are cut.
    """
    classes = np.ascontiguousarray(logits.T) / np.float32(temperature)
    classes -= classes.max(axis=0)
    shifted: np.ndarray = np.exp(classes, out=classes)
    return shifted


def confidence(logits: np.ndarray, temperature: float) -> np.ndarray:
    """float32 [n]: the largest of softmax(logits / temperature) (Guo et al., ICML 2017, temperature scaling)."""
    sure: np.ndarray = 1 / powers(logits, temperature).sum(axis=0)
    return sure
