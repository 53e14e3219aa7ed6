"""How a source begins: its separator, its header or the lack of one, and what its first rows say of its columns.

Everything here looks at a copy of the first lines, so that nothing depends on how the source is read later.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from digitrec.contract import PIXELS
from digitrec.errors import BadData
from digitrec.ingest.dialect import (
    BLANK,
    IGNORED,
    LABEL,
    UNKNOWN_LABELS,
    UNLABELLED,
    Layout,
    few,
    fold,
    layout_from_names,
    layout_without_header,
    size_hint,
    split_line,
    unquote,
)
from digitrec.ingest.fields import LINE_MAX_BYTES, NUMBER_MAX_BYTES
from digitrec.ingest.formats import foreign_format
from digitrec.options import ReadOptions
from digitrec.shown import printable

BOM: Final = b"\xef\xbb\xbf"
EXPECTED: Final = "expected CSV with a header such as label,pixel0,…,pixel783 (the label may be missing)"
JUDGED_ROWS: Final = 100
HEAD_LINES: Final = JUDGED_ROWS + 50
"""Rows that tell whether there is an index column, and room before them for a header, blank lines and the like."""

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
COUNTED = re.compile(r"(\d{1,6})(?:\.0)?", re.ASCII)
"""A name that is a number, as pandas writes those that nobody gave."""
SEP_LINE = re.compile(rb'"?sep=(.)"?\1*', re.IGNORECASE)
"""As Excel wants it; what saves such a file as a table fills the line up with separators."""


@dataclass(frozen=True)
class Head:
    """The first lines of a source's text (at most `HEAD_LINES`); `whole`: there is no more."""

    data: bytes
    whole: bool


@dataclass(frozen=True)
class Opening:
    """What a source's beginning says: its columns, where its data begins (bytes, lines before), the names of its
    header, folded, as they stand there (none without a header), and what to tell; `blank` lines stand before it."""

    layout: Layout
    offset: int
    lines: int
    blank: int = 0
    header: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_opening(head: Head, where: str, options: ReadOptions) -> Opening:
    """Decide how a source is read. Raises `BadData` for what is no CSV of digits, saying what it looks like and what to
    do; `where` names the source."""
    try:
        return _read_opening(head, options)
    except BadData as error:
        raise BadData(f"{where}: {error}", details=error.details) from error.__cause__


@dataclass(frozen=True)
class _Line:
    """A line without its end; `end` is the offset of the next one."""

    text: bytes
    end: int


def _read_opening(head: Head, options: ReadOptions) -> Opening:
    _refuse_other_formats(head)
    lines = list(_lines_of(head))
    place, index, separator = 0, list[str](), ""
    while place < len(lines) and not lines[place].text.strip(b" \t,;"):
        place += 1
    blank = place
    if place < len(lines) and (match := SEP_LINE.fullmatch(lines[place].text)):
        separator, place = match[1].decode("latin-1"), place + 1
    if place == len(lines):
        raise BadData(f"the file is empty; {EXPECTED}")
    first = lines[place].text
    separator = separator or guess_separator(first)
    if separator not in _SEPARATORS:
        raise BadData(f"its columns are separated by {separator!r}: convert them to commas; {EXPECTED}")
    names = _split_first(first, separator)
    header = () if options.no_header else tuple(map(fold, names))
    numbers = _are_numbers(names)
    if options.no_header:
        layout = _without_header(names, numbers, options)
    elif numbers:
        raise BadData(_no_header_remedy(names))
    else:
        _refuse_titles(names, lines[place + 1 : place + 2])
        names[0] = names[0].lstrip("# ")  # numpy.savetxt comments its header out
        place += 1
    rows = _first_rows(lines[place:], separator, b"" if options.no_header else first)
    if not options.no_header:
        names, index = _fit_to_rows(names, rows)
        layout = layout_from_names(names, options)
        layout = replace(layout, targets=_with_blanks(layout, [row for row in rows if len(row) == len(names)]))
    layout = replace(layout, separator=separator, pixel_max=options.pixel_max)
    layout, unlabelled = _without_empty_label(layout, rows[:1])
    if options.no_header:
        _check_label(layout, rows)
    named = replace(layout, names=layout.names[len(index) :], targets=layout.targets[len(index) :])
    notes = [*index, *_layout_notes(named, options), *unlabelled, *_separator_notes(separator, rows)]
    offset = lines[place - 1].end if place else len(BOM) * head.data.startswith(BOM)
    layout, header = _shared(layout, header)
    return Opening(layout, offset, place, blank, header, tuple(notes))


@lru_cache(maxsize=64)
def _shared(layout: Layout, header: tuple[str, ...]) -> tuple[Layout, tuple[str, ...]]:
    """The same objects for equal columns: an archive may have thousands of members of one layout."""
    return layout, header


