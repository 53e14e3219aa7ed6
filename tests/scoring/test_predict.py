"""predict(): from images to the two likeliest classes and their calibrated probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from digitrec.contract import PIXELS
from digitrec.errors import ComputationFailed
from digitrec.scoring.predict import Network, predict

logits_of_any_kind = arrays(
    np.float32, st.tuples(st.integers(0, 50), st.just(10)), elements=st.floats(-80, 80, width=32)
)


def answering(logits: np.ndarray) -> Network:
    """A network that knows an image by its first pixel, and answers with that row of `logits`."""
    return lambda images: logits[images[:, 0]]


def numbered(rows: int) -> np.ndarray:
    images = np.zeros((rows, PIXELS), np.uint8)
    images[:, 0] = np.arange(rows)
    return images


@given(logits_of_any_kind, st.floats(0.25, 4), st.integers(1, 64))
def test_the_best_two_logits_are_label_and_runner_up(logits: np.ndarray, temperature: float, batch: int) -> None:
    """The label has the largest logit, the runner-up the next; neither batch nor temperature changes that."""
    found = predict(answering(logits), numbered(len(logits)), temperature=temperature, batch=batch)
    order = np.argsort(-logits, axis=1, kind="stable")
    assert found.label.tolist() == order[:, 0].tolist()
    assert found.runner_up.tolist() == order[:, 1].tolist()


@given(logits_of_any_kind, st.floats(0.25, 4))
def test_confidences_are_the_softmax_of_the_tempered_logits(logits: np.ndarray, temperature: float) -> None:
    """Confidence = softmax(logits / temperature) of the label; probabilities sum to one."""
    found = predict(answering(logits), numbered(len(logits)), temperature=temperature)
    exact = np.exp((logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperature)
    exact /= exact.sum(axis=1, keepdims=True)
    rows = np.arange(len(logits))
    assert np.allclose(found.probabilities, exact, atol=1e-5)
    assert np.allclose(found.confidence, exact[rows, found.label], atol=1e-5)
    assert np.allclose(found.runner_up_confidence, exact[rows, found.runner_up], atol=1e-5)
    assert found.confidence.dtype == found.probabilities.dtype == np.float32


def test_of_equal_logits_the_smaller_class_comes_first() -> None:
    """Ties are broken in one way everywhere."""
    found = predict(answering(np.zeros((1, 10), np.float32)), numbered(1))
    assert (found.label[0], found.runner_up[0]) == (0, 1)


def test_a_network_that_answers_nonsense_is_an_error_not_a_label() -> None:
    """NaN has no largest logit."""
    with pytest.raises(ComputationFailed, match="not a number"):
        predict(answering(np.full((1, 10), np.nan, np.float32)), numbered(1))
