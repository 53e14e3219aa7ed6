"""`digitrec` as a process of its own, in somebody else's environment."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from digitrec.catalog.store import Store

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from digitrec.cli import main; main()")
SMALL_TOO = "from digitrec.scoring import executors; executors.IN_PROCESS_ROWS = 0; "
ON_DASK = (sys.executable, "-c", f"{SMALL_TOO}from digitrec.cli import main; main()")
"""The command, with small jobs on a cluster of Dask's as well."""


@dataclass(frozen=True)
class Ended:
    """How a process ended. `lines`: of stderr, without the log's."""

    code: int
    out: str
    lines: tuple[str, ...]

    @property
    def error(self) -> str:
        """The one line that says what was wrong; it must be the last one and the only one of its kind."""
        errors = [line for line in self.lines if line.startswith("error: ")]
        assert errors == [self.lines[-1]], self.lines
        assert not [line for line in self.lines if "Traceback" in line], self.lines
        return errors[0]


Run = Callable[..., Ended]


def finish(command: Sequence[object], cwd: Path, environment: dict[str, str]) -> Ended:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    return Ended(done.returncode, done.stdout, tuple(done.stderr.splitlines()))


def clean(**variables: str) -> dict[str, str]:
    """The environment without what the libraries here read, and with `variables`."""
    ours = ("DIGITREC_", "PREFECT_", "DASK_", "NUMBA_", "MPL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`digitrec TOKENS` with these variables, in the test's folder or in `cwd`."""

    def start(*tokens: object, cwd: Path | None = None, command: Sequence[str] = COMMAND, **variables: str) -> Ended:
        return finish([*command, *tokens], cwd or tmp_path, clean(**variables))

    return start


@pytest.fixture
def ready(store: Store) -> Store:
    """A store with a champion in int8 and a dataset to score."""
    from tests.scoring.making import (  # torch, which most tests here can do without
        make_dataset,
        make_images,
        make_model,
    )

    make_model(store, agreement=1.0)
    make_dataset(store, "night", make_images(40))
    return store
