"""`score --cascade`: a small net answers what it is sure of, the large one the rest, and the predictions say which."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from digitrec.catalog import listing as catalog
from digitrec.catalog.reader import read_predictions
from digitrec.catalog.store import Store
from digitrec.contract import LARGE, SMALL, predictions_schema
from digitrec.errors import Misconfigured
from digitrec.options import ScoreOptions
from digitrec.scoring.compute import score_partition
from digitrec.scoring.engine import load_engine
from digitrec.scoring.executors import Execution
from digitrec.scoring.partitions import plan_partitions
from digitrec.scoring.predict import BATCH, Engine, Network, Predictions, Small, classify, predict
from digitrec.scoring.request import Request, Task
from digitrec.scoring.run import score, score_all
from digitrec.settings import Settings
from digitrec.verify import verify
from tests.places import full
from tests.scoring.making import Shape, make_dataset, make_images, make_model

NIGHT = ScoreOptions(dataset="night", precision="int8", cascade=True)
SHAPE = Shape(((300, 200), (400,), (50, 50)), gap=7)
COLUMNS = ("label", "confidence", "runner_up", "runner_up_confidence", "probabilities")
IMAGES = make_images(400, seed=2)


def linear(seed: int) -> Network:
    """A network of one layer with random weights."""
    weights = np.random.default_rng(seed).normal(0, 0.002, (784, 10)).astype(np.float32)
    return lambda images: images.astype(np.float32) @ weights


@pytest.fixture
def cascading(store: Store) -> Store:
    """A store with a champion that has a small net, and one unlabelled dataset, `night`, of three shards."""
    make_model(store, agreement=1, threshold=0.8)
    make_dataset(store, "night", make_images(SHAPE.rows), SHAPE, keyed=True)
    return store


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.floats(0, 1.01), st.integers(0, len(IMAGES)))
def test_the_small_net_answers_what_it_is_sure_of_and_the_large_one_the_rest(threshold: float, rows: int) -> None:
    """Row for row: what the small net says where its confidence reaches the threshold, else what the large one says."""
    images = IMAGES[:rows]
    small, large = predict(linear(1), images, temperature=2), predict(linear(2), images, temperature=0.5)
    found = classify(Engine(linear(2), 0.5, Small(linear(1), 2, threshold)), images)
    sure = small.confidence >= np.float32(threshold)
    assert found.net is not None
    assert found.net.tolist() == np.where(sure, SMALL, LARGE).tolist()
    for column in COLUMNS:
        assert same(column, found, small, sure)
        assert same(column, found, large, ~sure)


def same(column: str, found: Predictions, wanted: Predictions, rows: np.ndarray) -> bool:
    """As far as fp32 is the same in another batch."""
    return np.allclose(getattr(found, column)[rows], getattr(wanted, column)[rows], rtol=0, atol=1e-5)


def test_the_large_net_runs_on_full_batches() -> None:
    """What is left over by many batches of the small net is gathered first."""
    seen: list[int] = []

    def large(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return linear(2)(images)

    images = np.tile(IMAGES, (16, 1))
    found = classify(Engine(large, 1, Small(linear(1), 2, 0.7)), images)
    assert found.net is not None
    left = int((found.net == LARGE).sum())
    assert BATCH < left < len(images)
    assert seen == [BATCH] * (left // BATCH) + [left % BATCH]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_small_net_is_the_same_in_every_precision(cascading: Store, precision: str) -> None:
    """It always computes in int8, so which net answers depends neither on the batch nor on the processor."""
    model = catalog.model(cascading, "quick-00000001")
    exact = classify(load_engine(cascading, model.name, model.digest, "int8", cascade=True), IMAGES)
    other = classify(load_engine(cascading, model.name, model.digest, precision, cascade=True), IMAGES)
    assert np.array_equal(exact.net, other.net)
    assert 0 < exact.net.mean() < 1


def test_a_part_says_which_net_answered(cascading: Store, settings: Settings) -> None:
    """Rows in = rows out, with a column `net`; the manifest and the report count what the small net answered."""
    (scored,) = score(cascading, NIGHT, settings).datasets
    frame = read_predictions(scored.folder)
    facts = json.loads(Path(scored.folder, "manifest.json").read_text())["facts"]
    small = int((frame["net"] == SMALL).sum())
    assert scored.variant == "int8-cascade"
    assert list(frame.columns) == predictions_schema(keyed=True, cascade=True).names
    assert frame["image_id"].tolist() == SHAPE.ids().tolist()
    assert 0 < small < len(frame)
    assert facts["small"] == scored.small == small
    assert scored.lines()[0].endswith(f"; the small net answered {small / len(frame):.1%}")


def test_what_is_published_is_whole(cascading: Store, settings: Settings) -> None:
    """`verify` finds the parts, their ids and `submission.csv` as they should be, with probabilities too."""
    for probabilities in (False, True):
        score(cascading, NIGHT.model_copy(update={"probabilities": probabilities}), settings)
    folders = sorted(path.name for path in Path(full(cascading, "predictions/night")).iterdir())
    assert folders == ["quick-00000001.int8-cascade", "quick-00000001.int8-cascade-probabilities"]
    assert verify(cascading).predictions == 2


def test_a_cascade_goes_on_where_it_was_stopped(cascading: Store, settings: Settings) -> None:
    """A finished part is believed, and its rows of the small net are counted; the same twice is done once."""
    model, dataset = catalog.model(cascading, "quick-00000001"), catalog.dataset(cascading, "night")
    request = Request.of(cascading, dataset, model, NIGHT, "int8")
    score_partition(Task(request, plan_partitions(dataset, 200)[0]))
    first = score_all(cascading, NIGHT, settings, Execution(partition_rows=200)).datasets[0]
    again = score(cascading, NIGHT, settings).datasets[0]
    (run,) = (json.loads(path.read_text()) for path in Path(first.folder, "runs").glob("*.json"))
    assert run["resumed_partitions"] == 1
    assert first.small == int((read_predictions(first.folder)["net"] == SMALL).sum())
    assert (again.already, again.small) == (True, first.small)


def test_a_model_without_a_cascade_is_refused(ready: Store, settings: Settings) -> None:
    """Exit 78 with the reason, and nothing is written."""
    reason = (
        "quick-00000001 has no cascade: it was trained by an older digitrec; score without --cascade, or train anew"
    )
    with pytest.raises(Misconfigured, match=reason) as raised:
        score(ready, NIGHT.model_copy(update={"precision": "fp32"}), settings)
    assert raised.value.exit_code == 78
    assert ready.storage.list("predictions") == []
