"""What a file is worth, in plain Python: the specification that ingest is held against. Short, not fast.

It is told what the columns are (`Spec`, by whoever made the file), splits lines and reads numbers in its own way, and
shares neither code nor layout with what it judges; only the names of the reasons.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

LINE_MAX_BYTES = 65_536
UNKNOWN = {b"", b"?", b"nan", b"na", b"n/a", b"none", b"null"}
NUMBER = re.compile(rb"(?P<whole>[0-9]*)(?:[.,](?P<part>[0-9]*))?(?:[eE](?P<exponent>[+-]?[0-9]{1,3}))?")


@dataclass(frozen=True)
class Spec:
    """The columns of a file in order: "key", "label", "ignored", "blank", or the number of a pixel."""

    names: tuple[str, ...]
    roles: tuple[str | int, ...]
    separator: bytes = b","
    pixel_max: Fraction | None = None


@dataclass(frozen=True)
class Row:
    image_id: int
    key: str | None
    label: int | None
    image: bytes


@dataclass(frozen=True)
class Refusal:
    image_id: int
    line: int
    byte_offset: int
    column: str | None
    reason: str


@dataclass(frozen=True)
class Outcome:
    """Verdicts in order, blank lines, and repeated headers; or `cut_short`, if the whole file is refused."""

    verdicts: tuple[Row | Refusal, ...] = ()
    blank_lines: int = 0
    repeated_headers: int = 0
    cut_short: bool = False


class Bad(Exception):
    def __init__(self, reason: str, column: str | None = None) -> None:
        self.reason, self.column = reason, column


class Open(Exception):
    """A quote that is still open at the end of its line, in the field of this number."""

    def __init__(self, field: int) -> None:
        self.field = field


def read(data: bytes, spec: Spec) -> Outcome:
    """The verdict on each row behind the header, which is the first line that is not blank."""
    spec = Spec(tuple(name.strip() for name in spec.names), spec.roles, spec.separator, spec.pixel_max)
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    tail = lines.pop()
    whole = len(lines)
    if tail.strip(b" \t\r\x1a"):
        lines.append(tail)
    header = next(number for number, line in enumerate(lines) if not is_blank(line, b" \t,;"))
    offset = sum(len(line) + 1 for line in lines[: header + 1]) + 3 * data.startswith(b"\xef\xbb\xbf")
    rows = lines[header + 1 :]
    spec = fitted(spec, [line for line in rows if not is_blank(line, b" \t" + spec.separator)])
    spec = with_blanks(spec, [line.rstrip(b"\r") for line in rows])
    labelled = "label" in spec.roles and not first_label_is_unknown(rows, spec)
    verdicts: list[Row | Refusal] = []
    blank, repeated = header, 0
    for number, line in enumerate(rows, start=header + 1):
        text = line.rstrip(b"\r").removeprefix(b"\xef\xbb\xbf")
        if len(line) <= LINE_MAX_BYTES and is_blank(text, b" \t" + spec.separator):
            blank += 1
        elif says(text, spec) == [name.strip().casefold().encode() for name in spec.names if name != "added"]:
            repeated += 1
        else:
            image_id = len(verdicts) + 1
            try:
                verdicts.append(read_row(line, text, spec, labelled, image_id))
            except Bad as bad:
                column = "" if bad.column == "added" else bad.column
                verdicts.append(Refusal(image_id, number + 1, offset, column, bad.reason))
                if bad.reason in {"column_count", "line_too_long"} and are_joined(line, spec):
                    return Outcome(cut_short=True)
            if number == whole and was_cut(text, spec, labelled, verdicts[-1]):
                return Outcome(cut_short=True)
        offset += len(line) + 1
    return Outcome(tuple(verdicts), blank, repeated)


def is_blank(line: bytes, of: bytes) -> bool:
    return not line.rstrip(b"\r").removeprefix(b"\xef\xbb\xbf").strip(of)


def says(text: bytes, spec: Spec) -> list[bytes]:
    """A line's fields as names, if it may be a header."""
    if len(text) > LINE_MAX_BYTES:
        return []
    try:
        return [content(field, spec)[0].strip().decode().casefold().encode() for field in split(text, spec)]
    except (Open, Bad, UnicodeDecodeError):
        return []


