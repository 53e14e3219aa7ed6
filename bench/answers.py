"""How many predictions are right: the newest submission.csv of a store against a file of answers.

    python bench/answers.py ANSWERS.csv STORE

Both files are in Kaggle's form, `ImageId,Label`.
"""

import sys
from pathlib import Path

import pandas as pd

from digitrec.store.catalog import listing
from digitrec.store.layout import Store


def main(answers: str, location: str) -> None:
    store = Store.at(location)
    submission = Path(store.full(listing(store, "predictions")[0].folder)) / "submission.csv"
    joined = pd.read_csv(answers).merge(pd.read_csv(submission), on="ImageId", validate="one_to_one", how="outer")
    right = int((joined["Label_x"] == joined["Label_y"]).sum())
    sys.stdout.write(f"{right:,} of {len(joined):,} right ({right / len(joined):.2%}): {submission}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
