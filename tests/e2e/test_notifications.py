"""Who is told when a deployed run cannot start, is killed or is cancelled: a server and a worker as processes."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from digitrec.catalog.store import Store
from digitrec.ingest.run import ingest
from digitrec.ingest.sources import fetch_sample
from digitrec.options import IngestOptions
from tests.e2e.topology import BIN, DEPLOYMENTS, ENDED, ROOT, ask, free_port, until

BLOCK = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock
text = {"text": "{{subject}}: {{body}}"}
CustomWebhookNotificationBlock(name="night", url="http://127.0.0.1:PORT", json_data=text).save("night", overwrite=True)
"""
TRAINING = {"options": {"dataset": ["known"], "preset": "default"}}


class Place:
    """A server, a worker with our deployments, and a webhook: `told` has what came."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.told, self.port = folder, list[str](), free_port()
        self.worker: subprocess.Popen[bytes]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DIGITREC_"))}
        self.environment = clean | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DIGITREC_STORE": str(folder / "store"),
            "DIGITREC_THREADS": "1",
            "DIGITREC_NOTIFY": "custom-webhook/night",
        }

    def call(self, *command: str) -> None:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def started(self, *command: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process in a folder that is no checkout, as a service would be; what it leaves is killed."""
        with (self.folder / "log").open("a") as log:
            environment = self.environment | more
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            _, alive = psutil.wait_procs([process, *children], timeout=10)
            for each in alive:
                each.kill()
            process.wait()

    def ask(self, path: str, body: Any = None) -> Any:
        return ask(self.environment["PREFECT_API_URL"] + path, body)

    def begin(self, deployment: str, parameters: dict[str, Any], **environment: str) -> str:
        """Start a run, with variables that its process gets on top of the worker's."""
        found = self.ask(f"/deployments/name/{deployment}")["id"]
        body = {"parameters": parameters, "job_variables": {"env": environment}}
        return str(self.ask(f"/deployments/{found}/create_flow_run", body)["id"])

    def state(self, run: str) -> str:
        return str(self.ask(f"/flow_runs/{run}")["state"]["type"])

    def wait_until_it_trains(self, run: str) -> None:
        until("the task runs", lambda: self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}))

    def wait_for_end(self, run: str) -> str:
        """The final state of a run about which somebody was told."""
        until("the run ends", lambda: self.state(run) in ENDED)
        until("a notification", lambda: self.told, 60)
        return self.state(run)

    def log_of(self, run: str) -> str:
        found = until("a log", lambda: self.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}}))
        return "\n".join(entry["message"] for entry in found)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"))
    ingest(Store.at(str(place.folder / "store")), [str(fetch_sample(place.folder)[0])], IngestOptions(dataset="known"))

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            place.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Keep) as webhook:
        thread = threading.Thread(target=webhook.serve_forever)
        thread.start()
        try:
            with place.started("prefect", "server", "start", "--port", str(place.port)):
                until("the server answers", lambda: place.ask("/health"))
                place.call("prefect", "work-pool", "create", "digitrec", "--type", "process")
                place.call("prefect", "--no-prompt", "deploy", "--prefect-file", str(DEPLOYMENTS), "--all")
                place.call(sys.executable, "-c", BLOCK.replace("PORT", str(webhook.server_port)))
                command = ("prefect", "worker", "start", "--pool", "digitrec")
                with place.started(*command, DIGITREC_HOME=str(ROOT)) as place.worker:
                    yield place
        finally:
            webhook.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def nobody_told(place: Place) -> None:
    place.told.clear()


@pytest.mark.parametrize(
    ("home", "words"),
    [("/gone/away", "DIGITREC_HOME is /gone/away, where no checkout of digitrec is"), ("", "DIGITREC_HOME is not set")],
    ids=["moved", "not set"],
)
def test_a_checkout_that_is_not_there(place: Place, home: str, words: str) -> None:
    """The run crashes before it has any code of ours; its log names the path and the variable, and people are told."""
    run = place.begin("score/nightly", {}, DIGITREC_HOME=home)
    assert place.wait_for_end(run) == "CRASHED"
    assert words in place.log_of(run)
    [told] = place.told
    assert words in told
    assert place.ask(f"/flow_runs/{run}")["name"] in told


def test_a_killed_run_is_told_by_its_own_name(place: Place) -> None:
    """kill -9 of the run's process: the worker knows only the name that Prefect had drawn for it."""
    run = place.begin("train/default", TRAINING)
    place.wait_until_it_trains(run)
    for process in psutil.Process(place.worker.pid).children(recursive=True):
        process.kill()
    assert place.wait_for_end(run) == "CRASHED"
    [told] = place.told
    assert told.startswith("digitrec: Crashed: train default on known: ")


def test_a_cancelled_run_is_told(place: Place) -> None:
    """Cancelled by a person, in the UI or on the command line."""
    run = place.begin("train/default", TRAINING)
    place.wait_until_it_trains(run)
    place.ask(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert place.wait_for_end(run) == "CANCELLED"
    [told] = place.told
    assert "train default on known: Flow run was cancelled" in told
