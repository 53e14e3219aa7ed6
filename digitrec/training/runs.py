"""When, where and how fast a model was trained: it differs from run to run, so the manifest must not name it."""

import platform
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from digitrec.catalog.layout import model_folder
from digitrec.catalog.manifest import canonical
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.network import Perceptron
from digitrec.training.classifier import multiplies_bf16
from digitrec.training.fitting import Fitted
from digitrec.training.split import Split


def keep_run(store: Store, version: str, split: Split, fitted: Fitted[Perceptron], threads: int) -> None:
    """Leave runs/<uuid>.json beside the model version's manifest. Seconds and epochs are this process's share of the
    training, the teacher's counted."""
    trainings = [each for each in (fitted.teacher, fitted) if each]
    seconds, epochs = sum(each.seconds for each in trainings), sum(each.epochs_run for each in trainings)
    run = {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "epochs_run": epochs,
        "images_per_s": round(epochs * len(split.training) / seconds, 1),
        "threads": threads,
    }
    text = canonical(run | machine(), indent=1) + "\n"
    store.storage.put(f"{model_folder(version)}/runs/{uuid.uuid4().hex}.json", text.encode())


def machine() -> dict[str, Any]:
    """The processor, the GPU that a training here takes (None: it runs on the processor), and what it multiplies in."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    multiplied = "bf16" if multiplies_bf16(torch.device("cuda" if gpu else "cpu")) else "fp32"
    return {"processor": processor(), "gpu": gpu, "multiplied": multiplied, "system": platform.platform()}


def processor() -> str:
    """What Linux calls it; elsewhere the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return named.group(1) if named else platform.processor() or platform.machine()
