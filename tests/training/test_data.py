"""The split, the order of batches, and what is read from a store."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from digitrec.catalog.store import Store
from digitrec.contract import PIXELS
from digitrec.training.data import Batches, seed_for
from digitrec.training.rows import SALT, Rows, for_validation, read_rows, row_digests
from digitrec.training.split import split_rows
from tests.training.conftest import Publish

Digits = tuple[np.ndarray, np.ndarray]


def test_the_digest_is_the_head_of_sha256() -> None:
    """Salt and image, 8 bytes, big-endian: anybody can compute it again."""
    image = np.arange(PIXELS, dtype=np.uint16).astype(np.uint8)
    expected = int.from_bytes(hashlib.sha256(SALT + image.tobytes()).digest()[:8])
    assert row_digests(image[None]).tolist() == [expected]


def test_eight_percent_validate(digits: Digits) -> None:
    """Of 5,000 digits, 400 give or take what chance allows."""
    assert 330 < for_validation(row_digests(digits[0])).sum() < 470


@settings(max_examples=30, deadline=None)
@given(images=arrays(np.uint8, st.tuples(st.integers(1, 30), st.just(PIXELS))), data=st.data())
def test_a_row_stays_on_its_side(images: np.ndarray, data: st.DataObject) -> None:
    """Whatever the order, and whatever other rows are there."""
    chosen = data.draw(st.lists(st.integers(0, len(images) - 1), min_size=1))
    sides = for_validation(row_digests(images))
    assert for_validation(row_digests(images[chosen])).tolist() == sides[chosen].tolist()


def test_no_image_is_on_both_sides(digits: Digits) -> None:
    """Duplicates stay together, and no row is lost."""
    twice = Rows.of(np.repeat(digits[0][:2000], 2, axis=0), np.repeat(digits[1][:2000], 2))
    split = split_rows(twice)
    assert not set(split.training.digests) & set(split.validation.digests)
    assert len(split.training) + len(split.validation) == len(twice)


def test_rows_are_read_in_order_over_datasets(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """Images and labels come out as they went in, dataset after dataset."""
    images, labels = digits
    manifests = [publish_dataset(name, images[part], labels[part]) for name, part in PARTS.items()]
    rows = read_rows(store, manifests)
    assert np.array_equal(rows.images, images[:50])
    assert np.array_equal(rows.labels, labels[:50])


PARTS = {"a": slice(0, 30), "b": slice(30, 50)}


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 60), batch=st.integers(1, 60))
def test_batches_cover_every_row_once(rows: int, batch: int) -> None:
    """With `full_only`, all but the remainder; else all. Images and labels stay together."""
    images = np.repeat(np.arange(rows, dtype=np.uint8)[:, None], PIXELS, axis=1)
    data = Rows.of(images, np.arange(rows, dtype=np.uint8))
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(rows))
    for full_only in (True, False):
        batches = Batches(data, batch, lambda: order, full_only=full_only)
        found = list(batches)
        assert len(found) == len(batches)
        seen = [int(label) for _, labels in found for label in labels]
        assert seen == order.tolist()[: rows // batch * batch if full_only else rows]
        assert all(torch.equal(images[:, 0].long(), labels) for images, labels in found)


def test_seeds_differ_by_epoch_and_purpose() -> None:
    """No two uses draw the same numbers, and each seed fits torch's generator."""
    seeds = {seed_for(seed, epoch, use) for seed in range(3) for epoch in range(50) for use in ("order", "dropout")}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("rows", [99, 107])
def test_a_bool_mask_and_an_index_choose_alike(rows: int, digits: Digits) -> None:
    """`Rows.where` takes either."""
    data = Rows.of(digits[0][:rows], digits[1][:rows])
    mask = data.labels == 3
    assert np.array_equal(data.where(mask).digests, data.where(np.flatnonzero(mask)).digests)
