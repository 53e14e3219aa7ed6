"""One row, exactly: every field looked at by itself. The kernel's slow path, and the last word on an unusual row.

Compiled by Numba. A row's verdict is (reason, column, found, bad): `GOOD`; or a reason and the column it lies in (-1:
the whole row), the number of columns found, and how many pixels and labels could not be read.

The order of judgement: too long, blank, a quote that never ends, the number of columns, then the first bad field.
"""

from typing import Final

import numpy as np

from digitrec.contract import KEY_MAX_BYTES
from digitrec.ingest.compiled import compiled
from digitrec.ingest.dialect import BLANK, IGNORED, KEY, LABEL, UNKNOWN_LABELS, UNLABELLED
from digitrec.ingest.rejects import (
    BAD_KEY,
    BLANK_LINE,
    COLUMN_COUNT,
    EMPTY_KEY,
    GOOD,
    LABEL_OUT_OF_RANGE,
    LINE_TOO_LONG,
    NOT_A_NUMBER,
    NOT_A_WHOLE_NUMBER,
    PIXEL_OUT_OF_RANGE,
    UNEXPECTED_VALUE,
    UNTERMINATED_QUOTE,
)

LINE_MAX_BYTES: Final = 64 * 1024
NUMBER_MAX_BYTES: Final = 32
"""`numpy.savetxt` writes 24 characters a number; what is longer is no pixel."""
DIGITS_MAX: Final = 18
"""So many significant digits fit into 64 bits. Of those behind them it is kept whether any is not 0."""
COMMA, QUOTE, NEWLINE, RETURN, ZERO, SPACE, TAB, POINT = b',"\n\r0 \t.'
UNKNOWN_BYTES: Final = np.array([[len(word), *word.encode().ljust(4)] for word in UNKNOWN_LABELS], np.uint8)
"""A row a word: its length, then its bytes."""

Verdict = tuple[int, int, int, int]


@compiled
def parse_exactly(
    data: np.ndarray, start: int, newline: int, targets: np.ndarray, separator: int, top: int, decimals: int,
    values: np.ndarray, key: np.ndarray,
) -> Verdict:  # fmt: skip
    """Read the line data[start:newline] (uint8) into `values` (uint8 [columns + …]) and `key` (int64 [2], its span).

    `targets` (int16 [columns]) says what each column holds; `top` is the largest pixel in units of 10^-`decimals`, or 0
    for whole numbers up to 255. On a refused row the outputs are undefined.
    """
    stop = newline
    while stop > start and data[stop - 1] == RETURN:
        stop -= 1
    if newline - start > LINE_MAX_BYTES:
        return LINE_TOO_LONG, -1, 0, 0
    if begins_with_bom(data, start, stop):
        start += 3  # files with one were joined
    if is_blank(data, start, stop, separator):
        return BLANK_LINE, -1, 0, 0
    columns = len(targets)
    reason, bad_column, column, bad = GOOD, -1, 0, 0
    end = start - 1
    while end < stop:
        field = skip_blanks(data, end + 1, stop, separator)
        end = field_end(data, field, stop, separator)
        if end < 0:
            return unterminated_quote(column, targets, bad)
        if column < columns:
            value = read_field(data, field, end, targets[column], separator, top, decimals, key)
            if value < 0:
                bad += targets[column] >= LABEL
                if reason == GOOD:
                    reason, bad_column = -value, column
            else:
                values[column] = value
        column += 1
    if column != columns:
        return COLUMN_COUNT, -1, column, bad
    return reason, bad_column, column, bad


@compiled
def begins_with_bom(data: np.ndarray, start: int, stop: int) -> bool:
    return stop - start >= 3 and data[start] == 0xEF and data[start + 1] == 0xBB and data[start + 2] == 0xBF


@compiled
def is_blank(data: np.ndarray, start: int, stop: int, separator: int) -> bool:
    """True for a line of nothing but separators and blanks."""
    for position in range(start, stop):
        byte = data[position]
        if byte != separator and byte != SPACE and byte != TAB:
            return False
    return True


@compiled
def unterminated_quote(column: int, targets: np.ndarray, bad: int) -> Verdict:
    """A key may have lost its rest to a line end inside its quotes."""
    if column >= len(targets):
        return UNTERMINATED_QUOTE, -1, 0, bad
    return BAD_KEY if targets[column] == KEY else UNTERMINATED_QUOTE, column, 0, bad


@compiled
def skip_blanks(data: np.ndarray, position: int, stop: int, separator: int) -> int:
    while position < stop and is_padding(data[position], separator):
        position += 1
    return position


@compiled
def is_padding(byte: int, separator: int) -> bool:
    return byte == SPACE or (byte == TAB and separator != TAB)


