"""Rows that were rejected: why, where, how they are kept and shown, and how many may be."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.contract import PIXELS, REJECTS_SCHEMA
from digitrec.errors import BadData, DigitrecError
from digitrec.shown import printable
from digitrec.storage import StagedFile

TEXT_MAX_BYTES = 200
VALUE_MAX = 40
MAX_REJECTS = 0.005
FREE_REJECTS = 3
"""A small dataset may lose so many rows, but never more than a tenth of them, if no share was asked for."""
STORED_MAX = 100_000
"""What rejects more is no dataset: it is refused before its rejects fill the disk."""
ROW_MIN_BYTES = 2 * PIXELS
"""A row has a digit and a separator (or line end) for each pixel at least."""
SHOWN = 10
BATCH_ROWS = 8192
JUDGED_REJECTS = 2_000
"""The cause that many rows share is looked for among so many."""

GOOD = 0
BLANK_LINE = 1
LINE_TOO_LONG = 2
COLUMN_COUNT = 3
NOT_A_NUMBER = 4
NOT_A_WHOLE_NUMBER = 5
PIXEL_OUT_OF_RANGE = 6
LABEL_OUT_OF_RANGE = 7
BAD_KEY = 8
EMPTY_KEY = 9
UNTERMINATED_QUOTE = 10
UNEXPECTED_VALUE = 11
REASONS = (
    "good",
    "blank_line",
    "line_too_long",
    "column_count",
    "not_a_number",
    "not_a_whole_number",
    "pixel_out_of_range",
    "label_out_of_range",
    "bad_key",
    "empty_key",
    "unterminated_quote",
    "unexpected_value",
)
"""Names of the kernel's verdicts, by number. A blank line is no row: it is skipped and counted, never rejected."""


@dataclass(frozen=True)
class Reject:
    """One rejected row, with the fields of `REJECTS_SCHEMA`."""

    image_id: int
    source: str
    line: int
    byte_offset: int
    column: str | None
    reason: str
    value: str | None
    text: str

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column else ""
        found = f"'{self.value}'" if self.value is not None else self.text[:60]
        return f"{self.source}:{self.line}{column}: {self.reason}: {found}"


def escaped(raw: bytes, note: str = "") -> str:
    """Raw bytes as text for people: control characters and what is not UTF-8 escaped; with `note` before it, at most
    200 bytes."""
    text = raw[:TEXT_MAX_BYTES].decode("utf-8", "backslashreplace")
    return (note + printable(text)).encode()[:TEXT_MAX_BYTES].decode("utf-8", "ignore")


class RejectsFile:
    """Collects rejects into a Parquet file, a batch at a time, so that memory does not grow with their number."""

    def __init__(self, file: StagedFile) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[Reject] = []
        self.judged: list[Reject] = []
        self._batch: list[Reject] = []
        self._file = file
        self._writer = pq.ParquetWriter(
            file, REJECTS_SCHEMA, compression="zstd", compression_level=1, write_page_checksum=True
        )

    @property
    def total(self) -> int:
        return self.counts.total()

    def extend(self, rejects: Iterable[Reject]) -> None:
        for reject in rejects:
            self.counts[reject.reason] += 1
            if len(self.first) < SHOWN:
                self.first.append(reject)
            if len(self.judged) < JUDGED_REJECTS:
                self.judged.append(reject)
            self._batch.append(reject)
            if len(self._batch) >= BATCH_ROWS:
                self._flush()

    def close(self) -> StagedFile:
        """Finish the file, and return it."""
        if self._batch:
            self._flush()
        self._writer.close()
        self._file.close()
        return self._file

    def abandon(self) -> None:
        """Close the file whatever it holds; it will be removed."""
        if not self._file.closed:
            with suppress(DigitrecError):
                self._writer.close()
            self._file.discard()

    def _flush(self) -> None:
        columns = zip(*map(astuple, self._batch), strict=True)
        arrays = [pa.array(list(column), field.type) for column, field in zip(columns, REJECTS_SCHEMA, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=REJECTS_SCHEMA))
        self._batch.clear()


