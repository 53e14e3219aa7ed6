"""What a run costs besides its arithmetic: planning and publishing of many shards, and its start in a full store.

    python bench/planning.py [--shards 200,2000,10000] [--datasets 10,100000] [--rounds N]

- *shards*: a dataset of so many shards as ingest makes them (131,072 rows, 8 row groups), from its manifest to the
  published manifest of its predictions. Only the driver's work: no shard is there, receipts come at once, parts are one
  byte, and `submission.csv` is not derived from them.
- *datasets*: the start of a scheduled run in a store in memory where so many datasets have predictions, and one waits.

CPU seconds of the process, medians of the rounds. Writes bench/results/planning.json.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from machine import here, keep, say

from digitrec.catalog import listing
from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.manifest import File, Manifest, RowGroup, read_manifest
from digitrec.catalog.pending import put_note
from digitrec.catalog.publish import publish
from digitrec.catalog.store import Store
from digitrec.contract import CLASSES, ROW_GROUP_ROWS, SHARD_ROWS
from digitrec.options import ScoreOptions
from digitrec.progress import silent
from digitrec.scoring import publication
from digitrec.scoring.cost import Cost
from digitrec.scoring.counts import BINS, Counts
from digitrec.scoring.executors import Outcomes
from digitrec.scoring.plan import plan_dataset
from digitrec.scoring.publication import Publisher
from digitrec.scoring.receipts import Receipt
from digitrec.scoring.request import Request, Task
from digitrec.scoring.selection import select_datasets
from digitrec.scoring.state import Ended, RunState, Scored
from digitrec.scoring.submission import submission_key
from digitrec.storage import register
from digitrec.storage.memory import MemoryStorage

FACTS = {"labelled": False, "keyed": False, "rejects": {}}
MODEL = Manifest("model", "m", {}, ())
HISTOGRAM = (0,) * BINS
DIGEST = "f" * 64


def main() -> None:
    publication.write_submission = lambda *_: None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", default="200,2000,10000")
    parser.add_argument("--datasets", default="10,100000")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, float] = {}
    for shards in map(int, filter(None, asked.shards.split(","))):
        for backend in ("memory", "folder"):
            seconds = median([plan_and_publish(shards, backend) for _ in range(asked.rounds)])
            found[f"{shards} shards, {backend}"] = seconds
            say(f"{shards:,} shards, {backend}: {seconds:.3f} CPU s")
    for datasets in map(int, filter(None, asked.datasets.split(","))):
        store = full_store(datasets)
        found[f"{datasets} datasets"] = median([start(store) for _ in range(5 * asked.rounds)])
        say(f"{datasets:,} datasets: {found[f'{datasets} datasets'] * 1e3:.2f} CPU ms")
    keep("planning", "cpu seconds", here(("pyarrow", "pydantic")) | found)


def median(values: list[float]) -> float:
    return round(statistics.median(values), 5)


def plan_and_publish(shards: int, backend: str) -> float:
    """Return the CPU seconds from a dataset's manifest to its predictions'."""
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as folder:
        store = Store.at(register(MemoryStorage()).url if backend == "memory" else folder)
        put_dataset(store, shards)
        request = Request.of(store, read_manifest(store, dataset_folder("large")), MODEL, ScoreOptions(), "int8")
        put_parts(store, folder if backend == "folder" else "", request.folder, 2 * shards)
        began = time.process_time()
        dataset = listing.dataset(store, "large")
        plan = plan_dataset(dataset, Request.of(store, dataset, MODEL, ScoreOptions(), "int8"))
        with Publisher[Ended]() as publisher:
            state = RunState([plan], publisher, 0.9, silent)
            for task, receipt in compute_nothing(state.tasks()):
                state.record(task, receipt)
            state.finish()
        seconds = time.process_time() - began
        (ended,) = state.ended
        if not isinstance(ended, Scored) or ended.rows != shards * SHARD_ROWS:
            raise SystemExit(f"not published: {ended}")
        return seconds


def put_dataset(store: Store, shards: int) -> None:
    """Put the manifest of a dataset whose shards are not there."""
    files, first = [], 1
    for index in range(shards):
        starts = range(first, first + SHARD_ROWS, ROW_GROUP_ROWS)
        groups = tuple(RowGroup(ROW_GROUP_ROWS, at, at + ROW_GROUP_ROWS - 1, f"{at:016x}") for at in starts)
        files.append(File(f"shard-{index:05d}-{index:016x}.parquet", SHARD_ROWS, 1, f"{index:064x}", groups))
        first += SHARD_ROWS
    manifest = Manifest("dataset", "large", {"shards": shards}, tuple(files), facts=FACTS).stamped()
    for path, data in manifest.to_objects().items():
        store.storage.put(f"{manifest.folder}/{path}", data)


def put_parts(store: Store, root: str, folder: str, parts: int) -> None:
    """Put one byte for each part, in a folder without its syncs, which are no work of the driver."""
    store.storage.put(submission_key(folder), b"")
    for index in range(parts):
        path = f"{folder}/{part_path(index)}"
        if root:
            Path(root, path).write_bytes(b"1")
        else:
            store.storage.put(path, b"1")


def part_path(index: int) -> str:
    return f"part-{index:05d}-{index:016x}.parquet"


def compute_nothing(tasks: Iterator[Task]) -> Outcomes:
    """Return a receipt for each task at once."""
    for task in tasks:
        partition = task.partition
        file = File(part_path(partition.index), partition.rows, 1, DIGEST, partition.groups)
        counts = Counts((partition.rows, *[0] * (CLASSES - 1)), (*HISTOGRAM, partition.rows))
        yield task, Receipt(partition.index, file, counts, Cost(partition.rows, 1, 0.1, 0.1, 1))


def full_store(datasets: int) -> Store:
    """Return a store in memory in which so many datasets have predictions, and one waits."""
    store = Store.at(register(MemoryStorage()).url)
    for number in range(datasets):
        dataset = Manifest("dataset", f"x-{number}", {"number": number}, (), facts=FACTS)
        asked = {"dataset": dataset.name, "dataset_digest": dataset.digest, "model": "m", "variant": "int8"}
        done = Manifest("predictions", f"{dataset.name}/m.int8", asked, (), facts=FACTS)
        for manifest in (dataset, done):
            for path, data in manifest.to_objects().items():
                store.storage.put(f"{manifest.folder}/{path}", data)
    put_note(store, "waiting")
    publish(store, Manifest("dataset", "waiting", {}, (), facts=FACTS))
    return store


def start(store: Store) -> float:
    """Return the CPU seconds of finding and planning what waits."""
    began = time.process_time()
    selection = select_datasets(store, ScoreOptions(), MODEL)
    plans = [plan_dataset(each, Request.of(store, each, MODEL, ScoreOptions(), "int8")) for each in selection.datasets]
    seconds = time.process_time() - began
    if [plan.dataset.name for plan in plans] != ["waiting"]:
        raise SystemExit(f"planned {len(plans)} datasets, expected the one that waits")
    return seconds


if __name__ == "__main__":
    main()
