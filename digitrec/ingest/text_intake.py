"""One text on its way into the intake: line by line, with what shows that a file is not whole, or several joined."""

import re
import string
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from digitrec.contract import PIXELS
from digitrec.errors import BadData
from digitrec.ingest.csv import END_OF_FILE, Block, SourceFile
from digitrec.ingest.dialect import KEY, LABEL, few, fold, split_line, unquote
from digitrec.ingest.fields import LINE_MAX_BYTES
from digitrec.ingest.header import BOM, COUNTED, SEP_LINE, guess_separator
from digitrec.ingest.members import Reading
from digitrec.ingest.pixels import Parsed, Rows, parse_block
from digitrec.ingest.rejects import (
    COLUMN_COUNT,
    LINE_TOO_LONG,
    NOT_A_NUMBER,
    REASONS,
    UNTERMINATED_QUOTE,
    VALUE_MAX,
    Reject,
    escaped,
)
from digitrec.shown import printable

if TYPE_CHECKING:
    from digitrec.ingest.intake import Intake

CUT_SHORT: Final = (
    "the file is cut short: its last line is incomplete and has no line end; nothing was published, get the whole file"
)
HOLE: Final = bytes(64)

MANY_FIELDS: Final = 32
"""So many fields make a table of images; with fewer, a line is a remark, or damaged."""
_LETTERS: Final = string.ascii_letters.encode()
_NAME = re.compile(r"[a-z_].*\d+|\d+[x×]\d+")


