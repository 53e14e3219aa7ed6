"""One row, exactly: every field looked at by itself. The kernel's slow path, and the last word on an odd row.

Compiled by Numba. A row's verdict is (reason, column, found): `GOOD`; or a reason and the column it lies in (-1: the
whole row), with the number of columns found.

The order of judgement: blank, too long, a quote that never ends, the number of columns, then the first bad field.
"""

from typing import Final

import numpy as np

from digitrec.contract import KEY_MAX_BYTES
from digitrec.ingest.compiled import compiled
from digitrec.ingest.dialect import KEY, LABEL
from digitrec.ingest.rejects import (
    BAD_KEY,
    BLANK_LINE,
    COLUMN_COUNT,
    GOOD,
    LABEL_OUT_OF_RANGE,
    LINE_TOO_LONG,
    NOT_AN_INTEGER,
    PIXEL_OUT_OF_RANGE,
    UNTERMINATED_QUOTE,
)

LINE_MAX_BYTES: Final = 64 * 1024
COMMA, QUOTE, NEWLINE, RETURN, ZERO = b',"\n\r0'

Verdict = tuple[int, int, int]


@compiled
def parse_exactly(
    data: np.ndarray, start: int, newline: int, targets: np.ndarray, values: np.ndarray, key: np.ndarray
) -> Verdict:
    """Read the line data[start:newline] (uint8) into `values` (uint8 [columns + …]) and `key` (int64 [2], its span).

    `targets` (int16 [columns]) says what each column holds. On a refused row the outputs are undefined.
    """
    stop = newline - 1 if newline > start and data[newline - 1] == RETURN else newline
    columns = len(targets)
    if start == stop:
        return BLANK_LINE, -1, 0
    if newline - start > LINE_MAX_BYTES:
        return LINE_TOO_LONG, -1, 0
    reason, bad_column, column, end = GOOD, -1, 0, start - 1
    while end < stop:
        field = end + 1
        end = field_end(data, field, stop)
        if end < 0:
            return unterminated_quote(column, targets)
        if reason == GOOD and column < columns:
            value = read_field(data, field, end, targets[column], key)
            if value < 0:
                reason, bad_column = -value, column
            values[column] = value
        column += 1
    if column != columns:
        return COLUMN_COUNT, -1, column
    return reason, bad_column, column


@compiled
def unterminated_quote(column: int, targets: np.ndarray) -> Verdict:
    """A key may have lost its rest to a line end inside its quotes."""
    if column >= len(targets):
        return UNTERMINATED_QUOTE, -1, 0
    return BAD_KEY if targets[column] == KEY else UNTERMINATED_QUOTE, column, 0


@compiled
def field_end(data: np.ndarray, field: int, stop: int) -> int:
    """Where the field that begins at `field` ends: at a comma outside quotes or at `stop`; -1: its quote has no end."""
    end = field
    if end < stop and data[end] == QUOTE:
        end = closing_quote(data, field, stop) + 1
        if end > stop:
            return -1
    while end < stop and data[end] != COMMA:
        end += 1
    return end


@compiled
def closing_quote(data: np.ndarray, field: int, stop: int) -> int:
    """Position of the quote that closes the one at `field` (two in a row stand for one inside), or `stop`."""
    position = field + 1
    while position < stop:
        if data[position] == QUOTE:
            if position + 1 == stop or data[position + 1] != QUOTE:
                return position
            position += 1
        position += 1
    return stop


@compiled
def read_field(data: np.ndarray, field: int, end: int, target: int, key: np.ndarray) -> int:
    """The value of a pixel or label, 0 for a key (its span goes to `key`); minus the reason if it is refused."""
    quoted = field < end and data[field] == QUOTE
    if quoted:
        if closing_quote(data, field, end) != end - 1:
            return -BAD_KEY if target == KEY else -NOT_AN_INTEGER
        field, end = field + 1, end - 1
    if target == KEY:
        key[0], key[1] = field, end
        return 0 if is_key(data, field, end, quoted) else -BAD_KEY
    value = integer(data, field, end)
    if value < 0:
        return -NOT_AN_INTEGER
    if target == LABEL:
        return value if value <= 9 else -LABEL_OUT_OF_RANGE
    return value if value <= 255 else -PIXEL_OUT_OF_RANGE


@compiled
def integer(data: np.ndarray, field: int, end: int) -> int:
    """The value of one to three digits, or -1."""
    if not 1 <= end - field <= 3:
        return -1
    value = 0
    for position in range(field, end):
        digit = data[position] - ZERO
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@compiled
def is_key(data: np.ndarray, field: int, end: int, quoted: bool) -> bool:
    """True for UTF-8 text of at most 256 bytes without NUL, line end, or a quote that is not doubled."""
    quotes, position = 0, field
    while position < end:
        byte = data[position]
        if byte in (0, RETURN, NEWLINE) or (byte == QUOTE and not quoted):
            return False
        quotes += byte == QUOTE
        length = character_length(data, position, end)
        if length == 0:
            return False
        position += length
    return end - field - quotes // 2 <= KEY_MAX_BYTES


@compiled
def character_length(data: np.ndarray, position: int, end: int) -> int:
    """Bytes of the UTF-8 character at `position` (Unicode, table 3-7: well-formed byte sequences), or 0."""
    first = data[position]
    if first < 0x80:
        return 1
    length = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 0
    if length == 0 or position + length > end:
        return 0
    low = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80
    high = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF
    if data[position + 1] < low or data[position + 1] > high:
        return 0
    for following in range(position + 2, position + length):
        if data[following] & 0xC0 != 0x80:
            return 0
    return length
