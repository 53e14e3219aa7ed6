"""What every bench says of where it ran, and where its figures are kept."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
MNIST = HERE.parent.parent / "shared/data/mnist/train.csv.gz"
"""MNIST's 60,000 training digits in Kaggle's layout, where they are at hand."""


def here(packages: Sequence[str]) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def keep(name: str, key: str, found: dict[str, object]) -> None:
    """Write figures under `key` of bench/results/NAME.json, beside those of other keys."""
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | {key: found}, indent=1, sort_keys=True) + "\n")


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()
