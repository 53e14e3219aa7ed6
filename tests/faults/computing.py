"""What workers run in the tests of faults: real partitions and parts, a network without torch so that a worker is back
in a second, and accidents on the way. Which accidents happen is decided by files in the store, so that it is the same
in every process.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

from digitrec.contract import CLASSES, PIXELS
from digitrec.options import ScoreOptions
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.predict import Engine
from digitrec.scoring.request import Request, Task
from tests.places import full

ROWS = 20
PARTITIONS = 12
NIGHT = ScoreOptions(dataset="night")
FOLDER = "predictions/night/quick-00000001.fp32"
POISON = 3
WEIGHTS = np.random.default_rng(0).normal(0, 0.01, (PIXELS, CLASSES)).astype(np.float32)


def linear(request: Request) -> Engine:
    return Engine(lambda images: images.astype(np.float32) @ WEIGHTS, temperature=1.0)


quick = partial(score_partition, load=linear)
"""A partition in milliseconds."""


def slow(task: Task) -> Outcome:
    time.sleep(0.1)
    return quick(task)


def endless(task: Task) -> Outcome:
    """A partition that is far from done when its run is stopped."""
    Path(full(task.request.store, "begun")).touch()
    time.sleep(60)
    return quick(task)


def poisoned(task: Task) -> Outcome:
    """Partition 3 of `night` kills every worker that takes it."""
    if (task.request.dataset, task.partition.index) == ("night", POISON):
        os.kill(os.getpid(), signal.SIGKILL)
    return slow(task)


def mortal(task: Task) -> Outcome:
    """A worker dies, once each, before or after the work of the partitions that `doom` has listed."""
    for when in ("before", "after"):
        outcome = slow(task) if when == "after" else None
        if take(Path(full(task.request.store, f"doom/{task.partition.index}-{when}"))):
            os.kill(os.getpid(), signal.SIGKILL)
    assert outcome is not None
    return outcome


def doom(store_url: str, kills: int, partitions: int, seed: int) -> None:
    """Decide, by a seed, where workers die."""
    folder = Path(store_url, "doom")
    folder.mkdir(parents=True)
    fates = [f"{index}-{when}" for index in range(partitions) for when in ("before", "after")]
    for fate in np.random.default_rng(seed).choice(fates, kills, replace=False):
        (folder / fate).touch()


def take(path: Path) -> bool:
    """Remove a file; True for the one process that did."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def hungry(task: Task) -> Outcome:
    """Partition 3 of `night` never ends."""
    if (task.request.dataset, task.partition.index) == ("night", POISON):
        time.sleep(3600)
    return quick(task)
