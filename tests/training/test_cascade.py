"""The small net of a cascade: taught by the large one, and kept only with a threshold that is shown to lose nothing."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from digitrec.catalog import listing as catalog
from digitrec.catalog.reader import read_predictions
from digitrec.catalog.store import Store
from digitrec.engines import CASCADE_FILE, INT8_FILE
from digitrec.engines.confidence import confidence
from digitrec.engines.int8 import open_int8
from digitrec.errors import Misconfigured
from digitrec.options import ScoreOptions, TrainOptions
from digitrec.scoring.run import score
from digitrec.settings import Settings
from digitrec.training import cascade
from digitrec.training.cascade import (
    DOUBT,
    LOSS_MAX,
    THRESHOLDS,
    Large,
    at_hand,
    chance_of_fewer,
    distil,
    distinct,
    lowest_threshold,
    rows_needed,
    shares,
    upper_bound,
)
from digitrec.training.recipe import PRESETS
from digitrec.training.rows import Rows, joined
from digitrec.training.run import TrainReport
from digitrec.training.sealed import CARD, CARD_FOR_PEOPLE, open_sealed
from digitrec.training.split import scan
from digitrec.training.streaming import StreamedRows
from tests.scoring.making import make_dataset
from tests.training.conftest import TINY, Digits, file_of, publish_rows, train

QUICK = TrainOptions(dataset=("train",), preset="quick")


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """The quick preset, which is tiny in tests, has a small net that is taught in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", replace(TINY, recipe=replace(TINY.recipe, small_units=16)))
        patch.setattr(cascade, "SHOWN_IMAGES", 2000)
        patch.setattr(cascade, "PASSES", 6)
        yield