def allowed_rejects(rows: int, share: float | None) -> int:
    """How many of so many rows may be rejected: the share that was asked for, or the usual one with its free rows."""
    if share is not None:
        return math.floor(share * rows + 1e-9)
    return max(min(FREE_REJECTS, rows // 10), math.floor(MAX_REJECTS * rows + 1e-9))


def check_early(rejects: RejectsFile, rows: int, bytes_left: float, share: float | None) -> None:
    """Raise `BadData` if nothing that can follow will bring the rejects back into the budget, or if they are too many
    to be kept. `bytes_left`: of the uncompressed sources, at most."""
    if rejects.total > STORED_MAX:
        limit = f"more than {STORED_MAX:,} are not kept"
    elif rejects.total > (allowed := allowed_rejects(rows + int(min(bytes_left, 2**62)) // ROW_MIN_BYTES, share)):
        limit = f"{allowed:,} may be, even if all that follow were good ({budget_words(share)})"
    else:
        return
    raise _too_many(f"{rejects.total:,} of the first {rows:,} rows were rejected, {limit}", rejects)


def check_budget(rejects: RejectsFile, rows: int, share: float | None) -> None:
    """Raise `BadData`, showing the first ten, if more rows were rejected than may be, or if no row is left."""
    allowed = allowed_rejects(rows, share)
    if rejects.total <= allowed and (rejects.total < rows or not rows):
        return
    what = f"all {rows:,} rows" if rejects.total == rows else f"{rejects.total:,} of {rows:,} rows"
    limit = f"{allowed:,} may be ({budget_words(share)})" if rejects.total > allowed else "no row is left"
    raise _too_many(f"{what} were rejected, {limit}", rejects)


def budget_words(share: float | None) -> str:
    """The rule, as the option says it."""
    if share is not None:
        return f"--max-rejects {share:g}"
    return f"{MAX_REJECTS:.1%}, or {FREE_REJECTS} of at least {10 * FREE_REJECTS} rows; --max-rejects SHARE allows more"


def _too_many(what: str, rejects: RejectsFile) -> BadData:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejects.counts.most_common(3))
    cause = likely_cause(rejects.judged)
    hint = f" Likely cause: {cause}." if cause else ""
    return BadData(
        f"{what} ({reasons}); nothing was published.{hint}", details=("The first ones:", *map(str, rejects.first))
    )


def likely_cause(rejects: Sequence[Reject]) -> str:
    """What most of these rows have in common, and what to do about it; nothing if they have nothing in common."""
    for find in _CAUSES:
        if cause := find(rejects):
            return cause
    return ""


def _share(rejects: Sequence[Reject], fits: Callable[[Reject], bool]) -> list[Reject]:
    """Those that fit, if they are more than half of all."""
    found = [reject for reject in rejects if fits(reject)]
    return found if 2 * len(found) > len(rejects) else []


def _numbers(rejects: Sequence[Reject], reasons: set[str]) -> list[float]:
    """The bad values of pixels, if most rejects are of these reasons and hold numbers."""
    found = _share(rejects, lambda reject: reject.reason in reasons and _is_number(reject.value))
    return [float((reject.value or "").replace(",", ".")) for reject in found]


def _is_number(value: str | None) -> bool:
    return bool(re.fullmatch(r"[+-]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?", value or "", re.IGNORECASE))


def _scaled(rejects: Sequence[Reject]) -> str:
    values = _numbers(rejects, {"not_a_whole_number"})
    if not values:
        return ""
    if max(values) <= 1:
        return "values from 0 to 1; --pixel-max 1 takes them times 255"
    return "decimals; --pixel-max M takes any from 0 to M, so that M is white (--pixel-max 255 rounds)"


def _wide(rejects: Sequence[Reject]) -> str:
    values = _numbers(rejects, {"pixel_out_of_range"})
    if not values:
        return ""
    white = next((white for white in (255, 1023, 4095, 65535) if white >= max(values)), None)
    if white is None or white == 255:
        return "pixels above the largest allowed value; --pixel-max M says which value is white"
    return (
        f"pixels of more than 8 bits (up to {max(values):g}); --pixel-max M says which value is white, perhaps {white}"
    )


def _signed(rejects: Sequence[Reject]) -> str:
    found = _share(rejects, lambda reject: reject.reason == "not_a_number" and (reject.value or "").startswith("-"))
    if not found or not all(_is_number(reject.value) for reject in found):
        return ""
    if column := _one_column(found):
        return f"negative numbers in column {column!r}; {_IF_LABEL}"
    return (
        "negative numbers: pixels saved as signed bytes (-1 for 255)? add 256 to the negative ones, or scale to 0…255"
    )


def _missing(rejects: Sequence[Reject]) -> str:
    blanks = {"", "nan", "na", "null", "none", "inf", "?"}
    found = _share(rejects, lambda reject: reject.reason == "not_a_number" and (reject.value or "").lower() in blanks)
    if column := _one_column(found):
        return f"column {column!r} is blank or NaN there; {_IF_LABEL}"
    return "missing values (blank or NaN): write 0 for background, or mend the export" if found else ""


def _one_column(rejects: Sequence[Reject]) -> str | None:
    """The column that all of them lie in, if there are several and it is no pixel: of those the first bad one is told,
    whatever follows."""
    columns = {reject.column or "" for reject in rejects}
    column = columns.pop() if len(columns) == 1 and len(rejects) > 1 else ""
    return column if column and not column[-1].isdigit() else None


_IF_LABEL = "if that is the label, --label none reads without it"


def _labels(rejects: Sequence[Reject]) -> str:
    found = _share(rejects, lambda reject: reject.reason == "label_out_of_range")
    numbers = [float((reject.value or "").replace(",", ".")) for reject in found if _is_number(reject.value)]
    values = set(filter(math.isfinite, numbers))
    if not values:
        return ""
    if values == {10}:
        return "10 stands for the digit 0 (as in MATLAB and SVHN): write 0"
    if max(values) <= 61:
        return f"labels up to {max(values):g} are letters (EMNIST): keep the rows with labels 0 to 9"
    return "the column taken for the label holds other numbers; --label NAME names it, --label none reads without"


def _unlabelled(rejects: Sequence[Reject]) -> str:
    found = _share(rejects, lambda reject: reject.reason == "unexpected_value")
    return (
        "a column that is empty in the first row holds values later; --label none leaves out a label column"
        if found
        else ""
    )


def _columns(rejects: Sequence[Reject]) -> str:
    found = _share(rejects, lambda reject: reject.reason == "column_count")
    widths = Counter(reject.text.partition(" ")[0] for reject in found)
    width, count = widths.most_common(1)[0] if widths else ("", 0)
    return f"most of them have {width} columns: the header must name every one" if 2 * count > len(rejects) > 1 else ""


def _keys(rejects: Sequence[Reject]) -> str:
    found = _share(rejects, lambda reject: reject.reason in {"empty_key", "bad_key"})
    return "the column of row keys is empty or holds no short text; --key none reads without it" if found else ""


def _words(rejects: Sequence[Reject]) -> str:
    found = _share(rejects, lambda reject: reject.reason == "not_a_number" and not _is_number(reject.value))
    columns = Counter(reject.column for reject in found)
    column, count = columns.most_common(1)[0] if columns else (None, 0)
    if column and len(rejects) > 1 and 2 * count > len(rejects):
        return f"column {column!r} holds text that is no number"
    return ""


_CAUSES = (_scaled, _wide, _signed, _missing, _labels, _unlabelled, _columns, _keys, _words)
