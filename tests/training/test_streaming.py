"""Datasets that are too large for the memory: the same split, every row once an epoch, the same exact resume."""

import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from digitrec.catalog.store import Store
from digitrec.errors import Interrupted
from digitrec.options import TrainOptions
from digitrec.progress import Step
from digitrec.training import split, streaming
from digitrec.training.data import StreamedBatches
from digitrec.training.rows import Rows
from digitrec.training.split import Split, read_split
from digitrec.training.streaming import StreamedRows
from tests.training.conftest import Publish, contents, publish_rows, train

Digits = tuple[np.ndarray, np.ndarray]
QUICK = TrainOptions(preset="quick")


@pytest.fixture(scope="module", autouse=True)
def small_memory() -> Iterator[None]:
    """Stream everything, through a buffer of a few row groups (of 100 rows each)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "IN_MEMORY_ROWS", 0)
        patch.setattr(streaming, "BUFFER_ROWS", 350)
        yield


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Split:
    """1,250 digits in two datasets, as a stream."""
    store = Store.at(tmp_path_factory.mktemp("streamed"))
    manifests = [publish_rows(store, "a", digits[0][:900], digits[1][:900])]
    manifests.append(publish_rows(store, "b", digits[0][900:1250], digits[1][900:1250]))
    return read_split(store, manifests)


def in_memory(digits: Digits) -> Split:
    return split.split_rows(Rows.of(digits[0][:1250], digits[1][:1250]))


def streamed_rows(found: Split) -> StreamedRows:
    assert isinstance(found.training, StreamedRows)
    return found.training


def test_the_split_is_the_same(streamed: Split, digits: Digits) -> None:
    """Where rows lie does not decide on which side they are."""
    expected = in_memory(digits)
    for found, wanted in ((streamed.training, expected.training), (streamed.validation, expected.validation)):
        assert np.array_equal(found.digests, wanted.digests)
        assert np.array_equal(found.labels, wanted.labels)
    assert np.array_equal(streamed.validation.images, expected.validation.images)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 300), seed=st.integers(0, 2**62))
def test_an_epoch_shows_every_row_once(streamed: Split, digits: Digits, batch: int, seed: int) -> None:
    """In full batches, but for a remainder; images keep their labels; the seed decides the order."""
    rows = streamed_rows(streamed)
    batches = StreamedBatches(rows, batch, lambda: torch.Generator().manual_seed(seed))
    found = list(batches)
    assert [len(labels) for _, labels in found] == [batch] * len(batches)
    shown = [
        (bytes(image.tolist()), int(label))
        for images, labels in found
        for image, label in zip(images, labels, strict=True)
    ]
    assert len(set(shown)) == len(shown) == len(rows) // batch * batch
    known = in_memory(digits).training
    assert set(shown) <= {
        (image.tobytes(), int(label)) for image, label in zip(known.images, known.labels, strict=True)
    }
    again = [int(label) for _, labels in batches for label in labels]
    assert again == [label for _, label in shown]


def test_rows_meet_others_than_their_neighbours(streamed: Split) -> None:
    """A batch holds rows of several row groups, and another epoch brings another order."""
    rows = streamed_rows(streamed)
    group = {int(digest): index for index in range(len(rows.groups)) for digest in rows.read(index).digests}
    first, second = (next(rows.shuffled(50, torch.Generator().manual_seed(seed))) for seed in (1, 2))
    assert len({group[int(digest)] for digest in first.digests[:50]}) >= 3
    assert not np.array_equal(first.digests[:50], second.digests[:50])


def test_validation_rows_are_bounded(
    monkeypatch: pytest.MonkeyPatch, store: Store, publish_dataset: Publish, digits: Digits
) -> None:
    """Of too many, those with the smallest digests validate; the others train neither."""
    monkeypatch.setattr(split, "VALIDATION_ROWS_MAX", 40)
    found = read_split(store, [publish_dataset("a", digits[0][:1250], digits[1][:1250])])
    known = in_memory(digits)
    assert sorted(found.validation.digests) == sorted(known.validation.digests)[:40]
    assert np.array_equal(found.training.digests, known.training.digests)


def test_interrupted_and_resumed_equals_left_alone(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """Every byte of the model version is the same, and it learned something."""
    publish_dataset("sample", digits[0][:800], digits[1][:800])

    def interrupt(step: Step) -> None:
        if step.done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(store, QUICK, progress=interrupt)
    resumed = train(store, QUICK)
    other = Store.at(f"{store.url}-other")
    publish_rows(other, "sample", digits[0][:800], digits[1][:800])
    left_alone = train(other, QUICK)
    assert contents(resumed.folder) == contents(left_alone.folder)
    assert resumed.accuracy > 0.5
