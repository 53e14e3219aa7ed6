"""The topology of deployments/compose.yaml as processes on the loopback: PostgreSQL, Prefect, Dask, a worker.

Each process can be killed, paused and started again by its name.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments" / "prefect.yaml"
BIN = Path(sys.executable).parent
POSTGRES_BINARIES = ("/usr/lib/postgresql/*/bin", "/usr/local/bin", "/usr/bin")
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
BUSY_S = 60.0
"""Its SQLite database may be locked for longer than the server waits for it."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def until(what: str, met: Callable[[], Any], limit_s: float = 240) -> Any:
    """What `met` returns as soon as it is true; a server that is away just now is no error."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if found := met():
                return found
        time.sleep(0.1)
    raise AssertionError(f"not within {limit_s:.0f} s: {what}")


def ask(address: str, body: Any = None) -> Any:
    """What a Prefect server answers; as long as it is busy (503) it is asked again, as Prefect's own client does."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    end = time.monotonic() + BUSY_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > end:
                    raise
        time.sleep(0.2)


class Postgres:
    """A cluster of its own, which PostgreSQL refuses to run as root."""

    def __init__(self) -> None:
        self.port = free_port()
        self.user = "postgres" if os.geteuid() == 0 else None
        # Not pytest's folder: another user must reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="digitrec-postgres-"))
        if self.user:
            shutil.chown(self.folder, self.user)
        try:
            name = self.user or pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            pytest.skip("PostgreSQL refuses a user without a name")
        self.url = f"postgresql+asyncpg://{name}@127.0.0.1:{self.port}/postgres"
        self.control("initdb", "-o", "--auth=trust --no-sync --encoding=UTF8")

    def control(self, *arguments: str) -> None:
        command = [pg_ctl(), *arguments, "--silent", "-D", str(self.folder / "data")]
        # A file, not a pipe: the server that is started would hold the pipe open.
        with (self.folder / "pg_ctl.log").open("a") as log:
            done = subprocess.run(command, cwd="/", user=self.user, stdout=log, stderr=log, check=False)
        assert done.returncode == 0, (self.folder / "pg_ctl.log").read_text()

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off -c max_connections=50"
        self.control("start", "--wait", "--log", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        """As if the power failed: no checkpoint, no good-bye."""
        self.control("stop", "--mode=immediate")

    def remove(self) -> None:
        with suppress(AssertionError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def pg_ctl() -> str:
    """Debian keeps it out of the path."""
    for pattern in POSTGRES_BINARIES:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            if (folder / "pg_ctl").exists():
                return str(folder / "pg_ctl")
    raise AssertionError("no pg_ctl: install Debian's `postgresql`")


class Topology:
    """All processes, by name. `store` must be absolute."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.postgres = Postgres()
        self.port, self.dask = free_port(), f"tcp://127.0.0.1:{free_port()}"
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DIGITREC_"))}
        self.environment = clean | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.postgres.url,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "DIGITREC_HOME": str(ROOT),
            "DIGITREC_STORE": str(store),
            "DIGITREC_DASK": self.dask,
            "DIGITREC_THREADS": "1",
        }
        self.commands = {
            "server": ["prefect", "server", "start", "--port", str(self.port)],
            "scheduler": ["dask", "scheduler", "--host", self.dask, "--dashboard-address", "127.0.0.1:0"],
            "dask-worker": [
                *("dask", "worker", self.dask, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny"),
                *("--dashboard-address", "127.0.0.1:0", "--preload", "digitrec.scoring.worker"),
            ],
            "worker": ["prefect", "worker", "start", "--pool", "digitrec", "--name", "worker"],
        }

    @contextmanager
    def running(self) -> Iterator["Topology"]:
        """Everything started and deployed; ended by process id, also if the tests are ended by SIGTERM."""
        (self.folder / "home").mkdir(parents=True)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self.postgres.start()
            for name in ("scheduler", "dask-worker", "server"):
                self.start(name)
            self.wait_for_server()
            self.prefect("work-pool", "create", "digitrec", "--type", "process")
            self.prefect("--no-prompt", "deploy", "--prefect-file", str(DEPLOYMENTS), "--all")
            self.start("worker")
            yield self
        finally:
            for name in reversed(list(self.processes)):
                self.end(name)
            self.postgres.remove()
            signal.signal(signal.SIGTERM, before)

    def start(self, name: str) -> None:
        """In a folder that is not the checkout, as a service would be."""
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def end(self, name: str) -> None:
        """In peace if it hears us: a shell's background job ignores the SIGINT that Prefect makes of SIGTERM."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """A process that stands still."""
        self.processes[name].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes[name].send_signal(signal.SIGCONT)

    def wait_for_server(self) -> None:
        until(f"the server answers:\n{self.logs()}", lambda: self.ask("/health"))

    def prefect(self, *arguments: str) -> str:
        """A `prefect …` command, typed in the root of the checkout; its output. Fails where the command fails."""
        done = subprocess.run(
            ["prefect", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done.stdout

    def ask(self, path: str, body: Any = None) -> Any:
        """The server's answer to a request of its REST interface."""
        return ask(self.url + path, body)

    def begin(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment; its id."""
        found = self.ask(f"/deployments/name/{deployment}")
        run: str = self.ask(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"]
        return run

    def state(self, run: str) -> dict[str, Any]:
        """The run's state: `type`, `name`, `message`."""
        state: dict[str, Any] = self.ask(f"/flow_runs/{run}")["state"]
        return state

    def finished(self, run: str, limit_s: float = 240) -> dict[str, Any]:
        """The final state of a run."""

        def final() -> dict[str, Any] | None:
            state = self.state(run)
            return state if state["type"] in ENDED else None

        try:
            return until(f"run {run} ends", final, limit_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.state(run)}\n{self.logs()}") from None

    def of_run(self, kind: str, run: str) -> list[dict[str, Any]]:
        """The `logs` or `artifacts` of a run."""
        found: list[dict[str, Any]] = self.ask(f"/{kind}/filter", {kind: {"flow_run_id": {"any_": [run]}}})
        return found

    def logs(self) -> str:
        return "".join(f"\n--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))
