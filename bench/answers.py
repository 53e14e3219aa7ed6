"""How many predictions are right: the newest submission.csv of a store against a file of answers.

    python bench/answers.py ANSWERS.csv STORE

Both files are in Kaggle's form, `ImageId,Label`. Rows that the model was trained on are told apart: being right there
says nothing about new digits.
"""

import sys

import numpy as np
import pandas as pd

from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.training.answers import ask
from digitrec.training.sealed import open_sealed


def main(answers: str, location: str) -> None:
    store = Store.at(location)
    newest = catalog.published(store, "predictions")[0]
    key = f"{newest.folder}/submission.csv"
    with store.storage.open(key) as submission:
        given = pd.read_csv(submission)
    joined = pd.read_csv(answers).merge(given, on="ImageId", validate="one_to_one", how="outer")
    right = (joined["Label_x"] == joined["Label_y"]).to_numpy()
    seen = joined["ImageId"].isin(seen_ids(store, newest)).to_numpy()
    tell(right[~seen], store.address(key))
    tell(right[seen], f"SEEN: {newest.asked['model']} was trained on these")


def seen_ids(store: Store, predictions: Manifest) -> np.ndarray:
    """The `image_id`s of the rows that the model of these predictions was trained on: int64 [n]."""
    rows = ask(store, catalog.dataset(store, predictions.asked["dataset"]), [])
    return rows.image_ids[open_sealed(store, predictions.asked["model"]).has_seen(rows.digests)]


def tell(right: np.ndarray, what: str) -> None:
    if len(right):
        sys.stdout.write(f"{right.sum():,} of {len(right):,} right ({right.mean():.2%}): {what}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
