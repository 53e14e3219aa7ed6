"""CSV → zstd Parquet: digitrec against polars, pyarrow, DuckDB and pandas, whole processes, in turn.

    python bench/ingest.py [--repeat 5] [--rounds 5] [--rivals polars,pyarrow,duckdb,pandas] [--source FILE]
    python bench/ingest.py --rounds 15 --rivals "" --against CHECKOUT

The input is MNIST's 60,000 training digits, `--repeat` times over (5: 550 MB, 50: 5.5 GB), or what `fetch sample` gives
where that file is missing. All outputs are compared before any time is taken. digitrec alone
also checks every field, hashes what it read and wrote, and syncs it to the disk. Writes bench/results/ingest.json.

`--against` is another checkout of digitrec, run in turn with this one by the same Python: pairs and ratios of CPU
time.
"""

import argparse
import gzip
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from machine import DIGITREC, HERE, MNIST, Run, here, keep, say, timed

from digitrec.catalog.reader import images_of
from digitrec.ingest.dialect import Layout
from digitrec.ingest.header import Head, read_opening
from digitrec.ingest.pixels import PADDING, Rows, parse_block
from digitrec.ingest.sources import fetch_sample
from digitrec.options import ReadOptions

PACKAGES = ("numba", "pyarrow")


@dataclass(frozen=True)
class Contest:
    """Where everything lies. `folder` is emptied after each run."""

    source: Path
    folder: Path
    against: Path | None = None

    def run(self, who: str) -> Run:
        out = self.folder / "out"
        if who == "digitrec":
            command = [*DIGITREC, "ingest", str(self.source), "--dataset", "bench", "--store", str(out)]
        elif who == "other":
            program = f"import sys; sys.path.insert(0, {str(self.against)!r}); from digitrec.cli import main; main()"
            command = [
                sys.executable,
                "-c",
                program,
                "ingest",
                str(self.source),
                "--dataset",
                "bench",
                "--store",
                str(out),
            ]
        else:
            command = [sys.executable, str(HERE / "rivals.py"), who, str(self.source), str(out)]
        return timed(command)

    def output(self, who: str) -> np.ndarray:
        """uint8 [n, 785], label first, of the last run."""
        out = self.folder / "out"
        if who in {"digitrec", "other"}:
            # Not by `read_dataset`: the other checkout's manifest may have another format.
            shards = [pq.read_table(path) for path in sorted((out / "datasets/bench").glob("shard-*"))]
            return np.concatenate([np.column_stack([t["label"].to_numpy(), images_of(t["image"])]) for t in shards])
        return np.column_stack([column.to_numpy() for column in pq.read_table(out).columns])

    def clear(self) -> None:
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").unlink(missing_ok=True)


def make_input(source: Path, repeat: int, folder: Path) -> Path:
    """`repeat` times the rows of a labelled CSV, plain, below one header."""
    if not source.exists():
        source = fetch_sample(folder)[0]
    data = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    header = data.index(b"\n") + 1
    path = folder / f"input-{repeat}.csv"
    with path.open("wb") as file:
        file.write(data[:header])
        for _ in range(repeat):
            file.write(data[header:])
    return path


def compare(contest: Contest, names: list[str]) -> None:
    """Run each once, on a small input, and stop unless all outputs are equal. Also compiles and warms what can be."""
    wanted: np.ndarray | None = None
    for who in names:
        contest.run(who)
        found = contest.output(who)
        contest.clear()
        wanted = found if wanted is None else wanted
        if not np.array_equal(found, wanted):
            raise SystemExit(f"the output of {who} differs from that of {names[0]}")


def compete(contest: Contest, names: list[str], rounds: int) -> dict[str, list[Run]]:
    """All in turn, `rounds` times, on an input that lies in the page cache."""
    runs: dict[str, list[Run]] = {who: [] for who in names}
    for number in range(rounds):
        for who in names:
            runs[who].append(contest.run(who))
            contest.clear()
            say(f"  round {number + 1}, {who}: {runs[who][-1].seconds:.2f} s")
    return runs


