"""The three outcomes that a file may have, each looked at to the end: read right, refused whole, or rows rejected."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from digitrec.catalog.manifest import read_manifest
from digitrec.catalog.reader import read_dataset
from digitrec.catalog.store import Store
from digitrec.ingest.run import IngestReport
from digitrec.options import IngestOptions
from tests.places import full

from .files import KAGGLE, UNLABELLED, digits, labelled_rows, table

PLAIN = IngestOptions()
ANY = IngestOptions(max_rejects=1)
"""Whatever is rejected: what must be refused then is refused whatever the budget."""
ROWS = 40
"""So many rows allow three rejects without a word on the budget."""
PLAIN_CSV = table(UNLABELLED, (row[1:] for row in labelled_rows()))
LABELLED_CSV = table(KAGGLE, labelled_rows())


def published(store: Store) -> list[Path]:
    base = Path(store.url)
    return [*base.glob("datasets/*"), *base.glob("_staging/*")]


def rejects(store: Store, report: IngestReport) -> list[dict[str, object]]:
    manifest = read_manifest(store, report.folder)
    path = full(store, manifest.key(manifest.file("rejects.parquet")))
    rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return rows


def check_read(
    store: Store,
    report: IngestReport,
    *,
    labels: bool = False,
    keys: Iterable[str] | None = None,
    without: Iterable[int] = (),
    times: int = 1,
) -> None:
    """The dataset holds the first `ROWS` digits (`times` over), but for the rows `without` (by image id): each with its
    own pixels, label, key and number."""
    frame = read_dataset(full(store, report.folder))
    left_out = set(without)
    ids = [number for number in range(1, ROWS * times + 1) if number not in left_out]
    places = [(number - 1) % ROWS for number in ids]
    assert frame["image_id"].tolist() == ids
    assert (frame[list(UNLABELLED)].to_numpy() == digits()[0][places]).all()
    assert (report.labelled, report.keyed) == (labels, keys is not None)
    assert frame["label"].tolist() == digits()[1][places].tolist() if labels else "label" not in frame
    assert frame["key"].tolist() == list(keys) if keys is not None else "key" not in frame
    assert report.rejects == len(rejects(store, report)) == len(left_out)
    assert [reject["image_id"] for reject in rejects(store, report)] == sorted(left_out)


def said(report: IngestReport) -> str:
    """What a person is told, in one string."""
    return "\n".join(report.notes)


def with_field(
    field: bytes, column: int = 1, *, row: int = 6, separator: bytes = b",", data: bytes = LABELLED_CSV
) -> bytes:
    """A file whose row `row` (1-based) has `field` in `column`."""
    lines = data.split(b"\n")
    fields = lines[row].split(separator)
    fields[column] = field
    lines[row] = separator.join(fields)
    return b"\n".join(lines)


def with_line(line: bytes, at: int = 6, data: bytes = PLAIN_CSV) -> bytes:
    """A file with one more line, before its line `at` (0 is the header)."""
    lines = data.split(b"\n")
    lines.insert(at, line)
    return b"\n".join(lines)


def one_reject(store: Store, report: IngestReport) -> tuple[object, object, object, object]:
    """Line, column, reason and value of the only reject."""
    (reject,) = rejects(store, report)
    return reject["line"], reject["column"], reject["reason"], reject["value"]


def images_of(store: Store, report: IngestReport) -> np.ndarray:
    images: np.ndarray = read_dataset(full(store, report.folder))[list(UNLABELLED)].to_numpy()
    return images
