"""Which recipe is best on MNIST's 60,000, and how good a preset is on digits that nobody looked at.

    python bench/accuracy.py compare [--epochs 60] [--seeds 1] [--variants base,calm] [--jobs 2]
    python bench/accuracy.py exam [--preset default] [--seeds 3] [--threads 2]

By the hash that splits validation rows from the others, rows fall into three parts. Those of the first sixth, about
10,000, are for development: `compare` trains variants of `default` on all other rows, each in a process on a core, and
judges them there. The others are for exams, by which no recipe was chosen: `exam` leaves 5,000 of them, another
5,000 for each seed, out of a CSV, and uses digitrec as it is: ingest, `train --preset`, `models evaluate`. The test
digits are in neither. Writes bench/results/accuracy.json.
"""

import argparse
import csv
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from machine import MNIST, here, keep, say

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions, TrainOptions
from digitrec.progress import silent
from digitrec.training.augment import Distortion
from digitrec.training.evaluation import evaluate
from digitrec.training.fitting import Course, fit, own_torch_state
from digitrec.training.quality import logits_of, mcnemar, wilson
from digitrec.training.recipe import Distillation, Recipe, recipe_for
from digitrec.training.rows import read_rows, row_digests
from digitrec.training.run import train
from digitrec.training.split import Split

DEVELOPMENT = (0.0, 1 / 6)
EXAM_FROM, EXAM_SHARE, EXAMS = 1 / 6, 1 / 12, 10
PACKAGES = ("torch", "pytorch-lightning", "numpy")