def kernel_rate(source: Path, threads: int) -> float:
    """GB/s of the kernel alone: lines in memory → images in memory, on `threads` threads at once; best of 5."""
    with source.open("rb") as file:
        header = file.readline()
        lines = file.read(64 << 20)
    data = np.frombuffer(bytearray(PADDING) + lines[: lines.rindex(b"\n") + 1] + bytes(PADDING), np.uint8)
    layout = read_opening(Head(header, whole=False), source.name, ReadOptions()).layout
    with ThreadPoolExecutor(threads) as pool:
        tasks = [(data, Rows.empty(len(data) // 1569 + 1, keyed=False), layout) for _ in range(threads)]
        seconds = []
        for _ in range(6):
            before = time.perf_counter()
            list(pool.map(parse_all, tasks))
            seconds.append(time.perf_counter() - before)
    return threads * len(data) / min(seconds) / 1e9


def parse_all(task: tuple[np.ndarray, Rows, Layout]) -> None:
    data, rows, layout = task
    parse_block(data, PADDING, len(data) - PADDING, layout, rows, 1)


def summary(runs: dict[str, list[Run]], source: Path, rounds: int) -> dict[str, object]:
    size = source.stat().st_size
    medians = {who: statistics.median(run.seconds for run in each) for who, each in runs.items()}
    return {
        "bytes": size,
        "rounds": rounds,
        "kernel_gb_s": {str(threads): round(kernel_rate(source, threads), 2) for threads in (1, 2)},
        "results": {
            who: {
                "median_s": round(medians[who], 3),
                "mb_s": round(size / medians[who] / 1e6),
                "times_digitrec": round(medians[who] / medians["digitrec"], 2),
                "runs": [{name: round(value, 3) for name, value in asdict(run).items()} for run in each],
            }
            for who, each in runs.items()
        },
    }


def table(found: dict[str, object]) -> str:
    rows = [f"{'':10} {'median s':>9} {'spread s':>15} {'MB/s':>6} {'× digitrec':>11} {'CPU s':>7} {'RSS MB':>7}"]
    for who, result in found["results"].items():  # type: ignore[attr-defined]  # as `summary` built it
        seconds = [run["seconds"] for run in result["runs"]]
        cpu, rss = (max(run[name] for run in result["runs"]) for name in ("cpu_seconds", "rss_mb"))
        spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
        rows.append(
            f"{who:10} {result['median_s']:9.2f} {spread:>15} {result['mb_s']:6} {result['times_digitrec']:11.1f} "
            f"{cpu:7.1f} {rss:7.0f}"
        )
    return "\n".join([*rows, f"kernel alone, GB/s by threads: {found['kernel_gb_s']}"])


def pairs(runs: dict[str, list[Run]]) -> str:
    """Ratios of this checkout's CPU time to the other's, pair by pair."""
    ratios = [one.cpu_seconds / other.cpu_seconds for one, other in zip(runs["digitrec"], runs["other"], strict=True)]
    return (
        f"CPU time, this / other, {len(ratios)} pairs: median {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f}–{max(ratios):.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", default="polars,pyarrow,duckdb,pandas")
    parser.add_argument("--source", type=Path, default=MNIST)
    parser.add_argument("--against", type=Path)
    asked = parser.parse_args()
    names = ["digitrec", *(["other"] if asked.against else []), *filter(None, asked.rivals.split(","))]
    machine = here(sorted({*PACKAGES, *names} - {"digitrec", "other"}))
    with tempfile.TemporaryDirectory(prefix="digitrec-bench-") as name:
        folder = Path(name)
        compare(Contest(make_input(asked.source, 1, folder), folder, asked.against), names)
        say("outputs are equal")
        source = make_input(asked.source, asked.repeat, folder)
        runs = compete(Contest(source, folder, asked.against), names, asked.rounds)
        found = summary(runs, source, asked.rounds)
    say(table(found))
    if asked.against:
        say(pairs(runs))
    else:
        keep("ingest", str(asked.repeat), machine | found)


if __name__ == "__main__":
    main()
