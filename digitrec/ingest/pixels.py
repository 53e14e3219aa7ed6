"""The kernel: lines of CSV → uint8 images and labels, or a verdict on each row that is refused.

`parse` walks a block of whole lines. A row is first read 64 bytes at a time (`simd`), in the hope that it is as plain
as nearly all rows are; anything odd in it sends the whole row to the exact reading (`fields`), whose verdict holds.
The fast path accepts only what the exact one accepts, with the same values.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numba import int64, uint64

from digitrec.contract import PIXELS
from digitrec.ingest.compiled import compiled
from digitrec.ingest.dialect import KEY, LABEL, Layout
from digitrec.ingest.fields import COMMA, NEWLINE, QUOTE, RETURN, is_key, parse_exactly
from digitrec.ingest.rejects import GOOD
from digitrec.ingest.simd import LANES, parse_lanes

PADDING: Final = LANES
"""Bytes that must be readable before and behind a block, whatever they are."""

REFUSED_AT_ONCE: Final = 4096


@dataclass(frozen=True)
class Rows:
    """Room for rows, filled from the front: `ids` int64 [n], `labels` uint8 [n], `images` uint8 [n, 784], and `keys`
    int64 [n, 2], first and last position of the key in the block it was read from (only if `keyed`)."""

    ids: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    keys: np.ndarray

    @classmethod
    def empty(cls, n: int, *, keyed: bool) -> "Rows":
        return cls(
            np.empty(n, np.int64),
            np.empty(n, np.uint8),
            np.empty((n, PIXELS), np.uint8),
            np.empty((n * keyed, 2), np.int64),
        )

    def after(self, filled: int) -> "Rows":
        """The room behind the first `filled` rows."""
        return Rows(self.ids[filled:], self.labels[filled:], self.images[filled:], self.keys[filled:])

    def until(self, filled: int) -> "Rows":
        """The first `filled` rows."""
        return Rows(self.ids[:filled], self.labels[:filled], self.images[:filled], self.keys[:filled])


@dataclass(frozen=True)
class Parsed:
    """What came of a block: where reading stopped, how many lines were read, how many rows of `Rows` are filled, and
    the refused ones: int64 [k, 6] of line (0-based, in the block), first byte, newline, reason, column, columns found.
    """

    position: int
    lines: int
    rows: int
    refused: np.ndarray


def parse_block(data: np.ndarray, start: int, stop: int, layout: Layout, rows: Rows, first_id: int) -> Parsed:
    """Read the whole lines data[start:stop] (uint8, `PADDING` around them) into `rows`; ids count from `first_id`.

    Stops early where `rows`, or the room for refused ones, is full: go on at `position`.
    """
    refused = np.empty((REFUSED_AT_ONCE, 6), np.int64)
    position, lines, good, bad = parse(
        *(data, start, stop, first_id, *columns_of(layout), np.empty(len(layout.targets) + LANES, np.uint8)),
        *(rows.ids, rows.labels, rows.images, rows.keys, refused),
    )
    return Parsed(position, lines, good, refused[:bad])


@lru_cache(maxsize=64)
def columns_of(layout: Layout) -> tuple[np.ndarray, int, int]:
    """Targets (int16), the column of the label (or -1), and of the first pixel if all stand in order side by side (or
    -1)."""
    pixels = [column for column, target in enumerate(layout.targets) if target >= 0]
    straight = not layout.reordered and pixels[-1] - pixels[0] == PIXELS - 1
    label = layout.targets.index(LABEL) if layout.labelled else -1
    return np.array(layout.targets, np.int16), label, pixels[0] if straight else -1


@compiled
def parse(
    data: np.ndarray, start: int, stop: int, first_id: int, targets: np.ndarray, label_column: int, first_pixel: int,
    values: np.ndarray, ids: np.ndarray, labels: np.ndarray, images: np.ndarray, keys: np.ndarray, refused: np.ndarray,
) -> tuple[int, int, int, int]:  # fmt: skip
    """`parse_block`, on plain arrays. Returns position, lines, rows and the number of refused ones."""
    position, line, good, bad = start, 0, 0, 0
    while position < stop and good < len(ids) and bad < len(refused):
        key = keys[good] if len(keys) else refused[bad]
        reason, column, found = GOOD, -1, 0
        following = parse_plainly(data, position, targets, label_column, len(keys) > 0, values, key)
        if following < 0:
            newline = line_end(data, position)
            reason, column, found = parse_exactly(data, position, newline, targets, values, key)
            following = newline + 1
        if reason == GOOD:
            ids[good] = first_id + line
            place_row(values, targets, label_column, first_pixel, labels, images, good)
            good += 1
        else:
            note_refused(refused[bad], line, position, following - 1, reason, column, found)
            bad += 1
        position = following
        line += 1
    return position, line, good, bad


@compiled
def parse_plainly(
    data: np.ndarray, start: int, targets: np.ndarray, label_column: int, keyed: bool, values: np.ndarray,
    key: np.ndarray,
) -> int:  # fmt: skip
    """Read the row at `start` into `values`, if nothing is odd about it: where the next one starts, or -1."""
    skipped = 0
    if targets[0] == KEY:
        comma = plain_key_end(data, start)
        if comma < 0:
            return -1
        key[0], key[1] = start, comma
        start, skipped = comma + 1, 1
    elif keyed:
        return -1  # a key in another place may look like a pixel, and its span would not be kept
    following = parse_values(data, start, values, skipped, len(targets))
    if label_column >= 0 and values[label_column] > 9:
        return -1
    return following


@compiled
def plain_key_end(data: np.ndarray, start: int) -> int:
    """Position of the comma behind the unquoted key at `start`, or -1 if anything is odd about it."""
    comma = start
    while data[comma] != COMMA:
        if data[comma] == NEWLINE or data[comma] == QUOTE:
            return -1
        comma += 1
    return comma if is_key(data, start, comma, False) else -1


@compiled
def parse_values(data: np.ndarray, start: int, values: np.ndarray, filled: int, columns: int) -> int:
    """Read the plain numbers from `start` to the line's end into `values` (uint8 [columns + 64]), from `filled` on.

    Returns where the next line starts, or -1 if anything is odd.
    """
    address = uint64(data.ctypes.data)
    out = uint64(values.ctypes.data)
    position, before, ends = start, uint64(0), uint64(0)
    while filled <= columns and ends == uint64(0):
        before, ends, delimiters, odd = parse_lanes(address + uint64(position), before, out + uint64(filled))
        if odd != uint64(0):
            return -1
        filled += bits(delimiters)
        position += LANES
    if filled != columns or ends == uint64(0):
        return -1
    end = position - LANES + bits(ends ^ (ends - uint64(1))) - 1
    if data[end] == RETURN:
        end += 1
    return end + 1 if data[end] == NEWLINE else -1


@compiled
def place_row(
    values: np.ndarray, targets: np.ndarray, label_column: int, first_pixel: int, labels: np.ndarray,
    images: np.ndarray, row: int,
) -> None:  # fmt: skip
    """Put a row's values, in the order of the file, where they belong."""
    if label_column >= 0:
        labels[row] = values[label_column]
    if first_pixel >= 0:
        images[row] = values[first_pixel : first_pixel + PIXELS]
        return
    for column in range(len(targets)):
        if targets[column] >= 0:
            images[row, targets[column]] = values[column]


@compiled
def note_refused(
    refused: np.ndarray, line: int, start: int, newline: int, reason: int, column: int, found: int
) -> None:
    refused[0], refused[1], refused[2] = line, start, newline
    refused[3], refused[4], refused[5] = reason, column, found


@compiled
def line_end(data: np.ndarray, position: int) -> int:
    while data[position] != NEWLINE:
        position += 1
    return position


@compiled
def bits(mask: int) -> int:
    """Number of set bits (the population count of Warren, "Hacker's Delight", 5-1; LLVM knows it by its shape)."""
    mask = uint64(mask)
    mask = mask - ((mask >> uint64(1)) & uint64(0x5555555555555555))
    mask = (mask & uint64(0x3333333333333333)) + ((mask >> uint64(2)) & uint64(0x3333333333333333))
    mask = (mask + (mask >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
    count: int = int64((mask * uint64(0x0101010101010101)) >> uint64(56))
    return count
