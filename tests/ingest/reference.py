"""What a row is worth, in plain Python: the specification that the kernel is held against. Short, not fast."""

import re
from dataclasses import dataclass

from digitrec.contract import PIXELS
from digitrec.ingest.dialect import KEY, LABEL, Layout
from digitrec.ingest.rejects import escaped

FIELD = re.compile(rb'("(?:[^"]|"")*"(?!")[^,]*|(?!")[^,]*)(,|\Z)')
INTEGER = re.compile(rb"[0-9]{1,3}\Z")
LINE_MAX_BYTES = 65_536


@dataclass(frozen=True)
class Row:
    line: int
    key: str | None
    label: int | None
    image: bytes


@dataclass(frozen=True)
class Refusal:
    line: int
    byte_offset: int
    column: str | None
    reason: str
    text: str


class Bad(Exception):
    def __init__(self, reason: str, column: str | None = None, found: int | None = None) -> None:
        self.reason, self.column, self.found = reason, column, found


def read(data: bytes, layout: Layout, *, proves_its_end: bool = False) -> list[Row | Refusal]:
    """The verdict on each data line of a file with a header, in order."""
    verdicts: list[Row | Refusal] = []
    offset = data.find(b"\n") + 1 or len(data)
    lines = data[offset:].split(b"\n")
    tail = lines.pop()
    if proves_its_end and tail:
        lines.append(tail)
        tail = b""
    if not tail and lines and lines[-1] in (b"", b"\r"):
        lines.pop()
    for number, line in enumerate([*lines, *([tail] if tail else [])], start=2):
        whole = number - 2 < len(lines)
        try:
            if not whole and len(line) <= LINE_MAX_BYTES:
                raise Bad("unterminated")
            verdicts.append(read_row(line, layout, number))
        except Bad as bad:
            raw = line if not whole or bad.reason == "line_too_long" else line.removesuffix(b"\r")
            note = f"{bad.found} columns: " if bad.found is not None else ""
            verdicts.append(Refusal(number, offset, bad.column, bad.reason, escaped(raw, note)))
        offset += len(line) + 1
    return verdicts


def read_row(line: bytes, layout: Layout, number: int) -> Row:
    text = line.removesuffix(b"\r")
    if not text:
        raise Bad("blank_line")
    if len(line) > LINE_MAX_BYTES:
        raise Bad("line_too_long")
    fields = split(text, layout)
    if len(fields) != len(layout.names):
        raise Bad("column_count", found=len(fields))
    key, label, image = None, None, bytearray(PIXELS)
    for field, name, target in zip(fields, layout.names, layout.targets, strict=True):
        if target == KEY:
            key = read_key(field, name)
        elif target == LABEL:
            label = read_integer(field, name, 9, "label_out_of_range")
        else:
            image[target] = read_integer(field, name, 255, "pixel_out_of_range")
    return Row(number, key, label, bytes(image))


def split(text: bytes, layout: Layout) -> list[bytes]:
    if b'"' not in text:
        return text.split(b",")
    fields, position, separator = [], 0, b","
    while separator:
        match = FIELD.match(text, position)
        if not match:
            column = len(fields)
            name = layout.names[column] if column < len(layout.names) else None
            is_key = name is not None and layout.targets[column] == KEY
            raise Bad("bad_key" if is_key else "unterminated_quote", name)
        fields.append(match[1])
        separator, position = match[2], match.end()
    return fields


def read_integer(field: bytes, name: str, most: int, too_large: str) -> int:
    if len(field) >= 2 and field[:1] == field[-1:] == b'"':
        field = field[1:-1]
    if not INTEGER.match(field):
        raise Bad("not_an_integer", name)
    if int(field) > most:
        raise Bad(too_large, name)
    return int(field)


def read_key(field: bytes, name: str) -> str:
    if field.startswith(b'"'):
        if not re.fullmatch(rb'"(?:[^"]|"")*"', field):
            raise Bad("bad_key", name)
        field = field[1:-1].replace(b'""', b'"')
    elif b'"' in field:
        raise Bad("bad_key", name)
    if len(field) > 256 or b"\0" in field or b"\r" in field:
        raise Bad("bad_key", name)
    try:
        return field.decode()
    except UnicodeDecodeError:
        raise Bad("bad_key", name) from None
