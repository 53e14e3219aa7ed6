"""`digitrec …` run in this process, and how it ended."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from digitrec.cli import app
from digitrec.contract import KAGGLE_PIXELS
from digitrec.terminal import run_app


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict:
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture
def digitrec(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `digitrec …` in this process, in the test's own folder."""

    def run(*tokens: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_app(app, [str(token) for token in tokens])
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


def write_csv(path: Path, rows: int = 3, *, header: tuple[str, ...] = KAGGLE_PIXELS, pixel: str = "0") -> Path:
    """A file of `rows` images; every pixel is `pixel`, but for the first, which tells the rows apart, and a bright last
    one."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([str(row % 256), *[pixel] * (len(header) - 2), "200"] for row in range(rows))
    return path


def published(folder: Path) -> list[str]:
    """Everything in the store that a reader could see."""
    return sorted(path.parent.name for path in folder.glob("store/*/**/manifest.json"))


def refused(ended: Ended, code: int, *words: str) -> None:
    """One line on stderr with these words, nothing on stdout, the exit code."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in errors[0]
