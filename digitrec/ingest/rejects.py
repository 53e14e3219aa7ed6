"""Rows that were refused: why, where, and how they are kept and shown."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.contract import REJECTS_SCHEMA
from digitrec.errors import BadData, storage_errors

TEXT_MAX_BYTES = 200
FREE_REJECTS = 3
SHOWN = 10
BATCH_ROWS = 8192

GOOD = 0
BLANK_LINE = 1
LINE_TOO_LONG = 2
COLUMN_COUNT = 3
NOT_AN_INTEGER = 4
PIXEL_OUT_OF_RANGE = 5
LABEL_OUT_OF_RANGE = 6
BAD_KEY = 7
UNTERMINATED_QUOTE = 8
UNTERMINATED = 9
REASONS = (
    "good",
    "blank_line",
    "line_too_long",
    "column_count",
    "not_an_integer",
    "pixel_out_of_range",
    "label_out_of_range",
    "bad_key",
    "unterminated_quote",
    "unterminated",
)
"""Names of the kernel's verdicts, by number."""


@dataclass(frozen=True)
class Reject:
    """One refused row, with the fields of `REJECTS_SCHEMA`."""

    source: str
    line: int
    byte_offset: int
    column: str | None
    reason: str
    text: str

    def __str__(self) -> str:
        column = f", {self.column}" if self.column else ""
        return f"{self.source}:{self.line}{column}: {self.reason}: {self.text[:60]}"


def escaped(raw: bytes, note: str = "") -> str:
    """Raw bytes as text for people: control characters and what is not UTF-8 escaped; with `note` before it, at most
    200 bytes."""
    text = raw[:TEXT_MAX_BYTES].decode("utf-8", "backslashreplace")
    safe = "".join(character if character.isprintable() else escape(character) for character in text)
    return (note + safe).encode()[:TEXT_MAX_BYTES].decode("utf-8", "ignore")


def escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


class RejectsFile:
    """Collects rejects into a Parquet file, a batch at a time, so that memory does not grow with their number."""

    def __init__(self, path: str | Path) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[Reject] = []
        self._batch: list[Reject] = []
        with storage_errors("write"):
            self._writer = pq.ParquetWriter(
                path, REJECTS_SCHEMA, compression="zstd", compression_level=1, write_page_checksum=True
            )

    @property
    def total(self) -> int:
        return self.counts.total()

    def extend(self, rejects: Iterable[Reject]) -> None:
        for reject in rejects:
            self.counts[reject.reason] += 1
            if len(self.first) < SHOWN:
                self.first.append(reject)
            self._batch.append(reject)
            if len(self._batch) >= BATCH_ROWS:
                self._flush()

    def close(self) -> None:
        if self._batch:
            self._flush()
        with storage_errors("write"):
            self._writer.close()

    def abandon(self) -> None:
        """Close the file whatever it holds; it will be removed."""
        with suppress(OSError):
            self._writer.close()

    def _flush(self) -> None:
        columns = zip(*map(astuple, self._batch), strict=True)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, REJECTS_SCHEMA, strict=True)]
        with storage_errors("write"):
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=REJECTS_SCHEMA))
        self._batch.clear()


def check_budget(rejects: RejectsFile, rows: int, max_rejects: float) -> None:
    """Raise `BadData`, showing the first ten, if more than max(3, share × rows) were refused, or no row is left."""
    allowed = max(FREE_REJECTS, int(max_rejects * rows))
    if rejects.total <= allowed and (rejects.total < rows or not rows):
        return
    what = f"all {rows:,} rows" if rejects.total == rows else f"{rejects.total:,} of {rows:,} rows"
    limit = f"{allowed:,} may be (--max-rejects {max_rejects:g})" if rejects.total > allowed else "no row is left"
    shown = "".join(f"\n  {reject}" for reject in rejects.first)
    raise BadData(f"{what} were refused, {limit}; nothing was published. The first ones:{shown}")
