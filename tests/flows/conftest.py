"""A Prefect server of the tests' own, and the flows as a worker loads them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness

FLOWS = Path(__file__).parents[2] / "flows"


@pytest.fixture(autouse=True)
def one_thread(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little work on one core: threads that wait for one another are slow where others use the machine too."""
    monkeypatch.setenv("DIGITREC_THREADS", "1")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server with an empty database, for flows that run in this process."""
    defaults = {"home": tmp_path_factory.mktemp("prefect"), "server.analytics_enabled": False}
    with temporary_settings(defaults), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def client(server: None) -> Iterator[SyncPrefectClient]:
    """What the server says of the runs."""
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="session")
def flows() -> dict[str, Flow[..., Any]]:
    """The flows by name, loaded by entry point."""
    return {name: load_flow_from_entrypoint(f"{FLOWS / name}.py:{name}") for name in ("ingest", "train", "score")}
