"""What every bench says of where it ran, and where its figures are kept."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
MNIST = HERE.parent.parent / "shared/data/mnist/train.csv.gz"
"""MNIST's 60,000 training digits in Kaggle's layout, where they are at hand."""


DIGITREC = [sys.executable, "-c", "from digitrec.cli import main; main()"]
"""The command, without a console script that may be another environment's."""


@dataclass(frozen=True)
class Run:
    """One whole process: seconds on the wall, seconds of all cores, greatest resident MB of one process and of all."""

    seconds: float
    cpu_seconds: float
    rss_mb: float
    tree_mb: float


def timed(command: Sequence[str], **environment: str) -> Run:
    """Run a process to its end and see what it used. Its words are shown if it fails."""
    done = subprocess.run(
        [sys.executable, str(HERE / "timed.py"), *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed:\n{done.stderr[-2000:]}")
    return Run(**json.loads(done.stdout))


def spread(values: Sequence[float], digits: int = 0) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), digits),
        "from": round(min(values), digits),
        "to": round(max(values), digits),
    }


def table(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Medians and ranges below one another."""
    width = max(map(len, (title, *rows)))
    lines = [f"{title:{width}} {'median':>12} {'range':>23}"]
    for name, row in rows.items():
        between = f"{row['from']:,}–{row['to']:,}"
        lines.append(f"{name:{width}} {row['median']:>12,} {between:>23}")
    return "\n".join(lines)


def here(packages: Sequence[str]) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in packages},
    }


def version_of(package: str) -> str | None:
    """Of an installed package; None if it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
