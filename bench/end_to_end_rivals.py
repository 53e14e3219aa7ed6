"""One rival's whole way from a CSV to a submission, as a process of its own.

    python bench/end_to_end_rivals.py NAME MODEL_FOLDER IN.csv OUT.csv

What a careful person writes in an afternoon: types given, all cores, batches of 512, the best of 256 to 2048.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

BATCH = 512
PIXELS = [f"pixel{place}" for place in range(784)]


def pandas_torch(model: Path, source: str, target: str) -> None:
    """In fp32."""
    import pandas as pd
    import torch

    from digitrec.network import Architecture, load_network

    card = json.loads((model / "card.json").read_text())
    weights = (model / "weights.safetensors").read_bytes()
    network = load_network(Architecture.from_json(card["architecture"]), weights)
    frame = pd.read_csv(source, dtype=dict.fromkeys(PIXELS, "uint8"))
    images = torch.from_numpy(frame.to_numpy())
    with torch.inference_mode():
        labels = torch.cat([network(batch).argmax(dim=1) for batch in images.split(BATCH)])
    answers = pd.DataFrame({"ImageId": range(1, len(frame) + 1), "Label": labels.numpy()})
    answers.to_csv(target, index=False)


def polars_onnxruntime(model: Path, source: str, target: str) -> None:
    """In int8."""
    import onnxruntime
    import polars as pl

    engine = onnxruntime.InferenceSession(model / "engine-int8.onnx", providers=["CPUExecutionProvider"])
    images = np.ascontiguousarray(pl.read_csv(source, schema=dict.fromkeys(PIXELS, pl.UInt8)).to_numpy())
    starts = range(0, len(images), BATCH)
    labels = [engine.run(None, {"images": images[start : start + BATCH]})[0].argmax(axis=1) for start in starts]
    answers = pl.DataFrame({"ImageId": np.arange(1, len(images) + 1), "Label": np.concatenate(labels)})
    answers.write_csv(target)


RIVALS: dict[str, Callable[[Path, str, str], None]] = {
    "pandas + torch": pandas_torch,
    "polars + onnxruntime int8": polars_onnxruntime,
}

if __name__ == "__main__":
    name, model, source, target = sys.argv[1:]
    RIVALS[name](Path(model), source, target)
