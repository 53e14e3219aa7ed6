"""What is derived at sealing: an engine in int8, and how far it agrees with fp32."""

import json

import numpy as np
import pytest

from digitrec.catalog.store import Store
from digitrec.engines import INT8_FILE
from digitrec.engines.int8 import open_int8
from digitrec.network import Architecture
from digitrec.options import TrainOptions
from digitrec.training import deriving
from digitrec.training.quality import logits_of
from digitrec.training.sealed import open_sealed
from tests.training.conftest import Publish, file_of, train

Digits = tuple[np.ndarray, np.ndarray]


def test_a_sealed_version_has_an_engine_and_says_how_well_it_agrees(
    store: Store, publish_dataset: Publish, digits: Digits
) -> None:
    """The engine answers like the network but for close calls; the card counts them, on images nobody labelled."""
    images, labels = digits
    publish_dataset("train", images[:600], labels[:600])
    report = train(store, TrainOptions(dataset=("train",), preset="quick"))
    card = json.loads(file_of(store, report.version, "card.json"))
    engine = open_int8(file_of(store, report.version, INT8_FILE), INT8_FILE)
    expected = logits_of(open_sealed(store, report.version).network, images).argmax(axis=1)
    assert card["engines"]["int8"]["images"] == deriving.COMPARED_IMAGES
    assert 0.97 < card["engines"]["int8"]["agreement"] <= 1
    assert (engine(images).argmax(axis=1) == expected).mean() > 0.97


@pytest.mark.parametrize("rows", [100, 5000])
def test_arithmetics_are_compared_on_plain_and_distorted_images(digits: Digits, rows: int) -> None:
    """Half of the images as they are, unless there are too few of them; the same ones each time."""
    images = digits[0][:rows]
    shown = deriving.sample(images, deriving.COMPARED_IMAGES)
    known = {image.tobytes() for image in images}
    plain = sum(image.tobytes() in known for image in shown)
    assert len(shown) == deriving.COMPARED_IMAGES
    assert plain == pytest.approx(min(rows, deriving.COMPARED_IMAGES // 2), abs=3)
    assert np.array_equal(shown, deriving.sample(images, deriving.COMPARED_IMAGES))


def test_deriving_twice_gives_the_same_bytes(digits: Digits) -> None:
    """So a training that is sealed twice is one version."""
    from tests.test_engines import random_network

    network = random_network(Architecture((32,), batch_norm=True))
    assert deriving.derive(network, digits[0]) == deriving.derive(network, digits[0])