def fitted(spec: Spec, rows: list[bytes]) -> Spec:
    """One empty field behind each row is an empty column; an own name before each row, a column that is left out; an
    empty name behind the header alone, no column."""
    found = []
    for line in rows:
        try:
            if len(line) <= LINE_MAX_BYTES and says(line.rstrip(b"\r"), spec) != [
                n.casefold().encode() for n in spec.names
            ]:
                found.append(split(line.rstrip(b"\r"), spec))
        except Open:
            continue
    found = found[:100]
    if not spec.names[-1] and {len(fields) for fields in found} == {len(spec.names) - 1}:
        return Spec(spec.names[:-1], spec.roles[:-1], spec.separator, spec.pixel_max)
    if {len(fields) for fields in found} != {len(spec.names) + 1}:
        return spec
    first, last = ([content_or_raw(fields[place], spec) for fields in found] for place in (0, -1))
    if not any(last):
        return Spec((*spec.names, "added"), (*spec.roles, "blank"), spec.separator, spec.pixel_max)
    numbers = all(re.fullmatch(rb"[0-9]+", name) for name in first)
    steps = numbers and [int(name) - place for place, name in enumerate(first)] == [int(first[0])] * len(first)
    words = not any(re.fullmatch(rb"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?", name) for name in first)
    if len(first) > 1 and len(set(first)) == len(first) and (steps or words):
        return Spec(("added", *spec.names), ("ignored", *spec.roles), spec.separator, spec.pixel_max)
    return spec


def are_joined(line: bytes, spec: Spec) -> bool:
    """Several rows in one line, where a line end between two files is missing."""
    found, columns = line.rstrip(b"\r")[:LINE_MAX_BYTES].count(spec.separator) + 1, len(spec.roles)
    return found > columns and ((found - 1) % (columns - 1) == 0 or found % columns == 0)


def with_blanks(spec: Spec, rows: list[bytes]) -> Spec:
    """A column without a name is an index, unless the first whole row has nothing there: then nothing may be there."""
    for line in rows:
        if is_blank(line, b" \t" + spec.separator) or says(line, spec) == [n.casefold().encode() for n in spec.names]:
            continue
        try:
            fields = split(line, spec)
        except Open:
            continue
        if len(fields) == len(spec.names) and len(line) <= LINE_MAX_BYTES:
            empty = [not content_or_raw(field, spec) for field in fields]
            places = zip(spec.roles, spec.names, empty, strict=True)
            roles = tuple("blank" if role == "ignored" and not name and no else role for role, name, no in places)
            return Spec(spec.names, roles, spec.separator, spec.pixel_max)
    return spec


def content_or_raw(field: bytes, spec: Spec) -> bytes:
    field = field.strip(b" \t\r")
    if len(field) > 1 and field[:1] == field[-1:] == b'"':
        return field[1:-1].replace(b'""', b'"').strip(b" \t\r")
    return field


def first_label_is_unknown(rows: list[bytes], spec: Spec) -> bool:
    for line in rows:
        text = line.rstrip(b"\r")
        if not is_blank(line, b" \t" + spec.separator) and len(line) <= LINE_MAX_BYTES:
            if says(text, spec) == [name.strip().casefold().encode() for name in spec.names if name != "added"]:
                continue
            try:
                fields = split(text, spec)
            except Open:
                continue
            place = spec.roles.index("label")
            return place < len(fields) and content_or_raw(fields[place], spec).lower() in UNKNOWN
    return False


def was_cut(text: bytes, spec: Spec, labelled: bool, verdict: Row | Refusal) -> bool:
    """A last line without line end must have all its columns, and a last one that cannot have been longer."""
    if isinstance(verdict, Refusal) and verdict.reason == "line_too_long":
        return True
    try:
        fields = split(text, spec)
    except Open:
        return True
    if isinstance(verdict, Refusal):
        if verdict.reason == "column_count":
            return len(fields) < len(spec.roles)
        told = spec.roles[-1] in range(784) or (spec.roles[-1] == "label" and labelled)
        empty = told and not content_or_raw(fields[-1], spec)
        return empty or (verdict.reason == "not_a_number" and verdict.column == spec.names[-1])
    return spec.roles[-1] == "key"


