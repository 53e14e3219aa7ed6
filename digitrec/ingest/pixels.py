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

from digitrec.contract import KEY_MAX_BYTES, PIXELS
from digitrec.ingest.compiled import compiled
from digitrec.ingest.dialect import IGNORED, KEY, LABEL, Layout
from digitrec.ingest.fields import COMMA, NEWLINE, QUOTE, RETURN, is_key, is_padding, parse_exactly
from digitrec.ingest.rejects import BLANK_LINE, COLUMN_COUNT, GOOD
from digitrec.ingest.simd import LANES, parse_lanes

PADDING: Final = LANES
"""Bytes that must be readable before and behind a block, whatever they are."""

REFUSED_AT_ONCE: Final = 4096
BOM_START: Final = 0xEF
"""Files that begin with a byte order mark were joined: the exact reading leaves it out."""


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
    """What came of a block: where reading stopped, how many lines were read, how many of them are `rows` (not blank),
    how many of those are `good` and lie in `Rows`, and the refused ones: int64 [k, 7] of line and row (0-based, in the
    block), first byte, newline, reason, column, columns found.

    `stopped`: the last refused line has more bad fields than good ones; whoever reads on looks whether it is a header.
    """

    position: int
    lines: int
    rows: int
    good: int
    refused: np.ndarray
    stopped: bool


def parse_block(data: np.ndarray, start: int, stop: int, layout: Layout, rows: Rows, first_id: int) -> Parsed:
    """Read the whole lines data[start:stop] (uint8, `PADDING` around them) into `rows`; ids count from `first_id`.

    Stops early where `rows`, or the room for refused ones, is full, or at what may be a header: go on at `position`.
    """
    refused = np.empty((REFUSED_AT_ONCE, 7), np.int64)
    columns = columns_of(layout)
    position, lines, numbered, good, bad, stopped = parse(
        *(data, start, stop, first_id, columns.targets, columns.label, columns.first_pixel, columns.plain),
        *(ord(layout.separator), *layout.scale, np.empty(len(layout.targets) + LANES, np.uint8)),
        *(rows.ids, rows.labels, rows.images, rows.keys, refused),
    )
    return Parsed(position, lines, numbered, good, refused[:bad], stopped)


@dataclass(frozen=True)
class Columns:
    """A layout as the kernel needs it: the targets (int16), the column of the label (or -1), that of the first pixel if
    all stand in order side by side (or -1), and whether the fast path may be tried.

    The fast path reads commas and plain numbers, and before them one column of text; an unlabelled file's label column
    or one that must be empty would be read as numbers.
    """

    targets: np.ndarray
    label: int
    first_pixel: int
    plain: bool


@lru_cache(maxsize=64)
def columns_of(layout: Layout) -> Columns:
    pixels = [column for column, target in enumerate(layout.targets) if target >= 0]
    straight = not layout.reordered and pixels[-1] - pixels[0] == PIXELS - 1
    label = layout.targets.index(LABEL) if layout.labelled else -1
    numbers = all(target >= LABEL or target == IGNORED for target in layout.targets[1:])
    plain = numbers and layout.targets[0] in TEXT_OR_NUMBER and layout.separator == "," and layout.scale == (0, 0)
    return Columns(np.array(layout.targets, np.int16), label, pixels[0] if straight else -1, plain)


TEXT_OR_NUMBER = {KEY, IGNORED, LABEL, *range(PIXELS)}


@compiled
def parse(
    data: np.ndarray, start: int, stop: int, first_id: int, targets: np.ndarray, label_column: int, first_pixel: int,
    plain: bool, separator: int, top: int, decimals: int, values: np.ndarray, ids: np.ndarray, labels: np.ndarray,
    images: np.ndarray, keys: np.ndarray, refused: np.ndarray,
) -> tuple[int, int, int, int, int, bool]:  # fmt: skip
    """`parse_block`, on plain arrays. Returns position, lines, rows, good ones, refused ones, and `stopped`."""
    position, line, row, good, bad, stopped = start, 0, 0, 0, 0, False
    while position < stop and good < len(ids) and bad < len(refused) and not stopped:
        key = keys[good] if len(keys) else refused[bad]
        reason, column, found, unread = GOOD, -1, 0, 0
        following = parse_plainly(data, position, targets, label_column, values, key) if plain else -1
        if following < 0:
            newline = line_end(data, position)
            reason, column, found, unread = parse_exactly(
                data, position, newline, targets, separator, top, decimals, values, key
            )
            following = newline + 1
        if reason == GOOD:
            ids[good] = first_id + row
            place_row(values, targets, label_column, first_pixel, labels, images, good)
            good += 1
        elif reason != BLANK_LINE:
            note_refused(refused[bad], line, row, position, following - 1, reason, column, found)
            bad += 1
            # Decimals may hide a header of numbers; a line of one or two fields may be `sep=;` or an end of file.
            stopped = 2 * unread > len(targets) or top > 0 or (reason == COLUMN_COUNT and found <= 2)
        row += reason != BLANK_LINE
        position = following
        line += 1
    return position, line, row, good, bad, stopped


@compiled
def parse_plainly(
    data: np.ndarray, start: int, targets: np.ndarray, label_column: int, values: np.ndarray, key: np.ndarray
) -> int:
    """Read the row at `start` into `values`, if nothing is odd about it: where the next one starts, or -1."""
    skipped = 0
    if targets[0] < LABEL:
        comma = plain_text_end(data, start, targets[0] == KEY)
        if comma < 0:
            return -1
        if targets[0] == KEY:
            key[0], key[1] = start, comma
        start, skipped = comma + 1, 1
    following = parse_values(data, start, values, skipped, len(targets))
    if label_column >= 0 and values[label_column] > 9:
        return -1
    return following


@compiled
def plain_text_end(data: np.ndarray, start: int, key: bool) -> int:
    """Position of the comma behind the unquoted text at `start`, or -1 if anything is odd about it."""
    comma = start
    while data[comma] != COMMA:
        if data[comma] == NEWLINE or data[comma] == QUOTE:
            return -1
        comma += 1
    if not key:
        return comma if comma - start <= KEY_MAX_BYTES else -1
    padded = is_padding(data[start], COMMA) or is_padding(data[comma - 1], COMMA)
    odd = comma == start or padded or data[start] == BOM_START
    return comma if not odd and is_key(data, start, comma, False) else -1


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
    refused: np.ndarray, line: int, row: int, start: int, newline: int, reason: int, column: int, found: int
) -> None:
    refused[0], refused[1], refused[2], refused[3] = line, row, start, newline
    refused[4], refused[5], refused[6] = reason, column, found


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
