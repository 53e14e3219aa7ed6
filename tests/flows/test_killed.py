"""Killing `python flows/….py` at any moment: it ends in order if it can, and no process of it is left."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.flows.conftest import FLOWS

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGINT)
SCRIPTS = ("ingest", "train", "score")
SOAKED = 200
MARK = "DIGITREC_TEST_MARK"
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PREFECT_HOME whose database has been made."""
    folder = tmp_path_factory.mktemp("home")
    process = begin("score", folder, "mark", tmp_path_factory.mktemp("store"))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return folder


def begin(script: str, home: Path, mark: str, store: Path, *arguments: str) -> subprocess.Popen[str]:
    """A flow's script as a shell starts it in the foreground; all its processes carry `mark`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, FLOWS / f"{script}.py", "--store", store, *arguments],
        env=kept | {"PREFECT_HOME": str(home), "DIGITREC_THREADS": "1", MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # pytest itself may run in the background, where SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def left(mark: str) -> list[psutil.Process]:
    """Processes that carry the mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_none_is_left(mark: str) -> None:
    end = time.monotonic() + 30
    while processes := left(mark):
        if time.monotonic() > end:
            commands = [process.cmdline() for process in processes]
            for process in processes:
                process.kill()
            raise AssertionError(f"left: {commands}")
        time.sleep(0.05)


def check_kill(script: str, number: signal.Signals, after_s: float, home: Path, ready: Path, digits: Path) -> None:
    """Start a script that has work to do, kill it after some seconds, and look what is left."""
    mark = uuid.uuid4().hex
    arguments = {
        "ingest": [str(digits / "train.csv")],
        "train": ["--preset", "quick", "--dataset", "known"],
        "score": [str(digits / "new.csv")],
    }
    store = shutil.copytree(ready, home.parent / f"store-{mark}")
    process = begin(script, home, mark, store, *arguments[script])
    try:
        with_output = process.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        with_output = process.communicate(timeout=60)
    wait_until_none_is_left(mark)
    shutil.rmtree(store)
    stderr = with_output[1]
    assert "Traceback" not in stderr, stderr
    if number == signal.SIGKILL:
        assert process.returncode in (-signal.SIGKILL, 0)
    elif process.returncode:
        assert process.returncode == 130, stderr
        last = stderr.splitlines()[-1]
        assert (last.startswith("error: "), "the same command goes on" in last) == (True, True), stderr
        assert stderr.count("error: ") == 1


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_killed_script_leaves_no_process(
    script: str, number: signal.Signals, home: Path, trained: Path, digits: Path
) -> None:
    """SIGTERM, SIGHUP and SIGINT: exit 130 and one line. SIGKILL too: its server and its workers are gone."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # shown if it fails
    check_kill(script, number, random.Random(seed).uniform(0.3, 8), home, trained, digits)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_two_hundred_killed_scripts_leave_no_process(home: Path, trained: Path, digits: Path) -> None:
    """As above, over all scripts, signals and moments."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    dice = random.Random(seed)
    for number in range(SOAKED):
        script, kill, after_s = SCRIPTS[number % 3], dice.choice(SIGNALS), dice.uniform(0.1, 12)
        print(f"{number}: {kill.name} to {script} after {after_s:.2f} s", flush=True)  # noqa: T201
        check_kill(script, kill, after_s, home, trained, digits)
