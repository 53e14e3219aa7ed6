"""`submission.csv`, as Kaggle's *Digit Recognizer* takes it: derived from parts, never published itself.

`ImageId` is the user's own id of a row where the dataset has row keys, else the number of the row.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from digitrec.catalog.manifest import Manifest
from digitrec.catalog.reader import open_verified
from digitrec.catalog.store import Store
from digitrec.scoring.compute import ids_of

SUBMISSION = "submission.csv"
HEADER = b"ImageId,Label\n"
LINES = pa_csv.WriteOptions(include_header=False, quoting_style="none")
RANGES_SHOWN = 10


def submission_key(folder: str) -> str:
    return f"{folder}/{SUBMISSION}"


def write_submission(store: Store, manifest: Manifest, proceed: Callable[[], None] = lambda: None) -> None:
    """Derive it from the parts of a manifest, published or about to be, and make it the one of that folder.

    `proceed` is called between row groups, and may raise to stop. Raises `StorageFailed`, `Corrupt`.
    """
    with store.storage.scratch() as scratch:
        with scratch.create(SUBMISSION) as staged:
            for block in submission(store, manifest):
                proceed()
                staged.write(block)
        store.storage.upload(staged.path, submission_key(manifest.folder))


def submission(store: Store, manifest: Manifest) -> Iterator[bytes]:
    """Yield the file's bytes, block by block, from the parts of predictions."""
    keyed = manifest.facts["keyed"]
    columns = ["key" if keyed else "image_id", "label"]
    yield HEADER
    for file in manifest.data_files:
        with open_verified(store, manifest.key(file), file) as part:
            for place in range(part.num_row_groups):
                rows = part.read_row_group(place, columns=columns, use_threads=False)
                yield lines_with_keys(rows) if keyed else csv_lines(rows)


def csv_lines(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(rows, sink, LINES)
    lines: bytes = sink.getvalue().to_pybytes()
    return lines


def lines_with_keys(rows: pa.Table) -> bytes:
    """Lines of keys and labels; a key is quoted where it has to be (RFC 4180). pyarrow's writer quotes all or none."""
    import pyarrow.compute as pc

    ids = rows["key"].combine_chunks()
    special = pc.match_substring_regex(ids, '[",\\r\\n]')
    if pc.any(special).as_py():
        doubled = pc.replace_substring(ids, '"', '""')
        ids = pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), ids)
    labels = rows["label"].combine_chunks().cast(pa.string())
    lines = pc.binary_join_element_wise(ids, pc.binary_join_element_wise(labels, "", "\n"), ",")
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
    text: bytes = data[int(ends[0]) : int(ends[-1])].to_pybytes() if len(lines) else b""
    return text


def notes_on_ids(store: Store, dataset: Manifest, predictions: Manifest) -> tuple[str, ...]:
    """Say what whoever hands `submission.csv` in must know: ids that are missing, keys that repeat."""
    groups = [group for file in predictions.data_files for group in file.row_groups]
    rejects = sum(dataset.facts.get("rejects", {}).values())
    total = max(predictions.rows + rejects, groups[-1].last_id if groups else 0)
    notes = []
    if missing := total - predictions.rows:
        ranges = list(missing_ids(store, predictions, total))
        more = ", …" if sum(last - first + 1 for first, last in ranges) < missing else ""
        named = ", ".join(f"{first:,}" if first == last else f"{first:,} to {last:,}" for first, last in ranges)
        notes.append(
            f"{missing:,} of {total:,} rows were rejected and have no line in {SUBMISSION} (image ids {named}{more}): "
            "Kaggle refuses a file in which ids are missing"
        )
    if doubled := dataset.facts.get("doubled_keys", 0):
        notes.append(f"keys repeat ({doubled:,} rows): {SUBMISSION} has several lines of one ImageId")
    return tuple(notes)


def missing_ids(store: Store, predictions: Manifest, total: int) -> Iterator[tuple[int, int]]:
    """Yield the first `RANGES_SHOWN` runs (first, last) of 1…`total` that are no `image_id`. Ids are read only where a
    row group has a gap inside."""
    found, expected = 0, 1
    for first, last in held_ids(store, predictions):
        if first > expected:
            yield expected, first - 1
            found += 1
        expected = last + 1
        if found == RANGES_SHOWN:
            return
    if expected <= total:
        yield expected, total


def held_ids(store: Store, predictions: Manifest) -> Iterator[tuple[int, int]]:
    """Yield the runs (first, last) of ids that follow one another, in order, each inside one row group."""
    for file in predictions.data_files:
        for place, group in enumerate(file.row_groups):
            if group.last_id - group.first_id + 1 == group.rows:
                yield group.first_id, group.last_id
                continue
            with open_verified(store, predictions.key(file), file) as part:
                ids = ids_of(part.read_row_group(place, columns=["image_id"], use_threads=False))
            for run in np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1):
                yield int(run[0]), int(run[-1])
