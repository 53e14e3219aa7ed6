"""Digits put upright, so that a network need not learn every slant: each line of pixels is moved sideways.

"Deslanting" after LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998):
the second moments of the ink give the slant of its main axis, and a shear about its centre takes it out. Moments are
integers and pixels move by 256ths, so an image comes out the same on every machine.
"""

from typing import Final

import numpy as np
from numba import int32, int64, uint8, uint16

from digitrec.compiled import compiled, inlined
from digitrec.contract import PIXELS, SIDE

SLANT_MAX: Final = 1.0
"""45°: of MNIST's digits one in a thousand is more slanted. What is not a digit may be, and would leave its image."""
WIDE: Final = 32
"""Lines are computed so wide, whole vectors of pixels instead of 28; what is too much is overwritten by the next."""
STEPS: Final = 256
"""A pixel is this many steps wide."""


def deskew(images: np.ndarray) -> np.ndarray:
    """The same images with the slant taken out: uint8 [n, 784] → uint8 [n, 784], bilinear. Blank stays blank."""
    upright = np.empty(images.shape, np.uint8)
    deskew_into(images, upright)
    return upright


@compiled
def deskew_into(images: np.ndarray, upright: np.ndarray) -> None:
    """Both uint8 [n, 784]. A thread's scratch is its own."""
    lines = np.zeros((SIDE, 3 * WIDE), np.uint8)
    moved = np.empty(PIXELS + WIDE - SIDE, np.uint8)
    columns = np.empty((3, WIDE), np.int32)
    for image in range(len(images)):
        for y in range(SIDE):
            for x in range(SIDE):
                lines[y, WIDE + x] = images[image, y * SIDE + x]
        slant, centre = slant_of(lines, columns)
        for y in range(SIDE):
            steps = int64(np.floor(slant * (y - centre) * STEPS + 0.5))
            move_line(lines[y], steps, moved[y * SIDE : y * SIDE + WIDE])
        for pixel in range(PIXELS):
            upright[image, pixel] = moved[pixel]


@inlined
def slant_of(lines: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """By how many pixels the ink of uint8 [28, 3 · 32], framed left and right, moves sideways with each line, and the
    line (from the top) of its centre. `columns`, int32 [3, 32], is scratch: the ink of columns, times y⁰, y¹, y²."""
    columns[:] = 0
    ones, ys, squares = columns[0], columns[1], columns[2]
    for y in range(SIDE):
        line = lines[y, WIDE : 2 * WIDE]
        for x in range(WIDE):
            ones[x] += int32(line[x])
            ys[x] += int32(line[x]) * int32(y)
            squares[x] += int32(line[x]) * int32(y * y)
    ink, ink_x, ink_y, ink_xy, ink_yy = int64(0), int64(0), int64(0), int64(0), int64(0)
    for x in range(WIDE):
        ink += ones[x]
        ink_x += ones[x] * x
        ink_y += ys[x]
        ink_xy += ys[x] * x
        ink_yy += squares[x]
    spread = ink * ink_yy - ink_y * ink_y
    if spread == 0:  # blank, or all on one line
        return 0.0, 0.0
    slant = (ink * ink_xy - ink_x * ink_y) / spread
    return min(max(slant, -SLANT_MAX), SLANT_MAX), ink_y / ink


@inlined
def move_line(line: np.ndarray, steps: int, moved: np.ndarray) -> None:
    """Each of the 32 pixels of `moved` from where it lies `steps` to the right in a framed line, between two pixels."""
    start = WIDE + min(max(steps // STEPS, 1 - WIDE), WIDE - 1)
    right = uint16(steps % STEPS)
    left = uint16(STEPS) - right
    near, far = line[start : start + WIDE], line[start + 1 : start + 1 + WIDE]
    for x in range(WIDE):
        mixed = left * uint16(near[x]) + right * uint16(far[x]) + uint16(STEPS // 2)
        moved[x] = uint8(mixed >> uint16(8))
