"""Accuracy, calibration and the paired test."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitrec.training.quality import (
    calibrate,
    calibration_error,
    fit_temperature,
    judge,
    mcnemar,
    reliability,
    softmax,
    wilson,
)


def drawn(rows: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 4, (rows, 10)).astype(np.float32)
    cumulative = softmax(logits / temperature).cumsum(axis=1)
    return logits, (random.random((rows, 1)) > cumulative[:, :-1]).sum(axis=1).astype(np.uint8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    """And under it the calibration error is small."""
    logits, labels = drawn(20_000, temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    assert judge(logits, labels, found).calibration_error < 0.02


def test_calibration_is_also_measured_on_rows_it_was_not_fitted_on() -> None:
    """Overconfident logits: the temperature mends them, and the half that it was not fitted on says nearly as much."""
    logits, labels = drawn(20_000, 2.5)
    found = calibrate(logits, labels)
    assert found.temperature == fit_temperature(logits, labels)
    assert found.error_uncalibrated > 0.1
    assert found.error_fitted == judge(logits, labels, found.temperature).calibration_error < 0.02
    assert found.error_fitted != found.error_cross_fitted < 0.02


def test_a_few_rows_without_a_mistake_do_not_make_it_certain() -> None:
    """The likeliest temperature would be 0; ours leaves about one row's worth of doubt."""
    labels = np.arange(300, dtype=np.uint8) % 10
    logits = np.eye(10, dtype=np.float32)[labels] * 8
    confidence = softmax(logits / fit_temperature(logits, labels)).max(axis=1)
    assert 0.98 < confidence.mean() < 0.9999


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1), (5, 5, 1), (6, 0, 2 / 64), (0, 6, 2 / 64), (10, 2, 158 / 4096)]
)
def test_mcnemar_is_the_exact_binomial(gained: int, lost: int, p: float) -> None:
    """Two-sided, and the same from either side."""
    assert mcnemar(gained, lost) == pytest.approx(p)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_counts_the_tails_of_a_fair_coin(gained: int, lost: int) -> None:
    """Twice the chance of so few heads or fewer."""
    coins = gained + lost
    tail = sum(math.comb(coins, heads) for heads in range(min(gained, lost) + 1))
    assert mcnemar(gained, lost) == min(1, 2 * tail / 2**coins)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_a_probability(gained: int, lost: int) -> None:
    """Symmetric, above 0, and at most 1, for thousands of rows too."""
    assert 0 <= mcnemar(gained, lost) == mcnemar(lost, gained) <= 1


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_share(right: int, rows: int) -> None:
    """It lies in 0…1, with the share inside."""
    right = min(right, rows)
    low, high = wilson(right, rows)
    assert 0 <= low <= right / rows + 1e-12
    assert right / rows - 1e-12 <= high <= 1


def test_recall_and_confusion_count_each_digit() -> None:
    """A digit that no row shows has no recall."""
    logits = np.eye(10, dtype=np.float32)[[1, 1, 2, 7]] * 20
    quality = judge(logits, np.array([1, 1, 1, 7], np.uint8), 1.0)
    assert quality.accuracy == 0.75
    assert quality.recall[1] == pytest.approx(2 / 3)
    assert quality.recall_interval95[1] == wilson(2, 3)
    assert quality.recall_interval95[0] is None
    assert (quality.recall[7], quality.recall[0]) == (1.0, None)
    assert quality.confusion[1][2] == 1
    assert math.isfinite(quality.loss)


def test_calibration_error_of_the_overconfident() -> None:
    """Always sure and right half the time is an error of a half, in one bin."""
    (only,) = bins = reliability(np.eye(10)[[3] * 100], np.where(np.arange(100) % 2, 3, 4))
    assert (only.confidence, only.right, only.rows) == (1, 0.5, 100)
    assert calibration_error(bins) == pytest.approx(0.5)
