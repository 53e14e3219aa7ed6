"""Sources, one after the other, through the kernel: good rows to the shards, the others to the rejects."""

import re
import string
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from digitrec.contract import PIXELS
from digitrec.errors import BadData
from digitrec.ingest.csv import END_OF_FILE, Block, SourceFile
from digitrec.ingest.dialect import KEY, LABEL, Layout, few, fold, split_line, unquote
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
    RejectsFile,
    check_early,
    escaped,
)
from digitrec.ingest.shards import ShardWriter, StagedShard
from digitrec.options import ReadOptions
from digitrec.progress import Progress, Step
from digitrec.shown import printable
from digitrec.store.commit import sync_file
from digitrec.store.manifest import Json, Source

REJECTS: Final = "rejects.parquet"
DARKEST_WHITE: Final = 16
"""Images in which nothing is brighter were not scaled to 0…255."""
MANY_FIELDS: Final = 32
"""So many fields make a table of images; with fewer, a line is a remark, or damaged."""
KEYS_COUNTED: Final = 10_000_000
"""Doubled keys are counted exactly among so many rows (some 300 MB); beyond them the count is a lower bound."""

CUT_SHORT: Final = (
    "the file is cut short: its last line is incomplete and has no line end; nothing was published, get the whole file"
)
HOLE: Final = bytes(64)

_LETTERS: Final = string.ascii_letters.encode()
_NAME = re.compile(r"[a-z_].*\d+|\d+[x×]\d+")


@dataclass(frozen=True)
class Span:
    """Which rows came from where: image ids `first_id` to `last_id` (rejected rows included), of a source or of a
    member of it; an empty one has `last_id` = `first_id` - 1."""

    source: str
    member: str | None
    first_id: int
    last_id: int


