"""digitrec's scoring against itself and the machine: see bench/scoring.py. Whole processes throughout."""

import csv
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from machine import DIGITREC, HERE, Run, say, spread, timed
from scoring_store import add_dataset
from serving import prefect_server

from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS
from tests.places import full

FEW_ROWS, MORE_ROWS, MANY_ROWS = 300_000, 1_000_000, 10_000_000
FEW_IMAGES = 64
"""So few different ones that thirty million rows are 250 MB on the disk; arithmetic and memory are the same."""
FLOW = HERE.parent / "flows/score.py"
Found = dict[str, object]


def scored(store: Store, model: Manifest, dataset: str, *options: str, **environment: str) -> tuple[Run, Any]:
    """One `digitrec score`: what the process took, and what it noted of itself. Its predictions are removed."""
    command = [*DIGITREC, "--store", store.url, "score", "--dataset", dataset, "--model", model.name, *options]
    return timed(command, **environment), noted(store)


def noted(store: Store) -> Any:
    """The note of the only run there was; its predictions are removed."""
    (note,) = Path(full(store, "predictions")).glob("*/*/runs/*.json")
    found = json.loads(note.read_text())
    shutil.rmtree(full(store, "predictions"))
    return found


def workers(store: Store, model: Manifest, images: np.ndarray, rows: int, rounds: int) -> Found:
    """Rows/s of the pipeline with one worker and with two, in turn; start-up is not counted, it is the same."""
    add_dataset(store, "bench", images, rows)
    rates: dict[str, list[float]] = {"1": [], "2": []}
    for number in range(rounds + 1):
        for threads, found in rates.items():
            # One worker would be a thread of the driver for a small job, never for this one.
            run, note = scored(store, model, "bench", DIGITREC_THREADS=threads)
            rate = note["computed"]["rows_per_s"]
            say(f"  round {number}, {threads} workers: {rate:,} rows/s, {run.seconds:.2f} s")
            found += [rate] if number else []
    ratio = statistics.median(rates["2"]) / statistics.median(rates["1"])
    say(f"2 workers / 1: {ratio:.2f}")
    return {"rows_s": {name: spread(each) for name, each in rates.items()}, "two_over_one": round(ratio, 3)}


def memory(store: Store, model: Manifest, images: np.ndarray, rows: int, rounds: int) -> Found:
    """Greatest resident memory of all processes together: at few rows, which threads compute, at more, for which there
    are worker processes, and at many; once, memory is not noisy."""
    found: dict[str, dict[str, float]] = {}
    for count in (FEW_ROWS, MORE_ROWS, rows):
        add_dataset(store, f"bench-{count}", images[:FEW_IMAGES], count)
        run, note = scored(store, model, f"bench-{count}")
        computed = note["computed"]
        sizes = {name: computed[f"{name}_bytes"] / 2**20 for name in ("driver", "worker")}
        found[f"{count}"] = {name: round(size, 1) for name, size in {"tree": run.tree_mb, **sizes}.items()}
        say(f"  {count:,} rows: {found[str(count)]} MB, {run.seconds:.1f} s, {computed['rows_per_s']:,} rows/s")
    few, more, many = (each["tree"] for each in found.values())
    ratios = {"many_over_few": round(many / few, 3), "many_over_more": round(many / more, 3)}
    say(f"memory: {ratios}")
    return {"mb": found} | ratios


def fixed(store: Store, model: Manifest, images: np.ndarray, rows: int, rounds: int) -> Found:
    """Seconds of `digitrec score one.csv`, another image each time: ingest, scoring, publication, start and end."""
    seconds = []
    for number in range(rounds + 1):
        path = Path(full(store, f"one-{number}.csv"))
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([KAGGLE_PIXELS, images[number].tolist()])
        run = timed([*DIGITREC, "--store", store.url, "score", str(path), "--model", model.name])
        seconds += [run.seconds] if number else []
    found = spread(seconds, 3)
    say(f"one image: {found} s")
    return {"seconds": found}


def orchestration(store: Store, model: Manifest, images: np.ndarray, rows: int, rounds: int) -> Found:
    """Seconds of `flows/score.py` with a Prefect server at hand, over those of a plain loop, whole processes."""
    add_dataset(store, "bench", images[:FEW_IMAGES], rows)
    plain = [sys.executable, str(HERE / "scoring_plain.py"), store.url, "bench", model.name]
    flow = [sys.executable, str(FLOW), "--store", store.url, "--dataset", "bench", "--model", model.name]
    seconds: dict[str, list[float]] = {"plain": [], "flow": []}
    home = Path(full(store, "prefect"))
    with prefect_server(home) as url:
        environment = {"PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        for _ in range(min(rounds, 1 if rows >= MANY_ROWS else rounds)):
            for name, command in (("plain", plain), ("flow", flow)):
                seconds[name].append(timed(command, **environment).seconds)
                shutil.rmtree(full(store, "predictions"))
                say(f"  {name}: {seconds[name][-1]:.2f} s")
    ratio = statistics.median(seconds["flow"]) / statistics.median(seconds["plain"])
    say(f"flow / plain loop: {ratio:.3f}")
    return {"seconds": {name: spread(each, 2) for name, each in seconds.items()}, "flow_over_plain": round(ratio, 4)}
