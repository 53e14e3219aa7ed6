"""Accuracy is measured on rows that a model was not trained on; on others only if that is asked for, and marked."""

import numpy as np
import pytest

from digitrec.catalog.store import Store
from digitrec.errors import BadData, NoInput
from digitrec.training.evaluation import evaluate
from digitrec.training.rows import for_validation, row_digests
from tests.training.conftest import Digits, Publish, constant, publish_model


@pytest.fixture
def images(publish_dataset: Publish, digits: Digits) -> np.ndarray:
    """Those of a dataset of 500 rows, the first 100 of them ones."""
    images, labels = digits[0][:500], np.repeat(np.array([1, 2], np.uint8), [100, 400])
    publish_dataset("fresh", images, labels)
    return images


def test_a_dataset_that_the_model_has_not_seen(store: Store, images: np.ndarray) -> None:
    """Accuracy with its interval, recall of each digit, confusion, calibration; over several row groups."""
    found = evaluate(store, publish_model(store, "ones", constant(1)), "fresh")
    quality = found.unseen
    assert quality is not None
    assert found.seen is None
    assert (quality.rows, quality.accuracy) == (500, 0.2)
    assert quality.interval95[0] < 0.2 < quality.interval95[1]
    assert quality.recall[:4] == (None, 1.0, 0.0, None)
    assert quality.confusion[2][1] == 400
    assert "accuracy 20.00% (95 % interval" in found.lines()[2]
    assert found.validation_rows == for_validation(row_digests(images)).sum()


def test_a_row_it_was_trained_on_refuses_the_whole(store: Store, images: np.ndarray) -> None:
    """The error counts them and says what to do."""
    publish_model(store, "ones", constant(1), row_digests(images[:7]))
    with pytest.raises(BadData, match=r"ones was trained on 7 of the 500 rows of fresh.*--allow-seen"):
        evaluate(store, "ones", "fresh")


def test_seen_rows_are_told_apart_if_asked_for(store: Store, images: np.ndarray) -> None:
    """Never one figure over both."""
    publish_model(store, "ones", constant(1), row_digests(images[:150]))
    found = evaluate(store, "ones", "fresh", allow_seen=True)
    assert found.seen is not None
    assert found.unseen is not None
    assert (found.seen.rows, found.seen.accuracy) == (150, 2 / 3)
    assert (found.unseen.rows, found.unseen.accuracy) == (350, 0.0)
    assert sum(line.startswith("SEEN") for line in found.lines()) == 1


def test_what_cannot_be_measured_on(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """No labels, no rows, no dataset, no model."""
    publish_model(store, "ones", constant(1))
    publish_dataset("unlabelled", digits[0][:10])
    publish_dataset("empty", digits[0][:0], digits[1][:0])
    publish_dataset("good", digits[0][:10], digits[1][:10])
    for name in ("unlabelled", "empty"):
        with pytest.raises(BadData, match=name):
            evaluate(store, "ones", name)
    with pytest.raises(NoInput, match="ghost"):
        evaluate(store, "ones", "ghost")
    with pytest.raises(NoInput, match="ghost"):
        evaluate(store, "ghost", "good")
