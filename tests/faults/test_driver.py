"""The driver is killed, stopped, or started several times at once: the next run goes on; publication happens once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from digitrec.catalog.store import Store
from digitrec.process import GRACE_S
from digitrec.verify import verify
from tests.faults.computing import FOLDER, PARTITIONS, quick
from tests.faults.conftest import Run, parts
from tests.places import full

REPOSITORY = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(ready: Store) -> Iterator[Start]:
    """Start drivers, each in a process group of its own; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def driver(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.driver", ready.url, *arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield driver
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_parts(store: Store, wanted: int) -> None:
    deadline = time.monotonic() + 60
    while len(parts(full(store, FOLDER))) < wanted and time.monotonic() < deadline:
        time.sleep(0.005)


def go(store: Store) -> None:
    Path(full(store, "go")).touch()


def manifest(store: Store) -> Path:
    return Path(full(store, f"{FOLDER}/manifest.json"))


@pytest.mark.parametrize(
    "seen", [*range(10), *(pytest.param(seen % PARTITIONS, marks=pytest.mark.soak) for seen in range(190))]
)
def test_a_killed_driver_leaves_nothing_visible_and_the_next_goes_on(
    ready: Store, start: Start, run: Run, undisturbed: list[str], seen: int
) -> None:
    """SIGKILL of the whole process group in the middle: no manifest; the rerun uses the receipts that can be verified
    and ends with the parts of an undisturbed run, none doubled."""
    driver = start("slow", "processes")
    go(ready)
    wait_for_parts(ready, seen)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not manifest(ready).exists()
    kept = len(list(Path(full(ready, f"{FOLDER}/_attempts")).glob("*.json"))) if seen else 0
    (scored,) = run(quick, processes=False).datasets
    assert parts(scored.folder) == undisturbed
    assert verify(ready).rows == 2 * scored.rows
    (note,) = Path(scored.folder, "runs").iterdir()
    assert f'"resumed_partitions": {kept}' in note.read_text()


def test_workers_do_not_outlive_their_driver(ready: Store, start: Start) -> None:
    """SIGKILL of the driver alone, which cannot clean up any more: its workers end by themselves."""
    driver = start("slow", "processes")
    go(ready)
    wait_for_parts(ready, 1)
    workers = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert workers
    assert alive == []


@pytest.mark.parametrize(
    ("mode", "presses"), [("processes", 1), ("thread", 1), pytest.param("processes", 2, marks=pytest.mark.soak)]
)
def test_ctrl_c_stops_and_says_how_to_go_on(ready: Store, start: Start, run: Run, mode: str, presses: int) -> None:
    """SIGINT, as a terminal sends it to the whole group: one line, exit 130, nothing published, no worker left; also
    for somebody who presses it again."""
    driver = start("slow", mode)
    go(ready)
    wait_for_parts(ready, 2)
    workers = psutil.Process(driver.pid).children(recursive=True)
    for _ in range(presses):
        os.killpg(driver.pid, signal.SIGINT)
        time.sleep(0.2)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130, said
    assert said.startswith("error: stopped with ")
    assert said.endswith("of 240 rows done; they are kept, the same command goes on\n")
    assert said.count("\n") == 1
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert not manifest(ready).exists()
    assert run(quick, processes=False).datasets[0].rows == 240


def test_ctrl_c_waits_for_no_partition_of_this_process(ready: Store, start: Start) -> None:
    """A thread that computes cannot be stopped: the run ends in order all the same, before the process is ended
    without a word, and says how to go on."""
    driver = start("endless", "thread")
    go(ready)
    while not Path(full(ready, "begun")).exists():
        time.sleep(0.01)
    began = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert time.monotonic() - began < GRACE_S
    assert (driver.returncode, said) == (
        130,
        "error: stopped with 0 of 240 rows done; they are kept, the same command goes on\n",
    )


@pytest.mark.parametrize(("drivers", "rounds"), [(8, 20), pytest.param(64, 100, marks=pytest.mark.soak)])
def test_started_several_times_at_once_it_publishes_once(
    ready: Store, undisturbed: list[str], drivers: int, rounds: int
) -> None:
    """The same job in several processes at the same moment: one publishes, the others end well with "already"."""
    with crowd(ready, drivers) as next_round:
        for number in range(rounds):
            assert next_round() == ["already"] * (drivers - 1) + ["published"], f"in round {number}"
            assert parts(full(ready, FOLDER)) == undisturbed
            verify(ready)
            shutil.rmtree(full(ready, "predictions"))


@contextmanager
def crowd(store: Store, drivers: int) -> Iterator[Callable[[], list[str]]]:
    """A process that forks so many drivers at once, each time it is asked, and gives their answers, sorted."""
    command = [sys.executable, "-m", "tests.faults.crowd", store.url, str(drivers)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        asked, answered = process.stdin, process.stdout

        def next_round() -> list[str]:
            asked.write("go\n")
            asked.flush()
            return sorted(answered.readline().split())

        yield next_round
