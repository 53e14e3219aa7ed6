"""Header dialects: which column of a file is which pixel, which is the label, which the key, and what is left out.

Names are compared trimmed and without regard to case. Everything is decided from the names and the options alone; what
depends on rows too (an index column without a name, an empty label column) is in `header`.
"""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from math import floor, log10

from digitrec.contract import PIXELS, SIDE
from digitrec.errors import BadData
from digitrec.options import ReadOptions
from digitrec.shown import printable

LABEL = -1
KEY = -2
UNLABELLED = -3
IGNORED = -4
BLANK = -5
"""Targets of columns that are no pixel: the label; the row key; a label column without labels; left out; empty."""

LABEL_NAMES = ("label", "class", "target", "y", "digit")
KEY_NAMES = ("id", "imageid", "image_id", "key", "filename")
UNKNOWN_LABELS = ("", "?", "nan", "na", "n/a", "none", "null")
"""What stands in a label column that knows no labels; of at most four characters, in lower case."""

EXPECTED_PIXELS = f"expected {PIXELS} pixel columns numbered from 0 or 1 (or 1x1 … {SIDE}x{SIDE}), a label or none"
NAMED = 10
"""A message spells out so many columns to leave out."""

_NUMBERED = re.compile(r"(.*?)(\d{1,6})")
_DECIMAL = re.compile(r"\d+\.0")
_GRID = re.compile(r"(.*?)(\d{1,2})[x×](\d{1,2})")
_INDEX = re.compile(r"|index|unnamed: ?\d+(\.\d+)*")
_BLANKS = " \t\r"
_QUOTE, _QUOTE_BESIDE_TABS = re.compile(rb'[ \t]*(?=")'), re.compile(rb' *(?=")')
_QUOTED = re.compile(rb'"(?:[^"]|"")*"(?!")')
_SIZES = {side * side: f"{side}×{side} images" for side in range(4, 129)} | {
    3 * side * side: f"{side}×{side} images in colour" for side in (28, 32)
}


@dataclass(frozen=True)
class Layout:
    """The columns of one file: their names, and what each holds (a pixel 0…783, or a target above), in file order.

    `pixel_max`: the value of full white, where pixels may be decimals; None: whole numbers up to 255.
    """

    names: tuple[str, ...]
    targets: tuple[int, ...]
    separator: str = ","
    pixel_max: float | None = None

    @property
    def labelled(self) -> bool:
        return LABEL in self.targets

    @property
    def keyed(self) -> bool:
        return KEY in self.targets

    @property
    def reordered(self) -> bool:
        """True if the pixels do not stand in row-major order."""
        pixels = [target for target in self.targets if target >= 0]
        return pixels != sorted(pixels)

    @property
    def optional(self) -> str:
        """The columns in which the sources of one dataset must agree, for people."""
        return " and ".join(["row keys"] * self.keyed + ["labels"] * self.labelled) or "neither labels nor row keys"

    @cached_property
    def scale(self) -> tuple[int, int]:
        """`pixel_max` as (top, decimals), in units of 10^-decimals; (0, 0) without one.

        As many decimals as let 510 · top stay within 63 bits, which is what `fields.scaled` computes with.
        """
        if self.pixel_max is None:
            return 0, 0
        most = Decimal(repr(self.pixel_max))
        decimals = floor(log10(2**63 / 510) - log10(most))
        return int(most.scaleb(decimals)), decimals


def layout_without_header(columns: int, options: ReadOptions) -> Layout:
    """The layout of a file without a header, by the number of columns of its first line. Raises `BadData`."""
    if columns == PIXELS + 1 and options.label in {"first", "last"}:
        pixels = tuple(range(PIXELS))
        targets = (LABEL, *pixels) if options.label == "first" else (*pixels, LABEL)
    elif columns == PIXELS and options.label in {None, "none"}:
        targets = tuple(range(PIXELS))
    else:
        raise BadData(_why_not(columns, options))
    return Layout(tuple("label" if target == LABEL else f"pixel{target}" for target in targets), targets)


def _why_not(columns: int, options: ReadOptions) -> str:
    if columns == PIXELS + 1:
        return f"the first line has {columns} columns: say which one is the label, --label first or --label last"
    if columns == PIXELS:
        return f"the first line has {columns} columns, all of them pixels: there is none for --label {options.label}"
    return f"the first line has {columns} columns{size_hint(columns)}; without a header there must be {PIXELS}, or " + (
        f"{PIXELS + 1} with --label first or --label last"
    )


def layout_from_names(names: Sequence[str], options: ReadOptions) -> Layout:
    """Give each column its part. Raises `BadData`, naming what is missing, unknown, there twice or in competition.

    Columns without a name are left to `header`, which has seen rows; here they are an index.
    """
    return _layout_of(tuple(names), options)


