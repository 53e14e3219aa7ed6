"""Which images two models answer differently, and what that proves."""

from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog.store import Store
from digitrec.errors import NoInput, UsageError
from digitrec.training.comparison import Counts, compare, with_picture
from digitrec.training.quality import mcnemar
from digitrec.training.rows import for_validation, row_digests
from tests.places import full
from tests.training.conftest import Digits, Publish, constant, publish_model


@pytest.fixture
def images(publish_dataset: Publish, digits: Digits) -> np.ndarray:
    """Those of a dataset of 300 rows: 50 ones, 20 twos, the rest threes."""
    images, labels = digits[0][:300], np.repeat(np.array([1, 2, 3], np.uint8), [50, 20, 230])
    publish_dataset("some", images, labels)
    return images


@pytest.mark.usefixtures("images")
def test_all_rows_of_a_dataset_that_is_named(store: Store) -> None:
    """Who is right, how likely that is by chance, and every image with label, answers and confidences, in order."""
    publish_model(store, "ones", constant(1))
    publish_model(store, "twos", constant(2))
    found = compare(store, "ones", "twos", "some")
    assert found.counts == Counts(both=0, only_a=50, only_b=20, neither=230)
    assert found.test is not None
    assert (found.test.rows, found.test.p) == (300, mcnemar(50, 20))
    assert [each.image_id for each in found.differences] == list(range(1, 301))
    first = found.differences[0]
    assert (first.dataset, first.label, first.a, first.b) == ("some", 1, 1, 2)
    assert first.a_confidence == first.b_confidence == pytest.approx(np.e / (np.e + 9))
    assert found.lines()[-1] == "  … and 280 more: --json lists all"


@pytest.mark.usefixtures("images")
def test_the_same_answers_are_no_difference(store: Store) -> None:
    """Two versions may answer alike; one version cannot be compared with itself."""
    publish_model(store, "ones", constant(1))
    publish_model(store, "others", constant(1))
    found = compare(store, "ones", "others", "some")
    assert (found.differences, found.test and found.test.p) == ((), 1.0)
    with pytest.raises(UsageError, match="itself"):
        compare(store, "ones", "ones", "some")


def test_the_test_counts_distinct_rows_that_neither_was_trained_on(
    store: Store, publish_dataset: Publish, images: np.ndarray
) -> None:
    """Rows that either saw, and copies, are listed where they differ; they prove nothing."""
    publish_model(store, "ones", constant(1), row_digests(images[:30]))
    publish_model(store, "twos", constant(2), row_digests(images[20:40]))
    publish_dataset("twice", np.concatenate([images, images]), np.ones(600, np.uint8))
    found = compare(store, "ones", "twos", "twice")
    assert found.counts == Counts(both=0, only_a=600, only_b=0, neither=0)
    assert found.test is not None
    assert (found.test.rows, found.test.only_a) == (260, 260)


def test_without_labels_only_differences_are_told(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """Nobody knows who is right."""
    publish_model(store, "ones", constant(1))
    publish_model(store, "twos", constant(2))
    publish_dataset("unlabelled", digits[0][:5])
    found = compare(store, "ones", "twos", "unlabelled")
    assert (found.counts, found.test, len(found.differences)) == (None, None, 5)
    assert "    -  1 (0.23)  2 (0.23)" in found.lines()[-1]


def test_by_default_the_validation_rows_of_what_both_were_trained_on(
    store: Store, publish_dataset: Publish, digits: Digits
) -> None:
    """Of both datasets, as far as they are here; what is not here, or not the same any more, is noted."""
    parts = {"first": slice(0, 200), "second": slice(200, 500), "gone": slice(500, 600)}
    first, second, gone = (publish_dataset(name, digits[0][part], digits[1][part]) for name, part in parts.items())
    Path(full(store, "datasets/gone")).rename(full(store, "datasets/elsewhere"))
    publish_model(store, "ones", constant(1), datasets=[first])
    publish_model(store, "twos", constant(2), datasets=[first, second, gone])
    publish_model(store, "threes", constant(3), datasets=[gone])
    found = compare(store, "ones", "twos")
    assert (found.datasets, found.validation_only) == (("first", "second"), True)
    assert found.rows == for_validation(row_digests(digits[0][:500])).sum()
    assert found.notes == ("dataset gone, which twos was trained on, is not in this store",)
    publish_model(store, "fours", constant(4), datasets=[gone])
    with pytest.raises(NoInput, match=r"dataset gone.*--dataset"):
        compare(store, "threes", "fours")
    publish_dataset("gone", digits[0][:100], digits[1][:100])
    note = "dataset gone, which twos was trained on, is not in this store; another one has this name"
    assert compare(store, "ones", "twos").notes == (note,)


def test_a_picture_of_the_differences(store: Store, publish_dataset: Publish, digits: Digits, tmp_path: Path) -> None:
    """A PNG file of the first 64, or of none; another ending is refused before anything is written."""
    publish_model(store, "ones", constant(1))
    publish_model(store, "others", constant(1))
    publish_model(store, "twos", constant(2))
    publish_dataset("some", digits[0][:100], digits[1][:100])
    for other in ("others", "twos"):
        path = tmp_path / f"{other}.png"
        drawn = with_picture(store, compare(store, "ones", other, "some"), path)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert drawn.lines()[-1] == f"wrote {path}"
    with pytest.raises(UsageError, match=r"ends in \.png"):
        with_picture(store, drawn, tmp_path / "sheet.pdf")
    assert len(list(tmp_path.glob("*.p*"))) == 2
