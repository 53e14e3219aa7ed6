"""Scoring with no orchestration at all: a process a core takes partition after partition; then one publication.

python bench/scoring_plain.py STORE DATASET VERSION
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.engines.choice import choose, processor_flags
from digitrec.options import ScoreOptions
from digitrec.scoring.compute import score_partition
from digitrec.scoring.counts import Counts
from digitrec.scoring.engine import read_card
from digitrec.scoring.plan import plan_dataset
from digitrec.scoring.publication import publish_predictions, tidy
from digitrec.scoring.receipts import Receipt
from digitrec.scoring.request import Request, Task


def main(url: str, dataset: str, version: str) -> None:
    store = Store.at(url)
    model = catalog.model(store, version)
    precision = choose("auto", read_card(store, model), processor_flags()).precision
    manifest, options = catalog.dataset(store, dataset), ScoreOptions(dataset=dataset)
    plan = plan_dataset(manifest, Request.of(store, manifest, model, options, precision))
    tasks = [Task(plan.request, partition) for partition in plan.partitions]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        receipts = [outcome for outcome in pool.map(score_partition, tasks) if isinstance(outcome, Receipt)]
    counts = sum((receipt.counts for receipt in receipts), Counts())
    tidy(plan, publish_predictions(plan, [receipt.file for receipt in receipts], counts).manifest)


if __name__ == "__main__":
    main(*sys.argv[1:])
