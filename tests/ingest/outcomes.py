"""One bad field among good rows, and what ingest left of it."""

from pathlib import Path

import pyarrow.parquet as pq

from digitrec.ingest.run import IngestReport
from digitrec.options import IngestOptions
from digitrec.store.layout import Store
from digitrec.store.manifest import read_manifest

from .files import KAGGLE, lines_of, row_of

PLAIN = IngestOptions()


def published(store: Store) -> list[Path]:
    base = Path(store.url)
    return [*base.glob("datasets/*"), *base.glob("_staging/*")]


def rejects(store: Store, report: IngestReport) -> list[dict[str, object]]:
    manifest = read_manifest(store, report.folder)
    (path,) = [file.path for file in manifest.files if "rejects" in file.path]
    rows: list[dict[str, object]] = pq.read_table(store.full(path)).to_pylist()
    return rows


def with_field(field: bytes, column: int = 1, names: tuple[str, ...] = KAGGLE) -> bytes:
    """Three rows, of which the second has `field` in `column`."""
    header, first, _, third = lines_of(names, 3)
    fields = row_of(names, 1)
    fields[column] = field
    return b"\n".join([header, first, b",".join(fields), third, b""])


def one_reject(store: Store, report: IngestReport) -> tuple[object, object, object]:
    (reject,) = rejects(store, report)
    assert report.rows == 2
    return reject["line"], reject["column"], reject["reason"]