def _refuse_other_formats(head: Head) -> None:
    """Raise `BadData` for bytes that are no text in UTF-8 with LF or CRLF line ends."""
    data = head.data.removeprefix(BOM)
    if looks := foreign_format(data):
        raise BadData(f"this is {looks}; {EXPECTED}")
    line, newline, _ = data.partition(b"\n")
    if b"\r" in line.rstrip(b"\r"):
        raise BadData(
            f"the first line has {len(line):,} bytes{'' if newline else ' or more'} and CR line ends in it: "
            f"convert them to LF or CRLF; {EXPECTED}"
        )
    if len(line) > LINE_MAX_BYTES:
        raise BadData(f"the first line has more than {LINE_MAX_BYTES:,} bytes; {EXPECTED}, with LF or CRLF line ends")


def _lines_of(head: Head) -> Iterator[_Line]:
    """The whole lines of a head; of a source that ends in it, the last one too."""
    start = len(BOM) * head.data.startswith(BOM)
    while (newline := head.data.find(b"\n", start)) >= 0:
        yield _Line(head.data[start:newline].rstrip(b"\r"), newline + 1)
        start = newline + 1
    if head.whole and head.data[start:]:
        yield _Line(head.data[start:].rstrip(b"\r"), len(head.data))


def guess_separator(line: bytes) -> str:
    """Semicolons and tabs, unless there are more commas than decimal points could be; else commas."""
    counts = {sign: line.count(sign.encode()) for sign in ",;\t| "}
    for sign in (";", "\t"):
        if counts[sign] and counts[","] <= counts[sign] + 1:
            return sign
    if counts[","]:
        return ","
    if counts["|"]:
        return "|"
    return " " if counts[" "] > PIXELS // 4 else ","


def _split_first(line: bytes, separator: str) -> list[str]:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise BadData(
            f"the first line is not UTF-8 text (byte {error.start + 1}): save it as UTF-8; {EXPECTED}"
        ) from error
    fields = split_line(line, separator)
    if fields is None:
        raise BadData(f"the first line has a quote that is never closed; {EXPECTED}")
    return [unquote(field) for field in fields]


def _refuse_titles(names: Sequence[str], following: Sequence[_Line]) -> None:
    """Raise `BadData` for a first line that is no row of names: a title above them, or one in quotes as a whole."""
    if len(names) == 1 and names[0].count(",") >= PIXELS - 1:
        raise BadData("each line stands in quotes as a whole: the file was quoted twice; take the outer quotes away")
    below = max((len(split_line(line.text, guess_separator(line.text)) or []) for line in following), default=0)
    if 2 * len(names) < PIXELS <= below:
        raise BadData(
            f"the first line names {len(names)} columns ({few(names[:3])}), and the next has {below}: if it is a "
            f"title, remove it; {EXPECTED}"
        )


def _are_numbers(names: Sequence[str]) -> bool:
    """True for a line of data: mostly numbers, and not the numbers of the pixels."""
    numbers = sum(bool(_NUMBER.fullmatch(name)) for name in names)
    if 2 * numbers <= len(names):
        return False
    whole = {int(match[1]) for name in names if (match := COUNTED.fullmatch(name))}
    return not whole.issuperset(range(1, PIXELS))


def _no_header_remedy(names: Sequence[str]) -> str:
    width = len(names) - (names[-1] == "")
    if _made_unique(names):
        return (
            "the header is made of numbers (5, 0, 0.1, 0.2, …): a file without a header was read as if it had one and "
            "saved again, and its first row is lost; go back to the original and read it with --no-header"
        )
    if width == PIXELS + 1:
        return "there is no header: --no-header with --label first or --label last reads it (one of 785 is the label)"
    if width == PIXELS:
        return "there is no header: --no-header reads it"
    if hint := size_hint(width):
        return f"there is no header, and the first line has {width} columns{hint}; {EXPECTED}"
    return f"there is no header, and the first line has {width} columns: write a header line before it; {EXPECTED}"


def _made_unique(names: Sequence[str]) -> bool:
    """True for what pandas makes of a row that it takes for a header: `0`, `0.1`, `0.2`, … for doubled zeros."""
    suffixes = {int(name.partition(".")[2]) for name in names if re.fullmatch(r"0\.\d{1,6}", name, re.ASCII)}
    return len(suffixes) > PIXELS // 4 and suffixes.issuperset(range(1, len(suffixes)))


def _without_header(names: Sequence[str], numbers: bool, options: ReadOptions) -> Layout:
    """The layout by the number of columns. Raises `BadData` if the first line holds names."""
    if not numbers or _made_unique(names):
        why = "it looks like a header" if not numbers else _no_header_remedy(names)
        raise BadData(
            f"the first line begins with {few(names[:3])}: {why}; --no-header is for files whose first line is data"
        )
    if options.key not in {None, "none"} or options.ignore:
        raise BadData("--key and --ignore name columns of a header, and --no-header says that there is none")
    trailing = names[-1] == "" and len(names) > PIXELS
    layout = layout_without_header(len(names) - trailing, options)
    return replace(layout, names=(*layout.names, ""), targets=(*layout.targets, BLANK)) if trailing else layout