def sealed(store: Store, digits: Digits, loss_max: float) -> TrainReport:
    """A version trained on 2,000 rows whose small net may lose so much; the other 1,000 are the dataset `night`."""
    images, labels = digits
    publish_rows(store, "train", images[:2000], labels[:2000])
    make_dataset(store, "night", images[2000:3000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cascade, "LOSS_MAX", loss_max)
        return train(store, QUICK)


@pytest.fixture(scope="module")
def generous(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> tuple[Store, TrainReport]:
    """With 3 points that may be lost, a few hundred rows are enough."""
    store = Store.at(tmp_path_factory.mktemp("generous"))
    return store, sealed(store, digits, 0.03)


def card_of(store: Store, report: TrainReport) -> dict:
    return json.loads(file_of(store, report.version, CARD))


def test_a_version_carries_its_small_net_and_the_proof(generous: tuple[Store, TrainReport]) -> None:
    """The engine is one of the version's files; the card has threshold and proof, as numbers and for people."""
    store, report = generous
    found = card_of(store, report)["cascade"]
    assert file_of(store, report.version, CASCADE_FILE)
    assert found["hidden"] == [16]
    assert 0.5 <= found["threshold"] < 1
    assert 0 < found["answered"] < 1
    assert 0.5 < found["accuracy"] < 1
    assert found["losses"] / found["rows"] < found["upper_bound"] <= found["loss_max"] == 0.03
    assert found["upper_bound"] == upper_bound(found["losses"], found["rows"])
    page = file_of(store, report.version, CARD_FOR_PEOPLE).decode()
    assert "A small net 784-16-10" in page
    assert f"{found['answered']:.1%} of {found['rows']:,} rows" in page


def test_scoring_follows_the_card(generous: tuple[Store, TrainReport], digits: Digits) -> None:
    """From sealing to a published part: the small net answers exactly what its calibrated confidence allows."""
    store, report = generous
    options = ScoreOptions(dataset="night", model=report.version, precision="int8", cascade=True)
    (scored,) = score(store, options, Settings(store=store.url, threads=1, _env_file=None)).datasets
    frame, found = read_predictions(scored.folder), card_of(store, report)["cascade"]
    logits = open_int8(file_of(store, report.version, CASCADE_FILE), CASCADE_FILE)(digits[0][2000:3000])
    sure = confidence(logits, found["temperature"]) >= found["threshold"]
    assert ((frame["net"] == 0) == sure).all()
    assert (frame["label"][sure] == logits.argmax(axis=1)[sure]).all()
    assert 0 < scored.small == sure.sum() < len(frame)


def test_too_few_rows_make_no_cascade(tmp_path: Path, digits: Digits) -> None:
    """2,000 rows prove nothing to 0.05 points: there is no small net, the card says why, and so does `--cascade`."""
    store = Store.at(tmp_path / "store")
    report = sealed(store, digits, LOSS_MAX)
    reason = r"5,990 rows that the small net was not trained on are needed .* loses no more than 0.05%, there are \d+"
    options = ScoreOptions(dataset="night", model=report.version, cascade=True)
    with pytest.raises(Misconfigured, match=f"{report.version} has no cascade: {reason}"):
        score(store, options, Settings(store=store.url, threads=1, _env_file=None))
    assert list(card_of(store, report)["cascade"]) == ["none"]
    assert "There is no small net: 5,990 rows" in file_of(store, report.version, CARD_FOR_PEOPLE).decode()
    assert CASCADE_FILE not in {file.name for file in catalog.model(store, report.version).files}


def test_a_small_net_that_is_sure_and_wrong_is_not_kept() -> None:
    """Where not even the strictest threshold loses little enough, there is none."""
    rows = 3 * rows_needed()
    assert lowest_threshold(np.ones(rows, np.float32), np.arange(rows) < rows // 100) is None


def test_presets_that_are_in_a_hurry_make_none() -> None:
    """`quick` is a demonstration of seconds; the others have a small net of 128 units."""
    assert TINY.recipe.small_units == 0
    assert [PRESETS[preset].recipe.small_units for preset in ("default", "best")] == [128, 128]


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(31, 100_000))
def test_the_bound_is_the_exact_one(losses: int, rows: int) -> None:
    """Under the bound, so few losses have a chance of 5 %; without a loss it is 1 - 0.05^(1/rows)."""
    bound = upper_bound(losses, rows)
    assert chance_of_fewer(losses, rows, bound) == pytest.approx(DOUBT, rel=1e-6)
    assert losses / rows < bound < upper_bound(losses + 1, rows)
    assert upper_bound(0, rows) == pytest.approx(-math.expm1(math.log(DOUBT) / rows), rel=1e-9)
    assert upper_bound(rows, rows) == 1


def test_so_many_rows_are_needed() -> None:
    """5,990 rows without a loss are just enough, one less is not."""
    assert rows_needed() == 5990
    assert upper_bound(0, 5990) <= LOSS_MAX < upper_bound(0, 5989)


@hypothesis_settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(5000, 30_000), losses=st.integers(0, 40))
def test_the_walk_ends_at_the_first_threshold_that_fails(seed: int, rows: int, losses: int) -> None:
    """Every threshold from the strictest down to the one taken is shown to hold, and the next is not."""
    generator = np.random.default_rng(seed)
    sure = generator.beta(8, 0.3, rows).astype(np.float32)
    lost = np.isin(np.arange(rows), generator.choice(rows, losses, replace=False))
    bounds = [upper_bound(int(((sure >= threshold) & lost).sum()), rows) for threshold in THRESHOLDS]
    passed = next((i for i, bound in enumerate(bounds) if bound > LOSS_MAX), len(bounds))
    proof = lowest_threshold(sure, lost)
    assert (proof and proof.threshold) == (THRESHOLDS[passed - 1] if passed else None)
    if proof:
        taken = sure >= proof.threshold
        assert (proof.losses, proof.answered, proof.rows) == ((taken & lost).sum(), taken.mean(), rows)


def test_a_bad_threshold_is_taken_no_oftener_than_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many trials of a net whose true loss under each threshold is known, at most 1 in 20 ends below a good one."""
    monkeypatch.setattr(cascade, "LOSS_MAX", 0.02)
    monkeypatch.setattr(cascade, "THRESHOLDS", THRESHOLDS[::10])
    generator, bad, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        # Confidences are uniform, and one row in ten of any confidence is lost: under t the loss is (1 - t) / 10.
        sure = generator.random(1000, np.float32)
        proof = lowest_threshold(sure, generator.random(1000) < 0.1)
        bad += proof is not None and (1 - proof.threshold) / 10 > 0.02
    assert 0 < bad <= DOUBT * trials


def test_teaching_calibrating_and_judging_rows_are_different_ones(digits: Digits) -> None:
    """No image is in two of the shares, all are in one, and which one does not depend on the others."""
    rows = Rows.of(*digits)
    parts = shares(rows)
    assert sorted(np.concatenate([part.digests for part in parts])) == sorted(rows.digests)
    assert sum(len(np.unique(part.digests)) for part in parts) == len(np.unique(rows.digests))
    assert [len(part) / len(rows) for part in parts] == pytest.approx([0.65, 0.05, 0.3], abs=0.02)
    few = shares(rows.where(np.arange(100)))[2].digests
    assert np.array_equal(few, parts[2].digests[: len(few)])


def test_a_copy_proves_nothing(digits: Digits) -> None:
    """Of images that are there more than once, one is judged."""
    once = Rows.of(digits[0][:200], digits[1][:200])
    assert distinct(joined([once, once])).digests.tolist() == distinct(once).digests.tolist()
    assert len(distinct(once)) == len({image.tobytes() for image in once.images})


def test_of_many_rows_some_are_enough(store: Store, digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly over all of them; of those that lie on disk, whole row groups."""
    monkeypatch.setattr(cascade, "ROWS_MAX", 100)
    rows = Rows.of(*digits)
    assert at_hand(rows).digests.tolist() == rows.digests[::50].tolist()
    streamed = scan(store, [publish_rows(store, "train", digits[0][:1000], digits[1][:1000])]).training
    assert isinstance(streamed, StreamedRows)
    found = at_hand(streamed)
    assert 100 <= len(found) <= 200
    assert np.isin(found.digests, streamed.digests).all()


def test_the_same_large_net_and_images_make_the_same_small_net(
    generous: tuple[Store, TrainReport], digits: Digits
) -> None:
    """Byte for byte: a version that is sealed twice is one version."""
    store, report = generous
    model = open_sealed(store, report.version)
    large = Large(model.network, file_of(store, report.version, INT8_FILE), model.temperature)
    first, second = (distil(large, digits[0][:500], 16) for _ in range(2))
    assert first == second