@compiled
def field_end(data: np.ndarray, field: int, stop: int, separator: int) -> int:
    """Where the field that begins at `field` ends: at a separator outside quotes or at `stop`; -1: its quote has no
    end."""
    end = field
    if end < stop and data[end] == QUOTE:
        end = closing_quote(data, field, stop) + 1
        if end > stop:
            return -1
    while end < stop and data[end] != separator:
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
def read_field(
    data: np.ndarray, field: int, end: int, target: int, separator: int, top: int, decimals: int, key: np.ndarray
) -> int:
    """The value of a pixel or label, 0 for other columns (a key's span goes to `key`); minus the reason if refused."""
    if target == IGNORED:
        return 0
    while end > field and is_padding(data[end - 1], separator):
        end -= 1
    quoted = field < end and data[field] == QUOTE
    if quoted:
        if closing_quote(data, field, end) != end - 1:
            return -BAD_KEY if target == KEY else -NOT_A_NUMBER
        field, end = field + 1, end - 1
    if target == KEY:
        key[0], key[1] = field, end
        return read_key(data, field, end, quoted)
    field = skip_blanks(data, field, end, separator)
    while end > field and is_padding(data[end - 1], separator):
        end -= 1
    if target == BLANK:
        return 0 if field == end else -UNEXPECTED_VALUE
    if target == UNLABELLED:
        return 0 if says_unknown(data, field, end) else -UNEXPECTED_VALUE
    if target == LABEL:
        value = read_number(data, field, end, separator, 0, 0)
        return -LABEL_OUT_OF_RANGE if value > 9 or value == -PIXEL_OUT_OF_RANGE else value
    return read_number(data, field, end, separator, top, decimals)


@compiled
def says_unknown(data: np.ndarray, field: int, end: int) -> bool:
    """True for one of `UNKNOWN_LABELS`, in any case."""
    for word in range(len(UNKNOWN_BYTES)):
        length = UNKNOWN_BYTES[word, 0]
        same = length == end - field
        for place in range(length if same else 0):
            byte = data[field + place]
            same = same and UNKNOWN_BYTES[word, place + 1] == (byte + 32 if 65 <= byte <= 90 else byte)
        if same:
            return True
    return False


@compiled
def read_number(data: np.ndarray, field: int, end: int, separator: int, top: int, decimals: int) -> int:
    """A pixel from a number in any usual form (`12`, `012`, `12.0`, `1.2e1`), or minus the reason.

    With `top` = 0 it must be a whole number of at most 255. Else it lies between 0 and `top` · 10^-`decimals`, and the
    pixel is 255 times its share of that, rounded half to even. Beside another separator a comma is a decimal point.
    """
    if not 1 <= end - field <= NUMBER_MAX_BYTES:
        return -NOT_A_NUMBER
    mantissa, scale, digits, seen, point, rest = 0, 0, 0, 0, False, False
    position = field
    while position < end:
        byte = data[position]
        digit = int(byte) - ZERO
        if 0 <= digit <= 9:
            seen += 1
            if digits < DIGITS_MAX:
                mantissa = mantissa * 10 + digit
                digits += mantissa > 0
                scale += point
            else:
                rest = rest or digit > 0
                scale -= not point
        elif not point and (byte == POINT or (byte == COMMA and separator != COMMA)):
            point = True
        else:
            break
        position += 1
    if seen == 0:
        return -NOT_A_NUMBER
    if position < end:
        exponent = read_exponent(data, position, end)
        if exponent > 1000:
            return -NOT_A_NUMBER
        scale -= exponent
    if mantissa == 0:
        return 0
    return scaled(mantissa, scale, rest, top, decimals) if top else whole(mantissa, scale, rest)


@compiled
def read_exponent(data: np.ndarray, position: int, end: int) -> int:
    """The exponent `e±n` that is all of data[position:end], or 9999 if it is none."""
    if data[position] | 0x20 != 0x65:
        return 9999
    position += 1
    negative = position < end and data[position] == 0x2D
    if position < end and (negative or data[position] == 0x2B):
        position += 1
    if not 1 <= end - position <= 3:
        return 9999
    value = 0
    while position < end:
        digit = int(data[position]) - ZERO
        if digit < 0 or digit > 9:
            return 9999
        value = value * 10 + digit
        position += 1
    return -value if negative else value


@compiled
def whole(mantissa: int, scale: int, rest: bool) -> int:
    """mantissa · 10^-scale, if it is a whole number of at most 255; else minus the reason."""
    while scale > 0 and mantissa > 0:
        rest = rest or mantissa % 10 > 0
        mantissa //= 10
        scale -= 1
    while scale < 0 and mantissa <= 255:
        mantissa *= 10
        scale += 1
    if mantissa > 255 or (mantissa == 255 and rest):
        return -PIXEL_OUT_OF_RANGE
    return -NOT_A_WHOLE_NUMBER if rest else mantissa


@compiled
def scaled(mantissa: int, scale: int, rest: bool, top: int, decimals: int) -> int:
    """255 · mantissa · 10^-scale as a share of `top` · 10^-`decimals`, rounded half to even; or minus the reason.

    Digits behind `decimals` only break ties: `top` is chosen so that nothing here exceeds 64 bits (`Layout.scale`).
    """
    shift = decimals - scale
    while shift > 0 and mantissa <= top:
        mantissa *= 10
        shift -= 1
    while shift < 0 and mantissa > 0:
        rest = rest or mantissa % 10 > 0
        mantissa //= 10
        shift += 1
    if mantissa > top or (mantissa == top and rest):
        return -PIXEL_OUT_OF_RANGE
    pixel, remainder = mantissa * 255 // top, mantissa * 255 % top
    if 2 * remainder > top or (2 * remainder == top and (rest or pixel % 2 == 1)):
        pixel += 1
    return pixel


@compiled
def read_key(data: np.ndarray, field: int, end: int, quoted: bool) -> int:
    """0 for a key that can be kept, else minus the reason."""
    position = field
    while position < end and (data[position] == SPACE or data[position] == TAB):
        position += 1
    if position == end:
        return -EMPTY_KEY
    return 0 if is_key(data, field, end, quoted) else -BAD_KEY


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