def read_row(line: bytes, text: bytes, spec: Spec, labelled: bool, image_id: int) -> Row:
    if len(line) > LINE_MAX_BYTES:
        raise Bad("line_too_long")
    try:
        fields = split(text, spec)
    except Open as quote:
        if quote.field >= len(spec.roles):
            raise Bad("unterminated_quote") from None
        key = spec.roles[quote.field] == "key"
        raise Bad("bad_key" if key else "unterminated_quote", spec.names[quote.field]) from None
    if len(fields) != len(spec.roles):
        raise Bad("column_count")
    key, label, image = None, None, bytearray(784)
    for field, name, role in zip(fields, spec.names, spec.roles, strict=True):
        if role == "key":
            key = read_key(field, name, spec)
        elif role == "label" and labelled:
            label = read_label(field, name, spec)
        elif role == "blank" or role == "label":
            if number_text(field, name, spec).lower() not in (UNKNOWN if role == "label" else {b""}):
                raise Bad("unexpected_value", name)
        elif isinstance(role, int):
            image[role] = read_pixel(field, name, spec)
    return Row(image_id, key, label, bytes(image))


def padding(spec: Spec) -> bytes:
    return b" " if spec.separator == b"\t" else b" \t"


def split(text: bytes, spec: Spec) -> list[bytes]:
    """The fields as they stand there. A quote counts as one only where a field begins."""
    fields, rest = [], text
    while True:
        if rest.lstrip(padding(spec)).startswith(b'"'):
            before = len(rest) - len(rest.lstrip(padding(spec)))
            match = re.match(rb'"(?:[^"]|"")*"(?!")', rest[before:])
            if not match:
                raise Open(len(fields))
            end = rest.find(spec.separator, before + match.end())
        else:
            end = rest.find(spec.separator)
        if end < 0:
            return [*fields, rest]
        fields.append(rest[:end])
        rest = rest[end + 1 :]


def content(field: bytes, spec: Spec) -> tuple[bytes, bool]:
    """What is inside the quotes, and whether there are any. Raises `Bad` for more behind them."""
    field = field.strip(padding(spec))
    if not field.startswith(b'"'):
        return field, False
    if not re.fullmatch(rb'"(?:[^"]|"")*"', field):
        raise Bad("")
    return field[1:-1], True


def number_text(field: bytes, name: str, spec: Spec) -> bytes:
    try:
        return content(field, spec)[0].strip(padding(spec))
    except Bad:
        raise Bad("not_a_number", name) from None


def read_number(field: bytes, name: str, spec: Spec) -> Fraction:
    text = number_text(field, name, spec)
    match = NUMBER.fullmatch(text)
    if not match or len(text) > 32 or (spec.separator == b"," and b"," in text):
        raise Bad("not_a_number", name)
    whole, part = match["whole"] or b"", match["part"] or b""
    if not whole + part:
        raise Bad("not_a_number", name)
    return Fraction(int(whole + part)) / 10 ** len(part) * Fraction(10) ** int(match["exponent"] or 0)


def read_label(field: bytes, name: str, spec: Spec) -> int:
    value = read_number(field, name, spec)
    if value > 9 and (value >= 255 or value.denominator == 1):
        raise Bad("label_out_of_range", name)
    if value.denominator != 1:
        raise Bad("not_a_whole_number", name)
    return int(value)


def read_pixel(field: bytes, name: str, spec: Spec) -> int:
    value = read_number(field, name, spec)
    if value > (spec.pixel_max or 255):
        raise Bad("pixel_out_of_range", name)
    if spec.pixel_max:
        return round(value * 255 / spec.pixel_max)
    if value.denominator != 1:
        raise Bad("not_a_whole_number", name)
    return int(value)


def read_key(field: bytes, name: str, spec: Spec) -> str:
    try:
        key, quoted = content(field, spec)
    except Bad:
        raise Bad("bad_key", name) from None
    if not key.strip(b" \t"):
        raise Bad("empty_key", name)
    key = key.replace(b'""', b'"') if quoted else key
    if len(key) > 256 or b"\0" in key or b"\r" in key or (b'"' in key and not quoted):
        raise Bad("bad_key", name)
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise Bad("bad_key", name) from None
