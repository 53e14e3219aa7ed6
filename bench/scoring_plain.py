"""Scoring with no orchestration at all: a process a core takes partition after partition; then one publication.

python bench/scoring_plain.py STORE DATASET VERSION
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context

from digitrec.scoring.job import prepare, publish_job, tidy
from digitrec.scoring.partition import Done, score_partition

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.engines.choice import choose, processor_flags
from digitrec.options import ScoreOptions
from digitrec.scoring.engine import read_card
from digitrec.scoring.plan import partitions


def main(url: str, dataset: str, version: str) -> None:
    store = Store.at(url)
    model = catalog.model(store, version)
    precision = choose("auto", read_card(store, model), processor_flags()).precision
    job = prepare(store, catalog.dataset(store, dataset), model, ScoreOptions(dataset=dataset), precision)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        outcomes = list(pool.map(score_partition, repeat(job.work), partitions(job.dataset)))
    manifest, _ = publish_job(job, [outcome.receipt for outcome in outcomes if isinstance(outcome, Done)])
    tidy(job, manifest)


if __name__ == "__main__":
    main(*sys.argv[1:])
