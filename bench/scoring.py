"""Speed of scoring, with the same weights on the same images: against rivals, against itself, against the machine.

    python bench/scoring.py [compete|workers|memory|fixed|orchestration] [--store STORE] [--model VERSION] [--rows N] …

Without --store a model is trained for it (preset quick, on what `fetch sample` gives).

- *compete*: labels are compared before any time is taken. *Warm* is arithmetic alone, on one core, from images in
  memory to labels, beside the best square product of that arithmetic in the same run. *Whole* is Parquet to published
  parts on all cores: for digitrec of whole processes, start and all; for rivals of their loops alone, without imports,
  and for slow ones on a tenth of the rows, all of which is in their favour. *Bare* loops neither read nor write.
- *workers*: one worker and two. *memory*: all processes together, at few and at many rows.
- *fixed*: `digitrec score one.csv`, an image at a time. *orchestration*: the flow on Dask against processes that take
  partition after partition.

All take turns. Writes bench/results/scoring.json.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scoring_alone as alone
import torch
from machine import HERE, here, keep, say, spread, table, timed
from peaks import multiply_adds, peak, seconds
from scoring_rivals import BARE_BESIDE, BARE_INSIDE, BATCH, RIVALS, Classify, batched
from scoring_store import add_dataset, images_from, trained, with_model

from digitrec.catalog import listing as catalog
from digitrec.catalog.champion import find_champion
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.engines.choice import cascade_of, choose, processor_flags
from digitrec.errors import Misconfigured
from digitrec.scoring.engine import load_engine, read_card
from digitrec.scoring.predict import predict
from tests.places import full

PACKAGES = ("torch", "onnxruntime", "scikit-learn", "ray", "numpy", "pyarrow", "dask", "prefect")
PRECISIONS: tuple[Arithmetic, ...] = ("fp32", "bf16", "int8")
LARGE, SMALL = "bench-large", "bench-small"
QUICK_RIVALS = ("onnxruntime int8", "ray")
WARM_IMAGES = 16 * BATCH
SAME = {"fp32": 0.9999, "int8": 1.0, "bf16": 0.99}
"""Share of labels that must be those of digitrec in the same arithmetic (bf16: in fp32)."""
ROWS = {"compete": 3_000_000, "workers": 1_000_000, "memory": 30_000_000, "fixed": 1, "orchestration": 30_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=ROWS, default="compete")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rivals", default=",".join(RIVALS))
    asked = parser.parse_args()
    rows = asked.rows or ROWS[asked.what]
    machine = here(PACKAGES)
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as name:
        source = Store.at(asked.store) if asked.store else trained(Path(name))
        model = catalog.model(source, asked.model or named_champion(source))
        images, store = images_from(source), with_model(source, model, Path(name, "whole"))
        if asked.what == "compete":
            found = compete(store, model, images, rows, asked.rounds, list(filter(None, asked.rivals.split(","))))
        else:
            found = getattr(alone, asked.what)(store, model, images, rows, asked.rounds)
    keep("scoring", f"{asked.what} {rows}", machine | {"model": model.name, "rounds": asked.rounds} | found)


def named_champion(store: Store) -> str:
    champion = find_champion(store)
    if champion is None:
        raise SystemExit(f"{store.url} has no champion: name a --model")
    return champion.version


def compete(
    store: Store, model: Manifest, images: np.ndarray, rows: int, rounds: int, rivals: list[str]
) -> dict[str, object]:
    """Warm, then whole."""
    contest = Contest(store, model, images, rivals)
    contest.compare()
    say("labels are the same")
    contest.warm(rounds)
    warm = contest.summary()
    say(table("warm, one core: images/s", warm))
    say("  " + ", ".join(f"{name}: {row['share_of_peak']:.1%} of peak" for name, row in warm.items()))
    add_dataset(store, LARGE, images, rows)
    add_dataset(store, SMALL, images, max(1, rows // 10))
    race = Race(store, model, rivals)
    race.run(rounds)
    whole = {name: spread(each) for name, each in race.rates.items()}
    say(table("whole, all cores: rows/s", whole))
    found = ratios({name: row["median"] for name, row in whole.items()})
    say("\n".join(f"{name}: {value}" for name, value in found.items()))
    peaks = {name: round(value / 1e9, 1) for name, value in contest.peaks.items()}
    return {"warm": warm, "whole": whole, "ratios": found, "peak_gmacs": peaks, "auto": contest.auto, "rows": rows}


class Contest:
    """The same images through every contestant, in this process, on one core."""

    def __init__(self, store: Store, model: Manifest, images: np.ndarray, rivals: list[str]) -> None:
        torch.set_num_threads(1)
        card = read_card(store, model)
        self.auto = choose("auto", card, processor_flags()).precision
        self.multiply_adds = multiply_adds(card)
        self.images = images[np.arange(max(len(images), WARM_IMAGES)) % len(images)]
        self.ours = {precision: digitrec_in(store, model, precision) for precision in PRECISIONS}
        self.theirs = {name: RIVALS[name](store, model, 1) for name in rivals if name != "ray"}
        kernels = {f"kernel {precision}": kernel_in(store, model, precision) for precision in PRECISIONS}
        whole = {f"digitrec {precision}": run for precision, run in self.ours.items()}
        self.everyone = kernels | whole | self.theirs
        self.rates: dict[str, list[float]] = {name: [] for name in self.everyone}
        self.peaks: dict[Arithmetic, float] = dict.fromkeys(PRECISIONS, 0.0)

    def compare(self) -> None:
        """Stop unless all give the same labels."""
        wanted = {precision: run(self.images) for precision, run in self.ours.items()}
        found = {name: run(self.images) for name, run in self.theirs.items()}
        for name, labels in {"digitrec bf16": wanted["bf16"], **found}.items():
            precision = arithmetic_of(name)
            same = (labels == wanted["int8" if precision == "int8" else "fp32"]).mean()
            if same < SAME[precision]:
                raise SystemExit(f"{name}: only {same:.3%} of its labels are digitrec's")

    def warm(self, rounds: int) -> None:
        """Images/s of each in turn, and the best products between them."""
        for _ in range(rounds):
            for name, run in self.everyone.items():
                self.rates[name].append(WARM_IMAGES / seconds(lambda run=run: run(self.images[:WARM_IMAGES])))
            for precision in PRECISIONS:
                self.peaks[precision] = max(self.peaks[precision], peak(precision))

    def summary(self) -> dict[str, dict[str, float]]:
        """Medians, ranges, and the share of the peak of that arithmetic."""
        return {name: spread(each) | {"share_of_peak": self.share(name, each)} for name, each in self.rates.items()}

    def share(self, name: str, rates: list[float]) -> float:
        return round(statistics.median(rates) * self.multiply_adds / self.peaks[arithmetic_of(name)], 3)


def arithmetic_of(name: str) -> Arithmetic:
    return next((each for each in PRECISIONS if each in name), "fp32")


def digitrec_in(store: Store, model: Manifest, precision: Arithmetic) -> Classify:
    """From images to labels, confidences and all."""
    engine = load_engine(store, model.name, model.digest, precision)
    return lambda images: predict(engine.network, images, temperature=engine.temperature).label


def kernel_in(store: Store, model: Manifest, precision: Arithmetic) -> Classify:
    """The network alone."""
    return batched(load_engine(store, model.name, model.digest, precision).network)


@dataclass
class Race:
    """Whole processes in turn; `rates` are rows/s of each contestant, one a round."""

    store: Store
    model: Manifest
    rivals: list[str]
    rates: dict[str, list[float]] = field(default_factory=dict)

    def run(self, rounds: int) -> None:
        """One round before the clock counts, for the page cache, with quick contestants only."""
        contestants = self.contestants()
        contestants["digitrec auto"]()
        self.rates.clear()
        for number in range(rounds):
            for name, run in contestants.items():
                run()
                say(f"  round {number + 1}, {name}: {self.rates[name][-1]:,.0f} rows/s")

    def contestants(self) -> dict[str, Callable[[], None]]:
        card = read_card(self.store, self.model)
        auto = choose("auto", card, processor_flags()).precision
        ours: dict[str, tuple[str, ...]] = {"auto": (LARGE,), "fp32": (SMALL, "--precision", "fp32")}
        if auto != "int8":
            ours["int8"] = (LARGE, "--precision", "int8")
        try:
            cascade_of(card)
            ours["cascade"] = (LARGE, "--precision", "int8", "--cascade")
        except Misconfigured as error:
            say(f"not measured: {error}")
        found = {f"digitrec {name}": lambda n=name, o=options: self.ours(n, *o) for name, options in ours.items()}
        theirs = {name: LARGE if name in QUICK_RIVALS else SMALL for name in self.rivals}
        theirs |= {BARE_INSIDE: SMALL, BARE_BESIDE: SMALL}
        return found | {name: lambda n=name, d=dataset: self.theirs(n, d) for name, dataset in theirs.items()}

    def ours(self, name: str, dataset: str, *options: str) -> None:
        run, noted = alone.scored(self.store, self.model, dataset, *options)
        self.note(f"digitrec {name}", noted["rows"] / run.seconds)
        self.note(f"digitrec {name}, pipeline alone", noted["computed"]["rows_per_s"])

    def theirs(self, name: str, dataset: str) -> None:
        target = full(self.store, "rival.parquet")
        script = str(HERE / "scoring_rivals.py")
        timed([sys.executable, script, name, self.store.url, dataset, self.model.name, target])
        noted = json.loads(Path(f"{target}.json").read_text())
        self.note(name, noted["rows"] / noted["seconds"])
        if Path(target).is_dir():  # Ray writes a folder
            shutil.rmtree(target)
        else:
            Path(target).unlink(missing_ok=True)

    def note(self, name: str, rate: float) -> None:
        self.rates.setdefault(name, []).append(rate)


def ratios(rates: dict[str, float]) -> dict[str, float]:
    """What the project promises, as quotients of medians."""
    bare = max(rates[BARE_INSIDE], rates[BARE_BESIDE])
    whole = {
        "auto / bare onnxruntime int8": ("digitrec auto", bare),
        "auto, pipeline alone / bare onnxruntime int8": ("digitrec auto, pipeline alone", bare),
        "auto / torch fp32": ("digitrec auto", rates.get("torch fp32")),
        "auto / digitrec fp32": ("digitrec auto", rates["digitrec fp32"]),
        "cascade / int8": ("digitrec cascade", rates.get("digitrec int8", rates["digitrec auto"])),
    }
    return {name: round(rates[ours] / other, 3) for name, (ours, other) in whole.items() if other and ours in rates}


if __name__ == "__main__":
    main()
