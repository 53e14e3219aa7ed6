"""What every stage must agree on: the image, the classes, the columns of each file.

Plain values only; nothing here reads, writes or computes more than a digest.
"""

import hashlib
from typing import Final

import numpy as np
import pyarrow as pa

SIDE: Final = 28
PIXELS: Final = SIDE * SIDE
CLASSES: Final = 10

FORMAT: Final = 3
"""Version of every JSON file in a store. A reader refuses any other one."""

LABEL_COLUMN: Final = "label"
KEY_COLUMN: Final = "id"
KEY_MAX_BYTES: Final = 256

KAGGLE_PIXELS: Final = tuple(f"pixel{i}" for i in range(PIXELS))
GRID_PIXELS: Final = tuple(f"{row}x{column}" for row in range(1, SIDE + 1) for column in range(1, SIDE + 1))
OPENML_PIXELS: Final = tuple(f"pixel{i}" for i in range(1, PIXELS + 1))
OPENML_LABEL_COLUMN: Final = "class"

ROW_GROUP_ROWS: Final = 16 * 1024
SHARD_ROWS: Final = 8 * ROW_GROUP_ROWS

SMALL: Final = 0
LARGE: Final = 1
"""The nets of a cascade, as a prediction names the one that answered."""

UNSURE_BELOW: Final = 0.9
"""A prediction whose confidence lies below this is counted as *unsure*, unless an option says otherwise."""


def shard_schema(*, labelled: bool, keyed: bool) -> pa.Schema:
    """Columns of a dataset's shards, in order; `image` is 784 row-major bytes, 0 = background."""
    fields = [pa.field("image_id", pa.int64(), nullable=False)]
    if keyed:
        fields.append(pa.field("key", pa.string(), nullable=False))
    if labelled:
        fields.append(pa.field("label", pa.uint8(), nullable=False))
    return pa.schema([*fields, pa.field("image", pa.binary(PIXELS), nullable=False)])


REJECTS_SCHEMA: Final = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),
        pa.field("byte_offset", pa.int64(), nullable=False),
        pa.field("column", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("text", pa.string(), nullable=False),
    ]
)
"""One rejected row: the image id it would have had, its source (and member of an archive), physical 1-based line
(header counted), offset of its first byte in the uncompressed text, column and bad value (≤ 40 characters, escaped;
both null where the whole row is meant), and the raw text, escaped, ≤ 200 bytes."""


def predictions_schema(*, keyed: bool, probabilities: bool = False, cascade: bool = False) -> pa.Schema:
    """Columns of a part, in order. `net` says which net of a cascade answered: `SMALL` or `LARGE`."""
    fields = [pa.field("image_id", pa.int64(), nullable=False)]
    if keyed:
        fields.append(pa.field("key", pa.string(), nullable=False))
    fields += [
        pa.field("label", pa.uint8(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("runner_up", pa.uint8(), nullable=False),
        pa.field("runner_up_confidence", pa.float32(), nullable=False),
    ]
    if cascade:
        fields.append(pa.field("net", pa.uint8(), nullable=False))
    if probabilities:
        fields.append(pa.field("probabilities", pa.list_(pa.float32(), CLASSES), nullable=False))
    return pa.schema(fields)


def ids_digest(image_ids: np.ndarray) -> str:
    """Digest of a run of `image_id`s (int64 [n], in order): 16 hex digits of SHA-256 over little-endian bytes."""
    return hashlib.sha256(np.ascontiguousarray(image_ids, dtype="<i8").tobytes()).hexdigest()[:16]


def arrow(values: np.ndarray) -> pa.Array:
    """A contiguous array of numbers as an Arrow column of the same type, without copying.

    NumPy and Arrow meet by their buffers: pyarrow's own conversions import pandas, a quarter of a second a process.
    """
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
