"""Header dialects: which column of a file is which pixel, which is the label, which the key."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from digitrec.contract import (
    GRID_PIXELS,
    KAGGLE_PIXELS,
    KEY_COLUMN,
    LABEL_COLUMN,
    OPENML_LABEL_COLUMN,
    OPENML_PIXELS,
    PIXELS,
)
from digitrec.errors import BadData

LABEL = -1
KEY = -2
"""Targets of columns that are no pixel."""


@dataclass(frozen=True)
class Layout:
    """The columns of one file: their names, and what each holds (a pixel 0…783, `LABEL` or `KEY`), in file order."""

    names: tuple[str, ...]
    targets: tuple[int, ...]

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
        names = [KEY_COLUMN] * self.keyed + [LABEL_COLUMN] * self.labelled
        return " and ".join(names) or "neither label nor id"


DIALECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (LABEL_COLUMN, KAGGLE_PIXELS),
    (LABEL_COLUMN, GRID_PIXELS),
    (OPENML_LABEL_COLUMN, OPENML_PIXELS),
)


def layout_from_header(line: bytes, where: str) -> Layout:
    """The layout that a header line (no BOM, no line end) names. Raises `BadData`, listing what differs."""
    try:
        return layout_from_line(line)
    except UnicodeDecodeError as error:
        raise BadData(f"{where}: the header is not UTF-8 text; expected label,pixel0,…,pixel783") from error
    except ValueError as error:
        raise BadData(f"{where}: {error}") from error


def layout_without_header(columns: int, where: str) -> Layout:
    """The layout of a file without a header, by the number of columns of its first line. Raises `BadData`."""
    if columns not in {PIXELS, PIXELS + 1}:
        raise BadData(f"{where}: the first line has {columns} columns; expected {PIXELS}, or {PIXELS + 1} with a label")
    return layout_from_names((LABEL_COLUMN, *KAGGLE_PIXELS)[-columns:])


@lru_cache(maxsize=64)
def layout_from_line(line: bytes) -> Layout:
    return layout_from_names(split_header(line.decode()))


def split_header(line: str) -> tuple[str, ...]:
    """Names between commas, in quotes or not. Names with commas or quotes in them are in no dialect."""
    return tuple(unquoted(name) for name in line.split(","))


def unquoted(name: str) -> str:
    return name[1:-1] if len(name) >= 2 and name[0] == name[-1] == '"' else name


def layout_from_names(names: tuple[str, ...]) -> Layout:
    """Raises `ValueError`, listing what is missing, unknown or there twice compared with the nearest dialect."""
    label, pixels = min(DIALECTS, key=lambda dialect: len(set(dialect[1]) - set(names)))
    targets = {name: index for index, name in enumerate(pixels)} | {label: LABEL, KEY_COLUMN: KEY}
    problems = differences(names, pixels, targets)
    if problems:
        raise ValueError(f"the header is not {label},{pixels[0]},…,{pixels[-1]}: {problems}; without one, --no-header")
    return Layout(names, tuple(targets[name] for name in names))


def differences(names: Sequence[str], pixels: Sequence[str], known: Iterable[str]) -> str:
    counts, known = Counter(names), frozenset(known)
    found = {
        "missing": [name for name in pixels if name not in counts],
        "unknown": [name for name in counts if name not in known],
        "there twice": [name for name, count in counts.items() if count > 1],
    }
    return ", ".join(f"{what} {few(some)}" for what, some in found.items() if some)


def few(names: Sequence[str]) -> str:
    """At most five names, each cut to 40 characters."""
    shown = " ".join(repr(name[:40]) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