DEFAULT = recipe_for("default", 60_000)
FIELD, TEACHER = DEFAULT.distortion, DEFAULT.distillation or Distillation()
VARIANTS: dict[str, Recipe] = {
    "base": DEFAULT,
    "two-layers": replace(DEFAULT, hidden=(1024, 1024)),
    "wide-then-narrow": replace(DEFAULT, hidden=(1400, 600)),
    "untaught": replace(DEFAULT.untaught, peak_lr=2e-3, weight_decay=0.01, label_smoothing=0.05),
    "cooler": replace(DEFAULT, distillation=replace(TEACHER, temperature=4.0)),
    "unmixed": replace(DEFAULT, distortion=replace(FIELD, mixed=0.0)),
    "teacher-of-half": replace(DEFAULT, distillation=replace(TEACHER, epochs=TEACHER.epochs // 2)),
    "wide": replace(DEFAULT, hidden=(1600, 1600, 1600)),
    "dropout": replace(DEFAULT, dropout=0.1),
    "slower": replace(DEFAULT, peak_lr=4e-3),
    "faster": replace(DEFAULT, peak_lr=32e-3),
    "small-batches": replace(DEFAULT, batch=256),
    "less-decay": replace(DEFAULT, weight_decay=0.01),
    "stronger": replace(
        DEFAULT, distortion=replace(FIELD, rotation_deg=16.0, scale=0.16, shear=0.16, shift_px=2.0, elastic_px=1.1)
    ),
    "shifted-more": replace(DEFAULT, distortion=replace(FIELD, shift_px=1.6)),
    "coarser-field": replace(DEFAULT, distortion=replace(FIELD, grid=5, elastic_px=1.1)),
    "never-calm": replace(DEFAULT, distortion=replace(FIELD, calm=0.0, end=1.0)),
    "undistorted": replace(DEFAULT, distortion=Distortion(0, 0, 0, 0, 0, mixed=0.5)),
}


@dataclass(frozen=True)
class Candidate:
    """A variant trained once, judged on the development rows."""

    variant: str
    seed: int
    errors: int
    rows: int
    loss: float
    seconds: float
    wrong: tuple[int, ...]


def compare(asked: argparse.Namespace) -> dict[str, object]:
    """Train each variant with each seed; tell them apart by a paired test against the first."""
    names = asked.variants.split(",") if asked.variants else list(VARIANTS)
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as folder:
        store = Store.at(f"{folder}/store")
        ingest(store, [str(MNIST)], IngestOptions(dataset="mnist"))
        tasks = [(store, name, seed, asked.epochs) for seed in range(asked.seeds) for name in names]
        with ThreadPoolExecutor(asked.jobs) as pool:
            found = list(pool.map(lambda task: in_process(*task), tasks))
    say(comparison(found, names))
    return {"epochs": asked.epochs, "candidates": [asdict(candidate) for candidate in found]}


def in_process(store: Store, name: str, seed: int, epochs: int) -> Candidate:
    command = [sys.executable, __file__, "candidate", "--store", store.url]
    command += ["--variants", name, "--first-seed", str(seed), "--epochs", str(epochs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    body = json.loads(done.stdout.splitlines()[-1])
    candidate = Candidate(**(body | {"wrong": tuple(body["wrong"])}))
    say(f"  {name}, seed {seed}: {candidate.errors} of {candidate.rows:,} wrong, loss {candidate.loss:.4f}")
    return candidate


def train_candidate(store: Store, name: str, seed: int, epochs: int) -> Candidate:
    rows = read_rows(store, [catalog.dataset(store, "mnist")])
    place = rows.digests / 2**64
    development = (place >= DEVELOPMENT[0]) & (place < DEVELOPMENT[1])
    split = Split(rows.where(~development), rows.where(development))
    recipe = replace(VARIANTS[name], epochs=epochs, patience_epochs=epochs)
    began = time.perf_counter()
    with own_torch_state(1):
        fitted = fit(Course(store, f"{name}-{seed}", 1, seed, split, silent), recipe)
        logits = logits_of(fitted.network, split.validation.images)
    wrong = np.flatnonzero(logits.argmax(axis=1) != split.validation.labels)
    loss = min(epoch.val_loss for epoch in fitted.history)
    seconds = time.perf_counter() - began
    return Candidate(name, seed, len(wrong), int(development.sum()), loss, seconds, tuple(wrong.tolist()))


def comparison(found: list[Candidate], names: list[str]) -> str:
    """A line a variant: errors of each seed, and McNemar's p against the first variant, over all seeds."""
    by_name = {name: [candidate for candidate in found if candidate.variant == name] for name in names}
    first = mistakes(by_name[names[0]])
    lines = [f"{'':18} {'errors':>14} {'accuracy (95 % interval)':>28} {'p against ' + names[0]:>18}"]
    for name, each in by_name.items():
        errors, rows = sum(c.errors for c in each), sum(c.rows for c in each)
        low, high = wilson(rows - errors, rows)
        p = mcnemar(len(first - mistakes(each)), len(mistakes(each) - first))
        shown = ", ".join(str(c.errors) for c in each)
        lines.append(f"{name:18} {shown:>14} {1 - errors / rows:>10.2%} ({low:.2%}–{high:.2%}) {p:>18.2g}")
    return "\n".join(lines)


def mistakes(candidates: list[Candidate]) -> set[tuple[int, int]]:
    return {(candidate.seed, row) for candidate in candidates for row in candidate.wrong}


def exam(asked: argparse.Namespace) -> dict[str, object]:
    """Train the preset as users do, once a seed, and judge it on 5,000 digits that were left out."""
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as folder:
        seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
        found = [sit(Path(folder), asked.preset, seed, asked.threads) for seed in seeds]
    errors, rows = sum(entry["errors"] for entry in found), sum(entry["rows"] for entry in found)  # type: ignore[misc]
    low, high = wilson(rows - errors, rows)
    mean = statistics.mean(entry["accuracy"] for entry in found)  # type: ignore[misc]
    say(f"{asked.preset}: {mean:.3%} over {len(found)} seeds ({errors} of {rows:,} wrong; 95 %: {low:.2%}–{high:.2%})")
    return {"mean": mean, "interval95": [low, high], "exams": found}


def sit(folder: Path, preset: str, seed: int, threads: int | None) -> dict[str, object]:
    """One training and its exam."""
    store = Store.at(folder / f"store-{seed}")
    for name, path in zip(("mnist", "exam"), without_fold(folder, seed), strict=True):
        ingest(store, [str(path)], IngestOptions(dataset=name))
    began = time.perf_counter()
    options = TrainOptions(dataset=("mnist",), preset=preset, seed=seed, promote=False)  # type: ignore[arg-type]
    report = train(store, options, threads=threads)
    seconds = time.perf_counter() - began
    unseen = evaluate(store, report.version, "exam").unseen
    assert unseen is not None
    errors = round(unseen.rows * (1 - unseen.accuracy))
    say(f"  seed {seed}: {unseen.accuracy:.2%}, {errors} of {unseen.rows:,} wrong, trained in {seconds:.0f} s")
    return {
        "seed": seed,
        "accuracy": unseen.accuracy,
        "errors": errors,
        "rows": unseen.rows,
        "validation_accuracy": report.accuracy,
        "epochs": report.epochs,
        "seconds": round(seconds, 1),
    }


def without_fold(folder: Path, seed: int) -> tuple[Path, Path]:
    """Two CSVs: all digits but a seed's fold (of ten), and the fold."""
    with gzip.open(MNIST, "rt", newline="") as file:
        header, *lines = csv.reader(file)
    images = np.array([line[1:] for line in lines], dtype=np.uint8)
    place = (row_digests(images) / 2**64 - EXAM_FROM) / EXAM_SHARE - seed % EXAMS
    fold = (place >= 0) & (place < 1)
    paths = folder / f"mnist-{seed}.csv", folder / f"exam-{seed}.csv"
    for path, chosen in zip(paths, (~fold, fold), strict=True):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *(line for line, kept in zip(lines, chosen, strict=True) if kept)])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("compare", "exam", "candidate"))
    parser.add_argument("--preset", default="default")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--variants", default="")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, help="cores of each exam's training (default: all)")
    parser.add_argument("--store", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.what == "candidate":
        say(json.dumps(asdict(train_candidate(Store.at(asked.store), asked.variants, asked.first_seed, asked.epochs))))
        return
    asked.seeds = asked.seeds or (3 if asked.what == "exam" else 1)
    if not MNIST.exists():
        raise SystemExit(f"this needs MNIST's 60,000 training digits in Kaggle's layout at {MNIST}")
    machine = here(PACKAGES)
    key = f"exam-{asked.preset}" if asked.what == "exam" else "compare"
    keep("accuracy", key, machine | (exam if asked.what == "exam" else compare)(asked))


if __name__ == "__main__":
    main()