class TextIntake:
    """One text on its way into the intake: where it is, line by line."""

    def __init__(self, intake: "Intake", source: SourceFile, reading: Reading) -> None:
        self.intake, self.source, self.reading = intake, source, reading
        self.layout = reading.opening.layout
        self.lines = reading.opening.lines
        self.name = printable(reading.name(source))

    def take(self) -> None:
        """Read it to its end."""
        if before := self.reading.opening.blank:
            self.intake.skipped["blank_lines"] += before
        for block in self.source.blocks(self.reading.text, self.reading.opening.offset):
            if block.too_long and block.unterminated:
                raise BadData(f"{self.name}:{self.lines}: {CUT_SHORT}")
            if block.too_long:
                self._reject_long(block)
            else:
                self._take_block(block)
            self.intake.check(self.source, 0)
            self.intake.report(self.source)

    def _take_block(self, block: Block) -> None:
        start, intake = block.start, self.intake
        assert intake.shards
        while start < block.stop:
            rows = intake.shards.room()
            parsed = parse_block(block.data, start, block.stop, self.layout, rows, intake.rows + 1)
            self._refuse_hidden_header(rows, parsed.good)
            intake.took(rows, parsed.good, keys_of(block, rows, parsed.good) if self.layout.keyed else [])
            header = parsed.stopped and self._repeats_header(block, parsed.refused[-1])
            refused = parsed.refused[:-1] if header else parsed.refused
            if block.unterminated and not header:
                self._check_whole(block, parsed)
            intake.rejects.extend(self._rejects(block, refused))
            intake.skipped.update({"blank_lines": n} if (n := parsed.lines - parsed.rows) else {})
            intake.skipped.update({"repeated_headers": 1} if header else {})
            intake.rows += parsed.rows - header
            self.lines += parsed.lines
            start = parsed.position
            if len(parsed.refused):
                intake.check(self.source, block.stop - start)

    def _reject_long(self, block: Block) -> None:
        self.intake.rows += 1
        self.lines += 1
        raw = block.bytes(block.start, block.stop)
        self._refuse_holes(raw, self.lines)
        self._refuse_other_lines(raw, self.lines)
        text = escaped(raw)
        reason = REASONS[LINE_TOO_LONG]
        reject = Reject(self.intake.rows, self.name, self.lines, block.offset, None, reason, None, text)
        self.intake.rejects.extend([reject])

    def _rejects(self, block: Block, refused: np.ndarray) -> Iterator[Reject]:
        """The rejected rows of a part of a block that follows what was counted so far."""
        for line, row, start, newline, reason, column, found in refused.tolist():
            raw = block.bytes(start, newline).rstrip(b"\r")
            self._refuse_holes(raw, self.lines + 1 + line)
            if reason in {COLUMN_COUNT, LINE_TOO_LONG}:
                self._refuse_other_lines(raw, self.lines + 1 + line)
            note = f"{found} columns: " if reason == COLUMN_COUNT else ""
            yield Reject(
                image_id=self.intake.rows + 1 + row,
                source=self.name,
                line=self.lines + 1 + line,
                byte_offset=block.offset + start - block.start,
                column=(self.layout.names[column] or f"number {column + 1}") if column >= 0 else None,
                reason=REASONS[reason],
                value=self._value(raw, column) if column >= 0 else None,
                text=escaped(raw, note),
            )

    def _value(self, raw: bytes, column: int) -> str:
        """The bad field of a rejected row, without blanks and quotes, escaped; a CR is what may be wrong with it."""
        raw = raw.removeprefix(BOM)
        fields = split_line(raw, self.layout.separator)
        field = (
            unquote(fields[column], " \t")
            if fields
            else raw.split(self.layout.separator.encode(), column)[-1].decode("utf-8", "backslashreplace")
        )
        return printable(field, VALUE_MAX)

    def _repeats_header(self, block: Block, refused: np.ndarray) -> bool:
        """True for a line that is the header once more, or what stands around one where files were joined: Excel's
        `sep=`, an end of file. Raises `BadData` for another header: all that follows would be misread."""
        start, newline = int(refused[2]), int(refused[3])
        raw = block.bytes(start, newline).rstrip(b"\r")
        if raw.removeprefix(BOM) == END_OF_FILE or SEP_LINE.fullmatch(raw.removeprefix(BOM)):
            return True
        if not self._may_be_header(raw):
            return False
        names = self._names_in(raw, self.layout.separator)
        if tuple(names) == self.reading.opening.header:
            return True
        self._refuse_header(names, self.lines + 1 + int(refused[0]))
        return False

    def _names_in(self, raw: bytes, separator: str) -> list[str]:
        fields = split_line(raw.removeprefix(BOM), separator) or []
        return [fold(unquote(field)) for field in fields]

    def _refuse_header(self, names: list[str], line: int) -> None:
        """Raise `BadData` for names of pixels: each another, most of them numbered."""
        numbers = {int(match[1]) for name in names if (match := COUNTED.fullmatch(name))}
        if 2 * len({name for name in names if _NAME.fullmatch(name)}) > len(names) or numbers.issuperset(range(2, 784)):
            raise BadData(
                f"{self.name}:{line}: another header than the first one ({few(names[:3])} …): files of several layouts "
                "were joined; nothing was published, ingest each by itself"
            )

    def _refuse_holes(self, raw: bytes, line: int) -> None:
        """Raise `BadData` for a run of NUL bytes: room that was reserved and never written, where rows should be."""
        if HOLE in raw[:LINE_MAX_BYTES]:
            raise BadData(
                f"{self.name}:{line}: a run of NUL bytes: the file was not written or fetched to its end; nothing was "
                "published, get it again"
            )

    def _refuse_other_lines(self, raw: bytes, line: int) -> None:
        """Raise `BadData` for a line that shows that files were joined, so that more than this row is lost: several
        rows in one line, one of another separator, or the header of another table."""
        raw = raw[:LINE_MAX_BYTES]  # of a longer line there may be no more, depending on where blocks end
        separator, columns = self.layout.separator, len(self.layout.targets)
        if sum(piece.count(separator.encode()) == columns - 1 for piece in raw.split(b"\r")) > 1:
            raise BadData(
                f"{self.name}:{line}: several rows in one line, with CR between them: convert all line ends to LF or "
                "CRLF; nothing was published"
            )
        fields = raw.count(separator.encode()) + 1
        if fields > columns and ((fields - 1) % (columns - 1) == 0 or fields % columns == 0):
            raise BadData(
                f"{self.name}:{line}: {fields:,} columns where {columns:,} are expected: several rows in one line "
                "(files joined without a line end between them), or decimal commas between commas; nothing was "
                "published"
            )
        other = guess_separator(raw)
        fields = sum(bool(field.strip()) for field in raw.split(other.encode()))
        if other != separator and fields > MANY_FIELDS > raw.count(separator.encode()):
            raise BadData(
                f"{self.name}:{line}: separated by {other!r}, and the lines before it by {separator!r}: files of "
                "several layouts were joined; nothing was published, ingest each by itself"
            )
        names = self._names_in(raw, separator) if self._may_be_header(raw) else []
        if len(names) > MANY_FIELDS:
            self._refuse_header(names, line)

    def _refuse_hidden_header(self, rows: Rows, good: int) -> None:
        """Raise `BadData` for a header of numbers (0, 1, … 783) that was read as a row, which is possible only where
        pixels may be as large as that."""
        most = self.layout.pixel_max or 0
        if most < PIXELS - 1:
            return
        for first in (0, 1):
            header = np.rint((np.arange(PIXELS) + first) * 255 / most).astype(np.uint8)
            if found := np.flatnonzero((rows.images[:good] == header).all(axis=1)).tolist():
                raise BadData(
                    f"{self.name}: row {rows.ids[found[0]]} is a header of numbers, which may be pixels with "
                    f"--pixel-max {most:g}: remove it; nothing was published"
                )

    def _may_be_header(self, raw: bytes) -> bool:
        """True unless it is clear without splitting the line that it holds no names."""
        letters = len(raw) - len(raw.translate(None, _LETTERS))
        return 2 * letters > min(raw.count(self.layout.separator.encode()), len(self.layout.targets)) or (
            b"500" in raw and b"782" in raw
        )

    def _check_whole(self, block: Block, parsed: Parsed) -> None:
        """Look at a last line without line end: it counts if it has all its columns. Raises `BadData` if the file was
        cut short in the middle of it, or may have been."""
        if not parsed.rows:
            return
        raw = block.bytes(block.start, block.stop - 1).rstrip(b"\r")
        line = f"{self.name}:{self.lines + 1}"
        columns = len(self.layout.targets)
        if len(parsed.refused):
            reason, column, found = parsed.refused[0, 4:].tolist()
            torn = reason == UNTERMINATED_QUOTE or (reason == COLUMN_COUNT and found < columns)
            fields = split_line(raw, self.layout.separator)
            torn = torn or (column == columns - 1 and reason == NOT_A_NUMBER) or fields is None
            last = unquote((fields or [b""])[-1])
            torn = torn or (reason != COLUMN_COUNT and self.layout.targets[-1] >= LABEL and not last)
            if torn:
                what = f"{found} of {columns} columns" if reason == COLUMN_COUNT else "an incomplete last column"
                raise BadData(f"{line}: {CUT_SHORT} ({what})")
        if len(parsed.refused):
            return
        if self.layout.targets[-1] == KEY and not self.intake.options.allow_unterminated:
            raise BadData(
                f"{line}: the last line has no line end, and its row key may be cut short; get the whole file, or take "
                "it as it is with --allow-unterminated"
            )
        if not self.reading.text.plain:
            return
        name = printable(self.source.name)
        self.intake.note(f"{name}: the last line has no line end; it has all its columns and counts")


def keys_of(block: Block, rows: Rows, n: int) -> list[str]:
    """The first n keys, decoded; a quote inside quotes stands there twice."""
    return [block.bytes(first, end).decode().replace('""', '"') for first, end in rows.keys[:n].tolist()]
