"""Confidences are counted once and answer any threshold exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from digitrec.options import ScoreOptions
from digitrec.scoring.counts import BINS, Counts, below

THRESHOLDS = [float(f"{place / BINS:.3f}") for place in range(BINS + 1)]


def test_any_threshold_of_three_decimals_is_exact() -> None:
    """As comparing the float32 values themselves counts them: at each threshold, one step beside it, and in between."""
    edges = np.array(THRESHOLDS, np.float32)
    beside = [np.nextafter(edges, np.float32(side)) for side in (0, 1)]
    confidence = np.concatenate([edges, *beside, np.random.default_rng(0).random(1000, np.float32)])
    counts = Counts.of(np.zeros(len(confidence), np.uint8), confidence)
    facts = counts.facts()
    assert sum(facts["confidences"].values()) == len(confidence)
    for threshold in THRESHOLDS:
        expected = int((confidence < np.float32(threshold)).sum())
        assert (threshold, counts.below(threshold)) == (threshold, expected)
        assert below(facts, threshold) == expected


def test_counts_add_up() -> None:
    """Two halves are the whole."""
    generator = np.random.default_rng(0)
    label, net = generator.integers(0, 10, (2, 100)).astype(np.uint8)
    confidence = generator.random(100, np.float32)
    parts = [Counts.of(label[run], confidence[run], net[run] % 2) for run in (slice(0, 30), slice(30, None))]
    assert parts[0] + parts[1] == Counts.of(label, confidence, net % 2)
    assert (parts[0] + Counts()) == parts[0]


@pytest.mark.parametrize("threshold", [0.1234, 0.0001, 0.9999])
def test_a_threshold_with_more_decimals_is_refused(threshold: float) -> None:
    """It could not be answered exactly later."""
    with pytest.raises(ValidationError, match="at most three decimals"):
        ScoreOptions(unsure_below=threshold)


@given(st.integers(0, BINS))
def test_all_thresholds_with_three_decimals_are_taken(place: int) -> None:
    """However binary numbers round."""
    assert ScoreOptions(unsure_below=place / BINS).unsure_below == place / BINS
