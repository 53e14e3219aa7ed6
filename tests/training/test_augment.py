"""distort(): bounded, seeded, and harmless where it should be."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from digitrec.contract import PIXELS, SIDE
from digitrec.training.augment import Distortion, distort, elastic_shift, mix

STILL = Distortion(0, 0, 0, 0, 0)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def images(digits: tuple[np.ndarray, np.ndarray]) -> Tensor:
    return torch.from_numpy(digits[0][:64])


def test_no_distortion_changes_nothing(images: Tensor) -> None:
    """The identity map gives every pixel back, so that axes and centre are where they belong."""
    torch.testing.assert_close(distort(images, STILL, seeded(0)), images.float(), atol=0.01, rtol=0)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 40), seed=st.integers(0, 2**62))
def test_any_batch_keeps_shape_and_range(rows: int, seed: int) -> None:
    """float32 [n, 784], still within 0…255."""
    images = torch.randint(0, 256, (rows, PIXELS), dtype=torch.uint8, generator=seeded(seed))
    moved = distort(images, Distortion(), seeded(seed))
    assert (moved.shape, moved.dtype) == ((rows, PIXELS), torch.float32)
    assert moved.min() >= 0
    assert moved.max() <= 255.01


def test_the_generator_decides(images: Tensor) -> None:
    """The same seed, the same distortions; another seed, others; torch's own generator is left alone."""
    before = torch.random.get_rng_state()
    first, same, other = (distort(images, Distortion(), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_each_image_is_distorted_in_its_own_way(images: Tensor) -> None:
    """Copies of one image come out different."""
    moved = distort(images[:1].repeat(5, 1), Distortion(), seeded(3))
    assert len({row.numpy().tobytes() for row in moved}) == 5


def test_a_shift_moves_the_image_no_further_than_its_bound() -> None:
    """A dot in the middle stays within the pixels that the bound allows."""
    dot = torch.zeros(200, SIDE, SIDE, dtype=torch.uint8)
    dot[:, 14, 14] = 255
    moved = distort(dot.view(200, PIXELS), Distortion(0, 0, 0, 2.0, 0), seeded(4)).view(200, SIDE, SIDE)
    rows, columns = moved.sum(dim=(0, 2)).nonzero(), moved.sum(dim=(0, 1)).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 16, 12, 16)


def test_the_elastic_field_is_smooth_and_of_the_size_asked_for() -> None:
    """Neighbours move together, and displacements spread as wide as the option says."""
    field = elastic_shift(200, Distortion(elastic_px=0.8), seeded(5))
    assert field.std().item() == pytest.approx(0.8, rel=0.3)
    assert (field[..., 1:] - field[..., :-1]).abs().mean() < 0.5 * field.abs().mean()


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 0.4), st.just(0.0) | st.floats(0.001, 0.4), st.floats(0, 1))
def test_strength_rises_stays_and_falls(progress: float, ramp: float, calm: float, end: float) -> None:
    """From 0 (without a ramp: from 1) to 1, and over the last share of the training to its end."""
    distortion = Distortion(ramp=ramp, calm=calm, end=end)
    strength = distortion.strength(progress)
    assert -1e-12 <= strength <= 1
    if ramp <= progress <= 1 - calm:
        assert strength == 1
    assert Distortion(ramp=0.3).strength(0) == 0
    assert distortion.strength(1) == pytest.approx(end if calm else 1)


def test_without_strength_nothing_moves(images: Tensor) -> None:
    """At strength 0 every pixel stays; at a half the image is nearer to what it was than at full strength."""
    none, half, full = (distort(images, Distortion(), seeded(6), strength=part) for part in (0.0, 0.5, 1.0))
    torch.testing.assert_close(none, images.float(), atol=0.01, rtol=0)
    assert (half - none).abs().mean() < (full - none).abs().mean()


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_up_to_half_of_another_is_mixed_into_a_share(rows: int, share: float, seed: int) -> None:
    """The first images move towards the one before, less than half of the way; the others stay."""
    images = torch.rand(rows, PIXELS, generator=seeded(seed)) * 255
    mixed, count = mix(images, share, seeded(seed)), round(rows * share)
    assert torch.equal(mixed[count:], images[count:])
    before = images[:count].roll(1, dims=0)
    moved, way = (mixed - images)[:count].norm(dim=1), (before - images[:count]).norm(dim=1)
    torch.testing.assert_close(moved + (before - mixed[:count]).norm(dim=1), way)
    assert (moved <= way / 2 + 1e-3).all()
    assert count < 2 or moved.max() > 0