@lru_cache(maxsize=16)
def _layout_of(names: tuple[str, ...], options: ReadOptions) -> Layout:
    """Remembered, because the files of a landing zone have mostly one header, and 785 names take milliseconds."""
    return Layout(names, _Roles(names, options).targets())


class _Roles:
    """The columns of a header, and what has been decided of them so far (`taken`)."""

    def __init__(self, names: Sequence[str], options: ReadOptions) -> None:
        self.names = list(names)
        self.folded = [fold(name) for name in names]
        self.options = options
        self.taken: dict[int, int] = {}
        self.named: set[int] = set()

    def targets(self) -> tuple[int, ...]:
        ignored = {fold(name) for entry in self.options.ignore for name in entry.split(",")}
        self.taken |= {column: IGNORED for column, name in enumerate(self.folded) if name in ignored}
        self.named |= set(self.taken)
        self._choose("label", self.options.label, LABEL_NAMES, LABEL)
        self._choose("key", self.options.key, KEY_NAMES, KEY)
        self.taken |= {column: IGNORED for column in self._free() if _INDEX.fullmatch(self.folded[column])}
        self.taken |= self._pixels()
        return tuple(self.taken[column] for column in range(len(self.names)))

    def _free(self) -> list[int]:
        return [column for column in range(len(self.names)) if column not in self.taken]

    def _choose(self, what: str, asked: str | None, usual: Sequence[str], target: int) -> None:
        """Take the column that an option names, or the only one with a usual name; leave out others of that kind."""
        usually = [column for column in self._free() if self.folded[column] in usual]
        chosen = usually if asked is None else self._asked(what, asked)
        if len(chosen) > 1:
            found = few(self.names[column] for column in chosen)
            same = len({self.folded[column] for column in chosen}) == 1
            todo = "rename one of them" if same else f"say which one with --{what} {self.names[chosen[0]]}"
            raise BadData(f"{len(chosen)} columns may be the {what}: {found}; {todo}")
        if asked is not None and self.named & set(chosen):
            raise BadData(
                f"--{what} {printable(asked, 40)}: another option names that column too; it has one part only"
            )
        self.taken |= dict.fromkeys(usually, IGNORED) | dict.fromkeys(chosen, target)
        if asked is not None:
            self.named |= set(chosen)

    def _asked(self, what: str, asked: str) -> list[int]:
        found = [column for column, name in enumerate(self.folded) if name == fold(asked)]
        if found or fold(asked) == "none":
            return found
        if what == "label" and fold(asked) in {"first", "last"}:
            keys = {fold(self.options.key or ""), *KEY_NAMES}
            ends = [c for c in self._free() if self.folded[c] not in keys and not _INDEX.fullmatch(self.folded[c])]
            return ends[:1] if fold(asked) == "first" else ends[-1:]
        others = [name for name in self.names if name and not _numbered(fold(name))]
        raise BadData(
            f"there is no column {printable(asked, 40)!r} for --{what}; columns that are no pixels: "
            f"{few(others) or 'none'}"
        )

    def _pixels(self) -> dict[int, int]:
        """The pixel of each column that is still free, by the number in its name."""
        places = {column: place for column in self._free() if (place := _grid_place(self.folded[column]))}
        prefixes = Counter(place[0] for place in places.values())
        common = prefixes.most_common(1)[0][0] if prefixes else ""
        grid = {column: place[1:] for column, place in places.items() if place[0] == common}
        if len(grid) > PIXELS // 2:
            first = min(min(place) for place in grid.values())
            inside = {c: at for c, at in grid.items() if max(at) - first < SIDE}
            numbers = {column: (row - first) * SIDE + at - first for column, (row, at) in inside.items()}
            names = [f"{common}{n // SIDE + first}x{n % SIDE + first}" for n in range(PIXELS)]
            return self._checked(numbers, set(grid), names.__getitem__, 0)
        families = Counter(match[0] for column in self._free() if (match := _numbered(self.folded[column])))
        prefix = families.most_common(1)[0][0] if families else "pixel"
        numbers = {
            column: match[1]
            for column in self._free()
            if (match := _numbered(self.folded[column])) and match[0] == prefix
        }
        first = self._first_number(prefix, set(numbers.values()))
        return self._checked(numbers, set(numbers), lambda number: f"{prefix}{number}", first)

    def _first_number(self, prefix: str, found: set[int]) -> int:
        """0 or 1, whichever fits better; any number, where an option takes a column out of the same numbered ones."""
        of_family = any((match := _numbered(self.folded[column])) and match[0] == prefix for column in self.named)
        if of_family and found and found == set(range(min(found), min(found) + PIXELS)):
            return min(found)
        return min((0, 1), key=lambda first: len(set(range(first, first + PIXELS)) - found))

    def _checked(
        self, numbers: dict[int, int], family: set[int], name_of: Callable[[int], str], first: int
    ) -> dict[int, int]:
        """`numbers` from 0 on. `family`: the columns named like pixels. Raises `BadData` unless every pixel is there
        once, and every column is known."""
        counts = Counter(numbers.values())
        wanted = range(first, first + PIXELS)
        missing = [name_of(number) for number in wanted if number not in counts]
        strange = [c for c in self._free() if numbers.get(c) not in wanted]
        twice = [c for c, number in numbers.items() if counts[number] > 1 and number in wanted]
        if missing or strange or twice:
            raise BadData(self._difference(missing, strange, twice, family))
        return {column: number - first for column, number in numbers.items()}

    def _difference(
        self, missing: Sequence[str], strange: Sequence[int], twice: Sequence[int], family: set[int]
    ) -> str:
        surplus = sorted(family & set(strange))
        if not missing and len(surplus) > 1:
            names = f"{self.names[surplus[0]]} … {self.names[surplus[-1]]}"
            return (
                f"there are {len(family):,} pixel columns, {names} too many{size_hint(len(family))}; {EXPECTED_PIXELS}"
            )
        if len(family) == PIXELS + 1 and len(strange) == 1:
            ends = f"{self.names[min(self._free())]} … {self.names[max(self._free())]}"
            return f"{PIXELS + 1} numbered columns, {ends}: one is the label; say --label first or --label last"
        unknown = [self.names[column] for column in strange]
        found = {"missing": missing, "unknown": unknown, "there twice": [self.names[column] for column in twice]}
        told = ", ".join(f"{what} {few(some)}" for what, some in found.items() if some)
        hint = size_hint(len(family)) if missing else ""
        return f"the columns do not fit: {told}{hint}; {self._remedy(missing, unknown)}"

    def _remedy(self, missing: Sequence[str], unknown: Sequence[str]) -> str:
        if len(missing) == len(unknown) == 1:
            return f"is {printable(unknown[0], 40)!r} meant to be {missing[0]!r}? {EXPECTED_PIXELS}"
        if missing or not unknown:
            return EXPECTED_PIXELS
        label, key = (difflib.get_close_matches(fold(unknown[0]), names, 1) for names in (LABEL_NAMES, KEY_NAMES))
        name = printable(unknown[0], 40)
        alike = f"is {name!r} the {'label' if label else 'key'}? " if label or key else ""
        names = ",".join(printable(one, 40) for one in unknown[:NAMED]) + (",…" if len(unknown) > NAMED else "")
        return f"{alike}--label {name} or --key {name} says what it is, --ignore {names!r} leaves it out"


