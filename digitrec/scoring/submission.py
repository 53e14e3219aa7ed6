"""`submission.csv`, as Kaggle's *Digit Recognizer* takes it: derived from published parts, never published itself."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from digitrec.errors import storage_errors
from digitrec.store.commit import replacing
from digitrec.store.layout import Store
from digitrec.store.manifest import Manifest
from digitrec.store.reading import open_verified

SUBMISSION = "submission.csv"
HEADER = b"ImageId,Label\n"
LINES = pa_csv.WriteOptions(include_header=False, quoting_style="none")


def write_submission(store: Store, folder: str, manifest: Manifest) -> None:
    """Write it whole and synced, a row group at a time."""
    path = Path(store.full(f"{folder}/{SUBMISSION}"))
    with storage_errors("write"), replacing(path) as temporary, temporary.open("xb") as file:
        file.writelines(submission(store, manifest))


def submission(store: Store, manifest: Manifest) -> Iterator[bytes]:
    """The file's bytes, block by block, from the parts of published predictions."""
    yield HEADER
    for file in manifest.data_files:
        with open_verified(store, file) as part:
            for place in range(part.num_row_groups):
                yield csv_lines(part.read_row_group(place, columns=["image_id", "label"], use_threads=False))


def csv_lines(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(rows, sink, LINES)
    lines: bytes = sink.getvalue().to_pybytes()
    return lines
