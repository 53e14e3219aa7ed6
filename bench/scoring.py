"""Speed of scoring against rivals, with the same weights on the same Parquet: images/s, warm and as whole processes.

    python bench/scoring.py [--store STORE] [--model VERSION] [--rows 300000] [--rounds 5] [--rivals torch,…]

Without --store a model is trained for it (preset quick, on what `fetch sample` gives). Labels are compared before any
time is taken: within one arithmetic they must be the same but for ties that round differently. *Warm* is arithmetic
alone, on one core, from images in memory to labels, beside the best square product of that arithmetic in the same run.
*Whole* is a process from its start to predictions on the disk, on all cores. All take turns. Writes
bench/results/scoring.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from machine import HERE, here, keep, say
from scoring_rivals import RIVALS, Classify

from digitrec.contract import PIXELS, ROW_GROUP_ROWS, SHARD_ROWS, shard_schema
from digitrec.engines import Arithmetic
from digitrec.engines.choice import choose, processor_flags
from digitrec.ingest.run import ingest
from digitrec.ingest.sources import fetch_sample
from digitrec.options import IngestOptions, TrainOptions
from digitrec.scoring.engine import load_engine, read_card
from digitrec.scoring.predict import predict
from digitrec.store import catalog
from digitrec.store.aliases import champion
from digitrec.store.commit import make_folder, sha256_of
from digitrec.store.layout import Store, dataset_folder, digest_name
from digitrec.store.manifest import File, Manifest, RowGroup, describe, publish
from digitrec.store.reading import images_of, read_table

DATASET = "bench-scoring"
PACKAGES = ("torch", "onnxruntime", "scikit-learn", "numpy", "pyarrow")
PRECISIONS: tuple[Arithmetic, ...] = ("fp32", "bf16", "int8")
SIDE, WARM_IMAGES = 2048, 8192
SAME = {"fp32": 0.9999, "int8": 1.0, "bf16": 0.99}
"""Share of labels that must be those of digitrec in the same arithmetic (bf16: in fp32)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", default=",".join(name for name in RIVALS if name != "ray" or find_spec("ray")))
    asked = parser.parse_args()
    machine = here(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as name:
        source = Store.at(asked.store) if asked.store else trained(Path(name))
        model = catalog.model(source, asked.model or str(champion(source)))
        contest = Contest(source, model, images_from(source), list(filter(None, asked.rivals.split(","))))
        contest.compare()
        say("labels are the same")
        warm = contest.warm(asked.rounds)
        peaks = {precision: peak(precision) for precision in PRECISIONS}
        store = copied(source, model, contest.images, asked.rows, Path(name, "whole"))
        whole = compete(store, model.name, contest.rivals, asked.rounds)
    found = machine | {"warm": shares(warm, peaks, contest.multiply_adds), "whole": rates(whole, asked.rows)}
    found |= {"peak_gmacs": {key: round(value / 1e9, 1) for key, value in peaks.items()}, "auto": contest.auto}
    say(json.dumps(found, indent=1))
    keep("scoring", str(asked.rows), found)


def trained(folder: Path) -> Store:
    """A store with a model of the quick preset."""
    from digitrec.training.run import train

    store = Store.at(folder / "store")
    ingest(store, [str(fetch_sample(folder)[0])], IngestOptions(dataset="train"))
    train(store, TrainOptions(preset="quick", promote=True))
    return store


def images_from(store: Store) -> np.ndarray:
    """Real images of the store's newest dataset that has some: uint8 [n, 784]."""
    dataset = next(manifest for manifest in catalog.published(store, "dataset") if manifest.rows)
    return images_of(read_table(store, dataset)["image"])


class Contest:
    """The same images through every contestant, in this process, on one core."""

    def __init__(self, store: Store, model: Manifest, images: np.ndarray, rivals: list[str]) -> None:
        torch.set_num_threads(1)
        card = read_card(store, model)
        self.auto = choose("auto", card, processor_flags()).precision
        widths = (PIXELS, *card["architecture"]["hidden"], 10)
        self.multiply_adds = sum(wide * narrow for wide, narrow in pairwise(widths))
        self.images = images[np.arange(max(len(images), WARM_IMAGES)) % len(images)]
        self.rivals = rivals
        self.ours = {precision: digitrec_in(store, model, precision) for precision in PRECISIONS}
        self.theirs = {name: RIVALS[name](store, model, 1) for name in rivals if name != "ray"}

    def compare(self) -> None:
        """Stop unless all give the same labels."""
        wanted = {precision: run(self.images) for precision, run in self.ours.items()}
        found = {name: run(self.images) for name, run in self.theirs.items()}
        for name, labels in {"digitrec bf16": wanted["bf16"], **found}.items():
            precision = next((each for each in ("bf16", "int8") if each in name), "fp32")
            same = (labels == wanted["int8" if precision == "int8" else "fp32"]).mean()
            if same < SAME[precision]:
                raise SystemExit(f"{name}: only {same:.3%} of its labels are digitrec's")

    def warm(self, rounds: int) -> dict[str, list[float]]:
        """Images/s of each, in turn."""
        everyone = {f"digitrec {precision}": run for precision, run in self.ours.items()} | self.theirs
        found: dict[str, list[float]] = {name: [] for name in everyone}
        for _ in range(rounds):
            for name, run in everyone.items():
                found[name].append(WARM_IMAGES / seconds(lambda run=run: run(self.images[:WARM_IMAGES])))
        return found


def digitrec_in(store: Store, model: Manifest, precision: Arithmetic) -> Classify:
    engine = load_engine(store, model.name, model.digest, precision)
    return lambda images: predict(engine.network, images, temperature=engine.temperature).label


def seconds(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def peak(precision: Arithmetic) -> float:
    """Multiply-adds/s of the best of five square products, by torch (int8: by onnxruntime), on one core."""
    if precision == "int8":
        work = integer_product()
    else:
        square = torch.randn(SIDE, SIDE).to(torch.bfloat16 if precision == "bf16" else torch.float32)
        work = lambda: square @ square  # noqa: E731  # a product is all there is to it
    return float(SIDE**3 / min(seconds(work) for _ in range(6)))


def integer_product() -> Callable[[], object]:
    helper, types = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    square = onnx.numpy_helper.from_array(rng.integers(-127, 127, (SIDE, SIDE), dtype=np.int8), "w")
    value, out = (
        helper.make_tensor_value_info(n, t, [SIDE, SIDE]) for n, t in (("x", types.UINT8), ("y", types.INT32))
    )
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g", [value], [out], [square])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    return lambda: session.run(None, {"x": images})


def copied(source: Store, model: Manifest, images: np.ndarray, rows: int, folder: Path) -> Store:
    """A store with this model and a dataset of `rows` rows, the images over and over."""
    store = Store.at(folder)
    for file in model.files:
        make_folder(store, str(Path(file.path).parent))
        Path(store.full(file.path)).write_bytes(source.read(file.path))
    Path(store.full(f"models/{model.name}/manifest.json")).write_bytes(model.to_bytes())
    make_folder(store, dataset_folder(DATASET))
    starts = range(0, rows, SHARD_ROWS)
    files = tuple(
        shard(store, place, images, start, min(rows, start + SHARD_ROWS)) for place, start in enumerate(starts)
    )
    facts = {"labelled": False, "keyed": False, "rejects": {}}
    publish(store, dataset_folder(DATASET), Manifest("dataset", DATASET, {"rows": rows}, files, facts=facts))
    return store


def shard(store: Store, place: int, images: np.ndarray, start: int, end: int) -> File:
    """Rows `start` to `end`, in row groups as ingest makes them."""
    schema, groups = shard_schema(labelled=False, keyed=False), []
    staged = Path(store.full(f"{dataset_folder(DATASET)}/staged"))
    with pq.ParquetWriter(staged, schema, compression="zstd", compression_level=1, write_page_checksum=True) as writer:
        for first in range(start, end, ROW_GROUP_ROWS):
            ids = np.arange(first, min(end, first + ROW_GROUP_ROWS), dtype=np.int64)
            data = pa.py_buffer(np.ascontiguousarray(images[ids % len(images)]))
            column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(PIXELS), len(ids), [None, data])
            writer.write_table(pa.table([pa.array(ids + 1), column], schema=schema), row_group_size=len(ids))
            groups.append(RowGroup.of(ids + 1))
    path = f"{dataset_folder(DATASET)}/{digest_name('shard', place, sha256_of(staged))}"
    staged.rename(store.full(path))
    return describe(store, path, rows=end - start, row_groups=tuple(groups))


def compete(store: Store, version: str, rivals: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of whole processes, in turn; one round before the clock counts, for the page cache."""
    digitrec = [str(Path(sys.executable).parent / "digitrec"), "--store", store.url, "score", "--dataset", DATASET]
    commands = {f"digitrec {each}": [*digitrec, "--model", version, "--precision", each] for each in PRECISIONS}
    script = str(HERE / "scoring_rivals.py")
    target = store.full("rival.parquet")
    commands |= {name: [sys.executable, script, name, store.url, DATASET, version, target] for name in rivals}
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            timed = [sys.executable, str(HERE / "timed.py"), *command]
            taken = json.loads(subprocess.run(timed, capture_output=True, text=True, check=True).stdout)["seconds"]
            if number:
                found[name].append(taken)
                say(f"  round {number}, {name}: {taken:.2f} s")
            subprocess.run(["rm", "-rf", store.full("predictions"), target], check=True)
    return found


def shares(warm: dict[str, list[float]], peaks: dict[Arithmetic, float], multiply_adds: int) -> dict[str, object]:
    """Medians, spread, and the share of the peak of that arithmetic."""
    found: dict[str, object] = {}
    for name, each in warm.items():
        top = peaks[next((precision for precision in ("bf16", "int8") if precision in name), "fp32")]  # type: ignore[index]
        share = round(statistics.median(each) * multiply_adds / top, 3)
        found[name] = spread(each) | {"share_of_peak": share}
    return found


def rates(whole: dict[str, list[float]], rows: int) -> dict[str, object]:
    return {name: spread([rows / taken for taken in each]) for name, each in whole.items()}


def spread(rates: list[float]) -> dict[str, object]:
    return {"images_s": round(statistics.median(rates)), "from": round(min(rates)), "to": round(max(rates))}


if __name__ == "__main__":
    main()
