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
from digitrec.settings import load_settings

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
            self.send_response(answers.get("status", 200 if self.path in answers else 404))
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


@pytest.fixture
def refusing(server: str, answers: Answers) -> str:
    """The same server, which knows nobody."""
    answers["status"] = 401
    return server


def todo() -> dict[str, str]:
    """What is to be done, by what was looked at."""
    return {finding.what: finding.todo for finding in check_prefect(load_settings()) if finding.todo}


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
    assert next(finding.found for finding in check_prefect(load_settings())) == f"{server} answers"


def first() -> tuple[str, str]:
    """What is found of the server, and what is to be done."""
    finding = next(iter(check_prefect(load_settings())))
    return finding.found, finding.todo


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody at the address: start it, or do without."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert todo() == {"prefect": "start it with `prefect server start`, or unset PREFECT_API_URL to do without"}
    assert "http://127.0.0.1:9/api (PREFECT_API_URL, set in the environment) does not answer" in first()[0]


def test_an_address_without_api(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is there, and its REST interface is elsewhere: the right address is named."""
    monkeypatch.setenv("PREFECT_API_URL", server.removesuffix("/api"))
    assert todo() == {"prefect": f"set PREFECT_API_URL={server}"}


def test_an_address_in_a_profile_is_called_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To unset a variable would not help: the file is named."""
    monkeypatch.delenv("PREFECT_API_URL")
    (tmp_path / "profiles.toml").write_text('active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n')
    assert f"set in profile 'a' of {tmp_path}/profiles.toml" in first()[0]


def test_a_proxy_in_front(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live server behind a proxy that does not know it: the proxy is named, without its password."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://me:sec/ret@127.0.0.1:9")
    assert first() == (f"{server} answers", "")  # as the flows have it, no proxy leads to the loopback
    elsewhere = server.replace("127.0.0.1", "0.0.0.0")
    monkeypatch.setenv("PREFECT_API_URL", elsewhere)
    found, what = first()
    assert "hidden by the proxy http://***@127.0.0.1:9" in found
    assert what == "export NO_PROXY=0.0.0.0"
    monkeypatch.setenv("NO_PROXY", "0.0.0.0")
    assert first() == (f"{elsewhere} answers", "")


def test_the_store_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What DIGITREC_ENV_FILE names is read for this as for all else."""
    monkeypatch.delenv("DIGITREC_STORE")
    assert list(todo()) == ["DIGITREC_STORE"]
    (tmp_path / "mine.env").write_text("DIGITREC_STORE=/data/store\n")
    monkeypatch.setenv("DIGITREC_ENV_FILE", str(tmp_path / "mine.env"))
    assert todo() == {}


@pytest.mark.parametrize("given", [None, "other:secret"])
def test_a_server_that_refuses_us(refusing: str, given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """401: the auth string is missing or another server's; it is not shown."""
    monkeypatch.setenv("PREFECT_API_URL", refusing)
    if given:
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", given)
    found, what = first()
    assert "refuses us with 401" in found
    assert ("PREFECT_API_AUTH_STRING, set in the environment, is not the server's" in found) is bool(given)
    assert "secret" not in found + what
    assert "as the server has it in PREFECT_SERVER_API_AUTH_STRING" in what


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:abc/api", "ftp://127.0.0.1/api"])
def test_an_address_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is quoted, with what one looks like."""
    monkeypatch.setenv("PREFECT_API_URL", url)
    found, what = first()
    assert url in found
    assert what.startswith("expected http://HOST:PORT/api")


def test_the_deployments_looked_for_are_those_of_the_file() -> None:
    """The doctor's list and deployments/prefect.yaml name the same."""
    entries = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    assert {f"{entry['entrypoint'].split(':')[1]}/{entry['name']}" for entry in entries} == DEPLOYMENTS
