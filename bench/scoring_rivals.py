"""One rival's whole scoring, Parquet → Parquet with the label of each image, as a process of its own.

    python bench/scoring_rivals.py NAME STORE DATASET VERSION OUT.parquet

What a careful person writes in an afternoon: the model loaded once, row groups in turn, batches of 512, the best of 256
to 2048, all cores. A *bare* one only computes: images that lie in memory, over and over, to labels that nobody keeps.
Leaves OUT.json: the seconds of the loop alone, without imports and loading, and the rows that went through it.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import Manifest, read_file
from digitrec.catalog.reader import images_of
from digitrec.catalog.store import Store
from digitrec.engines import INT8_FILE
from digitrec.network import SCALE, Perceptron
from digitrec.scoring.engine import read_card
from tests.places import full

BATCH = 512
CORES = len(os.sched_getaffinity(0))
Classify = Callable[[np.ndarray], np.ndarray]
"""uint8 [n, 784] → labels [n]."""


def network_of(store: Store, model: Manifest) -> Perceptron:
    from digitrec.network import Architecture, load_network

    weights = read_file(store, model, "weights.safetensors")
    return load_network(Architecture.from_json(read_card(store, model)["architecture"]), weights)


def batched(answer: Classify) -> Classify:
    def classify(images: np.ndarray) -> np.ndarray:
        return np.concatenate([answer(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])

    return classify


def torch_loop(store: Store, model: Manifest, threads: int) -> Classify:
    import torch

    torch.set_num_threads(threads)
    network = network_of(store, model)

    @torch.inference_mode()
    def answer(images: np.ndarray) -> np.ndarray:
        return network(torch.tensor(images)).argmax(dim=1).numpy()

    return batched(answer)


def onnxruntime_loop(engine: bytes, threads: int) -> Classify:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(engine, options, providers=["CPUExecutionProvider"])
    return batched(lambda images: session.run(None, {"images": images})[0].argmax(axis=1))


def onnxruntime_int8(store: Store, model: Manifest, threads: int) -> Classify:
    return onnxruntime_loop(read_file(store, model, INT8_FILE), threads)


def onnxruntime_fp32(store: Store, model: Manifest, threads: int) -> Classify:
    return onnxruntime_loop(fp32_graph(network_of(store, model)), threads)


def fp32_graph(network: Perceptron) -> bytes:
    """Cast, scale, then Gemm and ReLU by turns, batch norm folded in."""
    from onnx import TensorProto, helper, numpy_helper

    from digitrec.engines.quantise import folded

    nodes = [helper.make_node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT)]
    constants, last = [], "grey"
    layers = folded(network)
    for number, layer in enumerate(layers):
        weight = layer.weight.numpy() * (SCALE if number == 0 else 1)
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"w{number}"))
        constants.append(numpy_helper.from_array(layer.bias.numpy().astype(np.float32), f"b{number}"))
        out = "logits" if number == len(layers) - 1 else f"sum{number}"
        nodes.append(helper.make_node("Gemm", [last, f"w{number}", f"b{number}"], [out]))
        if out != "logits":
            nodes.append(helper.make_node("Relu", [out], [f"relu{number}"]))
        last = f"relu{number}"
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 784])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "perceptron", [images], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def sklearn_mlp(store: Store, model: Manifest, threads: int) -> Classify:
    """MLPClassifier with our weights; its products run on NumPy's threads."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer
    from threadpoolctl import threadpool_limits

    from digitrec.engines.quantise import folded

    layers = folded(network_of(store, model))
    mlp = MLPClassifier()
    mlp.coefs_ = [layer.weight.numpy().astype(np.float32) for layer in layers]
    mlp.intercepts_ = [layer.bias.numpy().astype(np.float32) for layer in layers]
    mlp.n_layers_, mlp.n_outputs_, mlp.out_activation_ = len(layers) + 1, 10, "softmax"
    mlp._label_binarizer = LabelBinarizer().fit(np.arange(10))
    mlp.classes_ = np.arange(10)

    def answer(images: np.ndarray) -> np.ndarray:
        with threadpool_limits(threads):
            return mlp.predict(images.astype(np.float32) * np.float32(SCALE))

    return batched(answer)