def _first_rows(lines: Sequence[_Line], separator: str, header: bytes) -> list[list[bytes]]:
    """The fields of the first data rows that can be split."""
    blank = b" \t" + separator.encode()
    rows = [
        split_line(line.text, separator)
        for line in lines
        if line.text.strip(blank) and line.text != header and len(line.text) <= LINE_MAX_BYTES
    ]
    return [row for row in rows[:JUDGED_ROWS] if row is not None]


def _fit_to_rows(names: list[str], rows: Sequence[list[bytes]]) -> tuple[list[str], list[str]]:
    """Names for the columns that rows have and the header has not, and a note: row names without a heading (R), or an
    empty column at the end of each line; and no name for one that only the header has."""
    widths = {len(row) for row in rows}
    if widths == {len(names) + 1} and all(not unquote(row[-1]) for row in rows):
        return [*names, ""], []
    if widths == {len(names) + 1} and _count_up([unquote(row[0]) for row in rows]):
        return ["", *names], ["left out an index: each row has one field more than the header, the first one"]
    if names[-1] == "" and widths == {len(names) - 1}:
        return names[:-1], []
    return names, []


def _count_up(values: Sequence[str]) -> bool:
    """True for the names of rows: each another. Numbers must also go up one by one, or mostly be no pixels in more rows
    than may be damaged: a few could have another label or corner each."""
    if len(values) < 2 or len(set(values)) < len(values) or max(map(len, values)) > NUMBER_MAX_BYTES:
        return False
    if not all(value.isascii() and value.isdigit() for value in values):
        return not any(_NUMBER.fullmatch(value) for value in values)
    numbers = [int(value) for value in values]
    if len(numbers) >= 10 and 2 * sum(number > 255 for number in numbers) > len(numbers):
        return True
    return all(after - before == 1 for before, after in itertools.pairwise(numbers))


def _with_blanks(layout: Layout, whole: Sequence[list[bytes]]) -> tuple[int, ...]:
    """Columns without a name that hold nothing in the first whole row hold nothing at all; the others are an index."""
    row = whole[0] if whole else []
    return tuple(
        BLANK if not name and target == IGNORED and not (column < len(row) and unquote(row[column])) else target
        for column, (name, target) in enumerate(zip(layout.names, layout.targets, strict=True))
    )


def _without_empty_label(layout: Layout, first: Sequence[list[bytes]]) -> tuple[Layout, list[str]]:
    """A source whose first row has no label is unlabelled, and a note that says so."""
    column = layout.targets.index(LABEL) if layout.labelled else -1
    if not first or column < 0 or column >= len(first[0]) or fold(unquote(first[0][column])) not in UNKNOWN_LABELS:
        return layout, []
    targets = tuple(UNLABELLED if target == LABEL else target for target in layout.targets)
    found = unquote(first[0][column])
    what = f"holds {printable(found, 40)!r}" if found else "is empty"
    note = f"the label column {printable(layout.names[column], 40)!r} {what} in the first row: read as unlabelled"
    return replace(layout, targets=targets), [note]


def _check_label(layout: Layout, rows: Sequence[list[bytes]]) -> None:
    """Raise `BadData` if the column taken for the label looks like a pixel, and that at the other end like labels."""
    if not layout.labelled:
        return
    last = layout.targets.index(LABEL) > 0
    width = len(layout.targets) - (layout.targets[-1] == BLANK)
    whole = [row for row in rows if len(row) == len(layout.targets)]
    ends = [{unquote(row[0]) for row in whole}, {unquote(row[width - 1]) for row in whole}]
    taken, other = ends[last], ends[not last]
    digits = {str(digit) for digit in range(10)}
    if (len(taken) == 1 or not taken <= digits) and len(other) > 1 and other <= digits:
        here, there = ("last", "first") if last else ("first", "last")
        raise BadData(
            f"the {here} column looks like a pixel ({few(sorted(taken))}) and the {there} one like labels "
            f"({few(sorted(other))}): --label {there}"
        )


def _layout_notes(layout: Layout, options: ReadOptions) -> list[str]:
    asked = {fold(name) for entry in options.ignore for name in entry.split(",")}
    columns = zip(layout.names, layout.targets, strict=True)
    left_out = [name for name, target in columns if target == IGNORED and fold(name) not in asked]
    index = [name for name in left_out if fold(name) in {"", "index"} or fold(name).startswith("unnamed:")]
    others = [name for name in left_out if name not in index]
    return [
        *([f"left out an index column: {few(index)}"] if index else []),
        *([f"left out: {few(others)}"] if others else []),
        *(["pixels in an unusual order, taken by the numbers in their names"] if layout.reordered else []),
    ]


def _separator_notes(separator: str, rows: Sequence[list[bytes]]) -> list[str]:
    if separator == ",":
        return []
    commas = any(b"," in field for row in rows for field in row)
    return [f"separated by {_SEPARATORS[separator]}" + (", with decimal commas" if commas else "")]
