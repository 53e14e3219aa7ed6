"""Seconds to 98 % and 99 % validation accuracy: digitrec against scikit-learn and a plain torch loop, in turn.

    python bench/training.py [--preset quick] [--rounds 3] [--rivals sklearn,torch] [--limit 120]

Data: MNIST's 60,000 training digits, or what `fetch sample` gives where that file is missing; all train on the same
rows and are judged on the same ones, those that digitrec's split by hash keeps for validation. Each contestant is a
process of its own, and has another seed each round; a rival's clock runs while it trains, digitrec's also while it
reads and hashes the dataset, validates and writes checkpoints. Writes bench/results/training.json.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from machine import MNIST, here, keep, say

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.errors import Interrupted
from digitrec.ingest.run import ingest
from digitrec.ingest.sources import fetch_sample
from digitrec.options import IngestOptions, TrainOptions
from digitrec.progress import Step

GOALS = (0.98, 0.99)
PACKAGES = ("torch", "pytorch-lightning", "scikit-learn", "numpy")
HIDDEN = (512, 512)
"""What digitrec's quick preset has too; smaller and larger ones took the rivals longer."""


@dataclass(frozen=True)
class Moment:
    """How good it was, and when. `seconds` since training began."""

    seconds: float
    accuracy: float


def digitrec(store: Store, preset: str, seed: int, limit_s: float) -> Iterator[Moment]:
    """`digitrec train` as it is, watched from its progress."""
    from digitrec.training.run import train

    moments: list[Moment] = []
    began = time.perf_counter()

    def watch(step: Step) -> None:
        if step.stage != "train":
            return
        accuracy = float(step.facts["validation accuracy"].rstrip("%")) / 100
        moments.append(Moment(time.perf_counter() - began, accuracy))
        if moments[-1].seconds > limit_s:
            raise Interrupted("long enough")

    options = TrainOptions(dataset=("bench",), preset=preset, seed=seed, promote=False)  # type: ignore[arg-type]  # from argv
    with suppress(Interrupted):
        train(store, options, progress=watch)
    yield from moments


def sklearn(store: Store, _preset: str, seed: int, limit_s: float) -> Iterator[Moment]:
    """MLPClassifier under Adam. Of batches of 100, 200, 500 and rates of 0.0005, 0.001, 0.002 this was the quickest."""
    from sklearn.neural_network import MLPClassifier

    training, validation = as_floats(store)
    network = MLPClassifier(HIDDEN, batch_size=200, learning_rate_init=0.001, random_state=seed)
    spent = 0.0
    while spent < limit_s:
        began = time.perf_counter()
        network.partial_fit(*training, classes=np.arange(10))
        spent += time.perf_counter() - began
        yield Moment(spent, float(network.score(*validation)))


def torch(store: Store, _preset: str, seed: int, limit_s: float) -> Iterator[Moment]:
    """The loop that everybody writes: Adam, batches of 128, fp32, no augmentation."""
    import torch
    from torch import nn

    (images, labels), (held_out, answers) = ([torch.from_numpy(part) for part in side] for side in as_floats(store))
    layers = [nn.Linear(784, HIDDEN[0]), nn.ReLU(), nn.Linear(*HIDDEN), nn.ReLU(), nn.Linear(HIDDEN[1], 10)]
    torch.manual_seed(seed)
    network = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters())
    spent = 0.0
    while spent < limit_s:
        began = time.perf_counter()
        for chosen in torch.randperm(len(labels)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        spent += time.perf_counter() - began
        with torch.inference_mode():
            yield Moment(spent, float((network(held_out).argmax(1) == answers).float().mean()))


def as_floats(store: Store) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(images float32 0…1, labels int64) to train on, and to be judged on."""
    from digitrec.training.rows import Rows
    from digitrec.training.split import read_split

    split = read_split(store, [catalog.dataset(store, "bench")])
    assert isinstance(split.training, Rows)
    return tuple(  # type: ignore[return-value]  # two sides
        (rows.images.astype(np.float32) / 255, rows.labels.astype(np.int64))
        for rows in (split.training, split.validation)
    )


CONTESTANTS: dict[str, Callable[[Store, str, int, float], Iterator[Moment]]] = {
    "digitrec": digitrec,
    "sklearn": sklearn,
    "torch": torch,
}


def run(who: str, store: Store, preset: str, seed: int, limit_s: float) -> list[Moment]:
    """One contestant in a process of its own."""
    command = [sys.executable, __file__, "--contestant", who, "--store", store.url]
    command += ["--preset", preset, "--seed", str(seed), "--limit", str(limit_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stderr[-2000:]}")
    return [Moment(**moment) for moment in json.loads(done.stdout.splitlines()[-1])]


def seconds_to(goal: float, moments: list[Moment]) -> float | None:
    return next((moment.seconds for moment in moments if moment.accuracy >= goal), None)


def median(times: list[float | None]) -> float | None:
    """What is not reached in time counts as longer than all others."""
    middle = statistics.median(math.inf if seconds is None else seconds for seconds in times)
    return None if middle == math.inf else round(middle, 2)


def summary(runs: dict[str, list[list[Moment]]]) -> dict[str, object]:
    """Median seconds to each goal (None: not reached in time), and the best accuracy seen."""
    found: dict[str, object] = {}
    for who, each in runs.items():
        reached = {goal: [seconds_to(goal, moments) for moments in each] for goal in GOALS}
        found[who] = {
            "seconds": {
                f"{goal:.0%}": [None if s is None else round(s, 2) for s in found] for goal, found in reached.items()
            },
            "median_s": {f"{goal:.0%}": median(times) for goal, times in reached.items()},
            "best_accuracy": [round(max(moment.accuracy for moment in moments), 4) for moments in each],
            "end_s": [round(moments[-1].seconds, 1) for moments in each],
        }
    return found


def table(found: dict[str, object]) -> str:
    lines = [f"{'':10} {'s to 98 %':>10} {'s to 99 %':>10} {'best':>16} {'stopped after s':>16}"]
    for who, result in found.items():
        medians, best = result["median_s"], result["best_accuracy"]  # type: ignore[index]  # as `summary` built it
        lines.append(
            f"{who:10} {medians['98%'] or 'never':>10} {medians['99%'] or 'never':>10} "
            f"{f'{min(best):.2%}–{max(best):.2%}':>16} {max(result['end_s']):>16}"  # type: ignore[index]
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rivals", default="sklearn,torch")
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a contestant is stopped")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contestant:
        moments = list(CONTESTANTS[asked.contestant](Store.at(asked.store), asked.preset, asked.seed, asked.limit))
        say(json.dumps([asdict(moment) for moment in moments]))
        return
    machine = here(PACKAGES)
    names = ["digitrec", *filter(None, asked.rivals.split(","))]
    runs: dict[str, list[list[Moment]]] = {who: [] for who in names}
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as folder:
        for number in range(asked.rounds):
            store = Store.at(f"{folder}/store-{number}")  # a fresh one: the same training is done once in a store
            source = MNIST if MNIST.exists() else fetch_sample(Path(folder))[0]
            ingest(store, [str(source)], IngestOptions(dataset="bench"))
            for who in names:
                runs[who].append(run(who, store, asked.preset, number, asked.limit))
                say(
                    f"  round {number + 1}, {who}: "
                    + ", ".join(f"{m.accuracy:.2%} at {m.seconds:.1f} s" for m in runs[who][-1][-1:])
                )
    found = summary(runs)
    say(table(found))
    keep("training", asked.preset, machine | {"rounds": asked.rounds, "results": found})


if __name__ == "__main__":
    main()
