"""Rows and images stay in the store and on the terminal; Prefect and notifications get them only if told to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.settings import get_current_settings, temporary_settings

from digitrec.errors import BadData
from tests.flows.prefect_says import log_of

pytestmark = pytest.mark.usefixtures("server")
ROW = "a.csv:2, pixel7: not_an_integer: 7,0,Meier"


@pytest.fixture(scope="module")
def room(flows: dict[str, Flow[..., Any]]) -> Any:
    import _stage

    return _stage


@pytest.fixture
def refusing(room: Any, tmp_path: Path) -> Iterator[Flow[..., Any]]:
    """A flow whose stage finds bad rows, where Prefect keeps results and errors in files."""

    @room.stage("ingest")
    def ingest() -> None:
        raise BadData("2 of 3 rows were refused", details=(ROW,))

    @flow(name="refusing")
    @room.in_one_line
    def refusing() -> None:
        ingest()

    kept = {"results.persist_by_default": True, "results.local_storage_path": tmp_path / "results"}
    with temporary_settings(kept):
        yield refusing


def everything_sent(client: SyncPrefectClient, state: State[Any]) -> str:
    """What the server has of a run, and what Prefect keeps of it."""
    APILogHandler().flush()
    assert state.state_details.flow_run_id
    storage = get_current_settings().results.local_storage_path
    kept = [path.read_bytes().decode(errors="replace") for path in Path(storage).rglob("*") if path.is_file()]
    return "\n".join([state.message or "", *log_of(client, state.state_details.flow_run_id), *kept])


def test_rows_do_not_leave(
    refusing: Flow[..., Any], room: Any, client: SyncPrefectClient, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a state, a log, a kept result nor Prefect's console has them; whoever runs the script gets them."""
    state = refusing(return_state=True)
    assert state.message == "2 of 3 rows were refused"
    assert "Meier" not in everything_sent(client, state) + "".join(capfd.readouterr())
    with pytest.raises(BadData) as raised, room.rows_given_back():
        refusing()
    assert raised.value.details == (ROW,)


def test_rows_leave_if_they_may(
    refusing: Flow[..., Any], client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DIGITREC_SHARE_ROWS=1 they stand below the message."""
    monkeypatch.setenv("DIGITREC_SHARE_ROWS", "1")
    state = refusing(return_state=True)
    assert state.message == f"2 of 3 rows were refused\n{ROW}"