def fold(name: str) -> str:
    return name.strip().casefold()


def _numbered(name: str) -> tuple[str, int] | None:
    """Prefix and number of a name that ends in one; pandas writes `5.0` where the names themselves are decimals."""
    match = _NUMBERED.fullmatch(name.removesuffix(".0") if _DECIMAL.fullmatch(name) else name)
    return (match[1], int(match[2])) if match and not _INDEX.fullmatch(name) else None


def _grid_place(name: str) -> tuple[str, int, int] | None:
    """Prefix, row and column of a name such as `1x28`; R, which wants names to begin with a letter, makes `X1x28` of
    it."""
    match = _GRID.fullmatch(name)
    return (match[1], int(match[2]), int(match[3])) if match else None


def size_hint(pixels: int) -> str:
    """What so many pixels may be, if they are not 28×28."""
    size = _SIZES.get(pixels) or _SIZES.get(pixels - 1) if pixels not in {PIXELS, PIXELS + 1} else None
    return f" ({size}? expected {SIDE}×{SIDE})" if size else ""


def split_line(line: bytes, separator: str) -> list[bytes] | None:
    """The fields of a line as they stand there, quotes and blanks included; None if a quote is never closed."""
    sign, quote = separator.encode(), _QUOTE_BESIDE_TABS if separator == "\t" else _QUOTE
    if b'"' not in line:
        return line.split(sign)
    fields, position = [], 0
    while True:
        start = position
        if begins := quote.match(line, position):
            quoted = _QUOTED.match(line, begins.end())
            if not quoted:
                return None
            start = quoted.end()
        end = line.find(sign, start)
        fields.append(line[position : end if end >= 0 else len(line)])
        if end < 0:
            return fields
        position = end + 1


def unquote(field: bytes, blanks: str = _BLANKS) -> str:
    """What a field says: without blanks and quotes around it; bytes that are not UTF-8 escaped."""
    text = field.decode("utf-8", "backslashreplace").strip(blanks)
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"').strip(blanks)
    return text


def few(names: Iterable[str], total: int | None = None) -> str:
    """At most five names, each cut to 40 characters, for people; `total`: how many there are, if not all are given."""
    every = list(names)
    shown = " ".join(repr(printable(name, 40)) for name in every[:5])
    more = (total or len(every)) - 5
    return shown + (f" and {more:,} more" if more > 0 else "")
