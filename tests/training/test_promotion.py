"""A champion is replaced only by what is shown to be better on rows that neither was trained on."""

import numpy as np
import torch

from digitrec.contract import PIXELS
from digitrec.network import Architecture, Perceptron
from digitrec.training.promotion import compare
from digitrec.training.rows import Rows, row_digests
from digitrec.training.sealing import Sealed

NOTHING = np.empty(0, np.uint64)


def always(answer: int, trained_on: np.ndarray = NOTHING) -> Sealed:
    """A model that answers the same to everything."""
    network = Perceptron(Architecture(())).eval()
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.copy_(torch.eye(10)[answer])
    return Sealed(f"always-{answer}", network, trained_on)


def rows_with(labels: list[int]) -> Rows:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), PIXELS), dtype=np.uint8)
    return Rows(images, np.array(labels, np.uint8), row_digests(images))


def test_clearly_better_is_promoted() -> None:
    """Right on 60 rows where the champion is wrong, wrong on 20 where it is right: no chance of a coin."""
    rows = rows_with([1] * 60 + [2] * 20 + [3] * 200)
    assert compare(always(1), always(2), rows).promote


def test_a_little_better_is_not() -> None:
    """More right answers alone may be luck."""
    verdict = compare(always(1), always(2), rows_with([1] * 60 + [2] * 50 + [3] * 200))
    assert not verdict.promote
    assert "not shown to be better" in verdict.why


def test_clearly_worse_is_not() -> None:
    """The test has two sides; only one of them promotes."""
    assert not compare(always(2), always(1), rows_with([1] * 60 + [2] * 20 + [3] * 200)).promote


def test_rows_that_either_was_trained_on_do_not_count() -> None:
    """Of 280 rows the champion saw 100, so 180 are left, and those are too few."""
    rows = rows_with([1] * 260 + [2] * 20)
    assert compare(always(1), always(2), rows).promote
    for new, old in [(NOTHING, rows.digests[:100]), (rows.digests[:100], NOTHING)]:
        verdict = compare(always(1, new), always(2, old), rows)
        assert not verdict.promote
        assert "only 180 validation rows" in verdict.why


def test_copies_of_a_row_count_once() -> None:
    """A dataset that repeats 20 rows a hundred times holds 20 to compare on."""
    few = rows_with([1] * 20)
    copies = few.where(np.tile(np.arange(20), 100))
    assert "only 20 validation rows" in compare(always(1), always(2), copies).why
