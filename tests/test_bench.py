"""The bench from end to end, as `make bench` calls it in a fresh clone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_bench_from_end_to_end_needs_nothing_but_the_clone(tmp_path: Path) -> None:
    """Without a store and without MNIST's file it has a model with a cascade, and compares what is installed."""
    bench = Path(
        shutil.copytree(ROOT / "bench", tmp_path / "clone" / "bench", ignore=shutil.ignore_patterns("results"))
    )
    done = subprocess.run(
        [sys.executable, bench / "end_to_end.py", "--rows", "200", "--rounds", "1"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "DIGITREC_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((bench / "results" / "end_to_end.json").read_text())["200"]
    assert {"digitrec", "digitrec --cascade", "pandas + torch"} <= set(found["results"])
    assert "labels are the same" in done.stdout
    assert "digitrec --cascade: " in done.stdout