def row_groups(store: Store, dataset: Manifest) -> Iterator[pa.Table]:
    for file in dataset.data_files:
        shard = pq.ParquetFile(full(store, dataset.key(file)), memory_map=True)
        for place in range(shard.num_row_groups):
            yield shard.read_row_group(place, columns=["image_id", "image"])


def loop(classify: Classify, store: Store, dataset: Manifest, target: str) -> int:
    schema = pa.schema([("image_id", pa.int64()), ("label", pa.uint8())])
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=1) as writer:
        for rows in row_groups(store, dataset):
            labels = classify(images_of(rows["image"])).astype(np.uint8)
            writer.write_table(pa.table([rows["image_id"], pa.array(labels)], schema=schema))
    return dataset.rows


def bare_loop(answers: list[Classify], images: np.ndarray) -> int:
    """Each answers all the images, `BARE_ROUNDS` times, in a thread of its own."""
    with ThreadPoolExecutor(len(answers)) as pool:
        list(pool.map(lambda answer: [answer(images) for _ in range(BARE_ROUNDS)], answers))
    return len(answers) * BARE_ROUNDS * len(images)


def bare(name: str, store: Store, dataset: Manifest, model: Manifest) -> tuple[float, int]:
    """Seconds and rows of the kernel alone: one session on all cores, or one session a core."""
    images = np.concatenate([images_of(rows["image"]) for rows in islice(row_groups(store, dataset), 4)])
    sessions, threads = (1, CORES) if name == BARE_INSIDE else (CORES, 1)
    answers = [onnxruntime_int8(store, model, threads) for _ in range(sessions)]
    for answer in answers:
        answer(images[: 4 * BATCH])
    began = time.perf_counter()
    rows = bare_loop(answers, images)
    return time.perf_counter() - began, rows


def whole(name: str, store: Store, dataset: Manifest, model: Manifest, target: str) -> tuple[float, int]:
    """Seconds and rows from Parquet to Parquet."""
    if name == "ray":
        start_ray()
        began = time.perf_counter()
        rows = ray_data(store, dataset, model, target)
    else:
        classify = RIVALS[name](store, model, CORES)
        began = time.perf_counter()
        rows = loop(classify, store, dataset, target)
    return time.perf_counter() - began, rows


def start_ray() -> None:
    """Ray is told of twice the cores: with actors on all there are, it would wait for ever for one to list files on."""
    import ray

    ray.init(num_cpus=2 * CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False


def ray_data(store: Store, dataset: Manifest, model: Manifest, target: str) -> int:
    """Ray Data, an actor a core with the int8 engine."""
    import ray

    class Actor:
        def __init__(self) -> None:
            self.classify = onnxruntime_int8(store, model, 1)

        def __call__(self, rows: pa.Table) -> pa.Table:
            labels = self.classify(images_of(rows["image"])).astype(np.uint8)
            return pa.table({"image_id": rows["image_id"], "label": labels})

    rows = ray.data.read_parquet([full(store, dataset.key(file)) for file in dataset.data_files])
    answers = rows.select_columns(["image_id", "image"]).map_batches(
        Actor, batch_format="pyarrow", batch_size=16_384, compute=ray.data.ActorPoolStrategy(size=CORES)
    )
    answers.write_parquet(target)
    return dataset.rows


BARE_INSIDE, BARE_BESIDE = "bare onnxruntime int8, one session", "bare onnxruntime int8, one a core"
BARE_ROUNDS = 4
RIVALS: dict[str, Callable[[Store, Manifest, int], Classify]] = {
    "torch fp32": torch_loop,
    "onnxruntime fp32": onnxruntime_fp32,
    "onnxruntime int8": onnxruntime_int8,
    "scikit-learn": sklearn_mlp,
    "ray": onnxruntime_int8,
}


def main(name: str, url: str, dataset: str, version: str, target: str) -> None:
    store = Store.at(url)
    found = catalog.dataset(store, dataset), catalog.model(store, version)
    seconds, rows = bare(name, store, *found) if name.startswith("bare") else whole(name, store, *found, target)
    Path(f"{target}.json").write_text(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
