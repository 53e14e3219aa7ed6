"""Confidences are counted once and answer any threshold exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from digitrec.options import ScoreOptions
from digitrec.scoring.counts import BINS, EDGES, Counts, below

AT_EDGES = st.sampled_from([*range(BINS + 1)]).map(lambda place: float(EDGES[place]))
NEXT_TO_EDGES = AT_EDGES.flatmap(
    lambda edge: st.sampled_from([float(np.nextafter(np.float32(edge), np.float32(side))) for side in (0, 1)])
)
CONFIDENCES = st.lists(st.one_of(st.floats(0, 1, width=32), AT_EDGES, NEXT_TO_EDGES), max_size=60)


@given(CONFIDENCES, st.integers(0, BINS))
def test_any_threshold_of_three_decimals_is_exact(confidences: list[float], place: int) -> None:
    """As comparing the float32 values themselves counts them, also on an edge and one step beside it."""
    confidence = np.array(confidences, np.float32)
    threshold = float(f"{place / BINS:.3f}")
    counts = Counts.of(np.zeros(len(confidence), np.uint8), confidence)
    expected = int((confidence < np.float32(threshold)).sum())
    assert counts.below(threshold) == expected
    assert below(counts.facts(), threshold) == expected
    assert sum(counts.facts()["confidences"].values()) == len(confidence)


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
