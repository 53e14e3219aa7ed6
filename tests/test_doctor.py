"""`digitrec doctor` on Prefect: what it asks of a server, and what it says to do. The server's answers are canned; that
they are Prefect's own, tests/e2e/test_topology.py sees."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from digitrec.orchestration import DEPLOYMENTS, check_prefect

ROOT = Path(__file__).parents[1]
Answers = dict[str, Any]

WELL: Answers = {
    "/api/admin/version": version("prefect"),
    "/api/work_pools/digitrec/workers/filter": [{"name": "a", "status": "ONLINE"}],
    "/api/flows/filter": [{"id": name, "name": name} for name in ("ingest", "train", "score")],
    "/api/deployments/filter": [
        {"flow_id": flow, "name": name} for flow, name in (deployment.split("/") for deployment in sorted(DEPLOYMENTS))
    ],
}


@pytest.fixture
def answers() -> Answers:
    """What the server says to each request; a request that is not here is answered by 404."""
    return dict(WELL)


@pytest.fixture(autouse=True)
def server(answers: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A server on the loopback, named by PREFECT_API_URL."""

    class Say(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200 if self.path in answers else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path)).encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Say) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", url)
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
        monkeypatch.setenv("DIGITREC_STORE", "/data/store")
        yield url
        server.shutdown()
        thread.join()


def todo() -> dict[str, str]:
    """What is to be done, by what was looked at."""
    return {finding.what: finding.todo for finding in check_prefect() if finding.todo}


def test_where_all_is_well_nothing_is_to_be_done() -> None:
    """A fitting server with a worker and all deployments: no line says what to do."""
    assert todo() == {}


def test_a_pool_without_a_worker_that_is_online(answers: Answers) -> None:
    """A pool whose workers are all offline: the line says how to start one."""
    answers["/api/work_pools/digitrec/workers/filter"] = [{"name": "a", "status": "OFFLINE"}]
    assert todo() == {"work pool": "prefect worker start --pool digitrec"}


def test_no_pool_at_all(answers: Answers) -> None:
    """Without a pool the line begins with its creation."""
    del answers["/api/work_pools/digitrec/workers/filter"]
    assert todo()["work pool"].startswith("prefect work-pool create digitrec --type process")


def test_a_missing_deployment(answers: Answers) -> None:
    """A deployment that is in the file and not on the server is named by the line that deploys it."""
    answers["/api/deployments/filter"] = [
        entry for entry in answers["/api/deployments/filter"] if entry["name"] != "nightly"
    ]
    assert "deploy --prefect-file" in todo()["deployments"]


def test_a_server_of_another_minor_version(answers: Answers) -> None:
    """A server that is not of the client's minor version is said aloud."""
    answers["/api/admin/version"] = "3.1.0"
    assert list(todo()) == ["prefect versions"]


def test_the_address_may_stand_in_the_profile(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the variable, the active profile's address is asked."""
    monkeypatch.delenv("PREFECT_API_URL")
    (tmp_path / "profiles.toml").write_text(f'active = "here"\n[profiles.here]\nPREFECT_API_URL = "{server}"\n')
    assert next(finding.found for finding in check_prefect()) == f"{server} answers"


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address: start it, or do without."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert todo() == {"prefect": "prefect server start, or unset PREFECT_API_URL"}


def test_the_deployments_looked_for_are_those_of_the_file() -> None:
    """The doctor's list and deployments/prefect.yaml name the same."""
    entries = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    assert {f"{entry['entrypoint'].split(':')[1]}/{entry['name']}" for entry in entries} == DEPLOYMENTS