class Intake:
    """What has been taken in so far. `rows` counts data rows over all sources, rejected ones too; an image's id is its
    number among them.

    `total`: bytes of all sources; `plain`: none is packed, so that no more rows than those bytes hold can follow.
    """

    def __init__(
        self, folder: str | Path, options: ReadOptions, threads: int, progress: Progress, total: int, *, plain: bool
    ) -> None:
        self.folder = Path(folder)
        self.options = options
        self.rows = 0
        self.layout: Layout | None = None
        self.rejects = RejectsFile(self.folder / REJECTS)
        self.shards: ShardWriter | None = None
        self.skipped: Counter[str] = Counter()
        self._bytes = 0
        self._spans: list[Span] = []
        self._notes: list[str] = []
        self._keys: list[pa.Array] = []
        self._keys_counted = 0
        self._lit = self._bright = False
        self._threads, self._progress, self._total, self._plain = threads, progress, total, plain
        self._started = time.monotonic()

    def __enter__(self) -> "Intake":
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def take(self, source: SourceFile, readings: Sequence[Reading], notes: Sequence[str] = ()) -> Source:
        """Read what is to be read of one source to its end. Raises `BadData`, `TryAgain` or `StorageFailed`: then
        nothing counts."""
        self._notes += [f"{printable(source.name)}: {note}" for note in notes]
        for reading in readings:
            first = self.rows + 1
            self._agree(source, reading)
            _TextIntake(self, source, reading).take()
            self._spans.append(Span(source.name, reading.text.member, first, self.rows))
        sha256 = source.finish()
        self._bytes += source.bytes
        return Source(source.name, source.bytes, sha256)

    def close(self) -> list[StagedShard]:
        """Finish and sync everything staged; return the shards. Raises `BadData` for images that were not scaled."""
        if self._lit and not self._bright and self.options.pixel_max is None:
            raise BadData(
                f"no pixel is above {DARKEST_WHITE}: these images are not scaled to 0…255; --pixel-max M says "
                "which value is white (1, 16, …); nothing was published"
            )
        self.rejects.close()
        sync_file(self.folder / REJECTS)
        return self.shards.close() if self.shards else []

    def facts(self) -> dict[str, Json]:
        """What readers of the dataset need to know."""
        assert self.layout
        doubled, notes = self._doubled_keys()
        words = {"blank_lines": "blank lines", "repeated_headers": "repeated headers"}
        skipped = [f"skipped {count:,} {words[what]}" for what, count in sorted(self.skipped.items())]
        empty = [] if self.rows else ["the sources have a header and no rows: the dataset is empty"]
        return {
            "labelled": self.layout.labelled,
            "keyed": self.layout.keyed,
            "rejects": dict(sorted(self.rejects.counts.items())),
            "skipped": dict(sorted(self.skipped.items())),
            "doubled_keys": doubled,
            "spans": [asdict(span) for span in self._spans],
            "notes": [*dict.fromkeys(self._notes), *skipped, *notes, *empty],
        }

    def abandon(self) -> None:
        """Stop whatever works in the background, and close what is open; the folder will be removed."""
        if self.shards:
            self.shards.abandon()
        self.rejects.abandon()

    def note(self, text: str) -> None:
        self._notes.append(text)

    def took(self, rows: Rows, good: int, keys: list[str]) -> None:
        """The first `good` of the rows that the shards had room for were filled."""
        assert self.shards
        if good and not self._bright:
            brightest = int(rows.images[:good].max())
            self._lit, self._bright = self._lit or brightest > 0, brightest > DARKEST_WHITE
        if keys and self._keys_counted < KEYS_COUNTED:
            self._keys.append(pa.array(keys, pa.string()))
            self._keys_counted += len(keys)
        self.shards.took(good, keys)

    def check(self, source: SourceFile, unparsed: int) -> None:
        """Raise `BadData` as soon as nothing that may follow could bring the rejects back into the budget, or if they
        are too many to be kept. `unparsed`: bytes that were read and not yet looked at."""
        ahead = self._total - self._bytes - source.position + unparsed
        # At the end the budget is looked at when everything is counted; what is packed may hold any number of rows.
        left = ahead + LINE_MAX_BYTES if self._plain and ahead else float("inf")
        check_early(self.rejects, self.rows, left, self.options.max_rejects)

    def report(self, source: SourceFile) -> None:
        """Say how far this is."""
        done = self._bytes + source.position
        rate = done / 1e6 / max(time.monotonic() - self._started, 1e-9)
        facts = {"rows": f"{self.rows:,}", "MB/s": f"{rate:,.0f}", "rejects": f"{self.rejects.total:,}"}
        self._progress(Step("ingest", done, self._total, "bytes", facts))

    def _agree(self, source: SourceFile, reading: Reading) -> None:
        """All sources have the same optional columns. Raises `BadData`, naming both."""
        layout, name = reading.opening.layout, printable(reading.name(source))
        if self.layout is None:
            self._first_name, self.layout = name, layout
            self.shards = ShardWriter(self.folder, labelled=layout.labelled, keyed=layout.keyed, threads=self._threads)
        if layout.optional != self.layout.optional:
            raise BadData(
                f"{name} has {layout.optional}, {self._first_name} has {self.layout.optional}; all sources of a "
                "dataset need the same: --label none and --key none leave these columns out"
            )

    def _doubled_keys(self) -> tuple[int, list[str]]:
        """How many rows have a key that another row has before them, and a note on it: without the keys, which are
        people's data, as notes go to Prefect."""
        if not self._keys:
            return 0, []
        import pyarrow.compute as pc

        keys = pa.chunked_array(self._keys)
        counted = pc.value_counts(keys)
        repeated = pc.sum(pc.greater(counted.field("counts"), 1)).as_py()
        doubled = len(keys) - len(counted)
        if not doubled:
            return 0, []
        least = "at least " if len(keys) >= KEYS_COUNTED else ""
        return doubled, [
            f"{least}{doubled:,} rows have a row key that a row before them has ({repeated:,} keys repeat)"
        ]


class _TextIntake:
    """One text on its way into the intake: where it is, line by line."""

    def __init__(self, intake: Intake, source: SourceFile, reading: Reading) -> None:
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
        """The bad field of a rejected row, without blanks and quotes, escaped."""
        raw = raw.removeprefix(BOM)
        fields = split_line(raw, self.layout.separator)
        field = (
            unquote(fields[column])
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
