"""CSV in → submission.csv out: digitrec against pandas + torch and polars + onnxruntime, whole processes, in turn.

    python bench/end_to_end.py [--store STORE] [--model VERSION] [--rows 300000] [--rounds 5]

All have the same weights: the champion's of --store, or, without one, the model's that comes with digitrec. With
--cascade, if it has one, digitrec asks its small net first. The input is MNIST's 60,000 training digits over and over,
unlabelled, or what `fetch sample` gives where that file is missing. Labels are compared before any time is taken: they
are the same, but for the one in a thousand in which int8, fp32 and a cascade may differ. digitrec alone also checks
every field, seals what it read, tells how sure it is, and syncs and hashes what it writes. A rival that is not
installed (pip install ".[bench]") is left out.
Writes bench/results/end_to_end.json.
"""

import argparse
import gzip
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
from end_to_end_rivals import RIVALS
from machine import DIGITREC, HERE, MNIST, Run, here, keep, say, spread, table, timed
from scoring_store import with_model

from digitrec.catalog import listing as catalog
from digitrec.catalog.bundled import publish_bundled
from digitrec.catalog.champion import read_champion
from digitrec.catalog.manifest import Manifest, read_file
from digitrec.catalog.store import Store
from digitrec.engines.choice import cascade_of
from digitrec.errors import DigitrecError
from digitrec.ingest.sources import fetch_sample
from digitrec.scoring.engine import read_card
from tests.places import full

PACKAGES = ("pandas", "torch", "polars", "onnxruntime", "numba", "pyarrow")
AGREEING = 0.999
"""Share of labels that must be the same in fp32, in int8 and in a cascade."""
OURS = {"digitrec": (), "digitrec --cascade": ("--cascade",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    machine = here(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as name:
        source = Store.at(asked.store or Path(name, "bundled"))
        model = find_model(source, asked.model) if asked.store or asked.model else publish_bundled(source)
        if model is None:
            raise SystemExit("this installation has no bundled model: name a --store")
        store = with_model(source, model, Path(name, "whole"))
        contest = Contest(store, model, make_input(asked.rows, Path(name)))
        contest.compare()
        say("labels are the same")
        runs = contest.compete(asked.rounds)
    found = summary(runs)
    seconds = {who: spread([run.seconds for run in each], 2) for who, each in runs.items()}
    say(table(f"{asked.rows:,} rows: seconds", seconds))
    say("\n".join(f"{who}: {row['times_digitrec']} × digitrec" for who, row in found.items()))
    keep("end_to_end", str(asked.rows), machine | {"model": model.name, "results": found})


def find_model(store: Store, version: str | None) -> Manifest:
    """Return the version that is named, or the champion; nothing is written into somebody's store."""
    found = catalog.model(store, version) if version else read_champion(store)
    if found is None:
        raise SystemExit(f"{store.url} has no champion: name a version with --model, or leave --store out")
    return found


def make_input(rows: int, folder: Path) -> Path:
    """An unlabelled CSV of so many rows."""
    path = MNIST if MNIST.exists() else fetch_sample(folder)[0]
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    header, *lines = (line.partition(b",")[2] for line in data.splitlines(keepends=True))  # without the label
    target = folder / "input.csv"
    with target.open("wb") as file:
        file.write(header)
        file.writelines(islice(over_and_over(lines), rows))
    return target


def over_and_over(lines: list[bytes]) -> Iterator[bytes]:
    return chain.from_iterable(repeat(lines))


def has_cascade(store: Store, model: Manifest) -> bool:
    """Whether the version has a small net; said if it has none."""
    try:
        cascade_of(read_card(store, model))
        return True
    except DigitrecError as error:
        say(f"without --cascade: {error}")
        return False


def is_installed(rival: str) -> bool:
    """Whether a rival's packages are there; said if one is not."""
    missing = [package for package in rival.split()[::2] if find_spec(package) is None]
    if missing:
        say(f"without {rival}: {missing[0]} is not installed")
    return not missing


def plain_model(store: Store, model: Manifest, folder: Path) -> Path:
    """Write a version's files under their plain names into a folder, for rivals; return it."""
    folder.mkdir()
    for file in model.files:
        (folder / file.name).write_bytes(read_file(store, model, file.name))
    return folder


class Contest:
    """Who takes part, and where everything lies. What a run leaves is removed after it."""

    def __init__(self, store: Store, model: Manifest, source: Path) -> None:
        self.store, self.model, self.source = store, model, source
        self.target = source.parent / "submission.csv"
        self.plain = plain_model(store, model, source.parent / "model")
        self.ours = OURS if has_cascade(store, model) else {"digitrec": ()}
        self.who = (*self.ours, *filter(is_installed, RIVALS))

    def run(self, who: str) -> Run:
        if who in RIVALS:
            script = str(HERE / "end_to_end_rivals.py")
            return timed([DIGITREC[0], script, who, str(self.plain), str(self.source), str(self.target)])
        command = [*DIGITREC, "--store", self.store.url, "score", str(self.source), "--model", self.model.name]
        return timed([*command, *self.ours[who]])

    def answers(self, who: str) -> np.ndarray:
        """int64 [n, 2], ImageId and Label, of the last run, which are removed."""
        path = self.target
        if who not in RIVALS:
            (path,) = Path(full(self.store, "predictions")).glob("*/*/submission.csv")
        answers = np.loadtxt(path, np.int64, delimiter=",", skiprows=1, ndmin=2)
        self.clear()
        return answers

    def clear(self) -> None:
        self.target.unlink(missing_ok=True)
        for folder in ("predictions", "datasets", "pending"):
            shutil.rmtree(full(self.store, folder), ignore_errors=True)

    def compare(self) -> None:
        """Run each once and stop unless all give the same labels. Also compiles and warms what can be."""
        wanted: np.ndarray | None = None
        for who in self.who:
            self.run(who)
            found = self.answers(who)
            wanted = found if wanted is None else wanted
            if not (found[:, 0] == wanted[:, 0]).all() or (found == wanted).all(axis=1).mean() < AGREEING:
                raise SystemExit(f"the labels of {who} are not those of digitrec")

    def compete(self, rounds: int) -> dict[str, list[Run]]:
        runs: dict[str, list[Run]] = {who: [] for who in self.who}
        for number in range(rounds):
            for who, each in runs.items():
                each.append(self.run(who))
                self.clear()
                say(f"  round {number + 1}, {who}: {each[-1].seconds:.2f} s")
        return runs


def summary(runs: dict[str, list[Run]]) -> dict[str, dict[str, object]]:
    medians = {who: statistics.median(run.seconds for run in each) for who, each in runs.items()}
    return {
        who: {
            "median_s": round(medians[who], 3),
            "times_digitrec": round(medians[who] / medians["digitrec"], 2),
            "runs": [{name: round(value, 3) for name, value in asdict(run).items()} for run in each],
        }
        for who, each in runs.items()
    }


if __name__ == "__main__":
    main()
