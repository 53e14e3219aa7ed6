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
from digitrec.options import IngestOptions
from tests.flows.prefect_says import artifacts_of, log_of

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


def test_rows_are_given_back_to_their_own_error(room: Any) -> None:
    """Not to a later one, within a script or after it."""
    earlier = BadData("2 of 3 rows were refused", details=(ROW,))

    def fail_after() -> None:
        with room.rows_given_back():
            room.withhold_rows(earlier)
            raise BadData("another's")

    with pytest.raises(BadData) as raised:
        fail_after()
    assert (earlier.details, raised.value.details) == ((), ())


def test_rows_leave_if_they_may(
    refusing: Flow[..., Any], client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DIGITREC_SHARE_ROWS=1 they stand below the message."""
    monkeypatch.setenv("DIGITREC_SHARE_ROWS", "1")
    state = refusing(return_state=True)
    assert state.message == f"2 of 3 rows were refused\n{ROW}"


SECRET = "5ec12e7"


def lines(digits: Path, name: str) -> list[str]:
    return (digits / name).read_text().splitlines()


def keyed(digits: Path) -> list[str]:
    """Every row has the same key."""
    header, *rows = lines(digits, "new.csv")
    return [f"id,{header}", *(f"{SECRET},{row}" for row in rows)]


def bad_value(digits: Path) -> list[str]:
    """One row, which is rejected; and all of them."""
    header, first, *rows = lines(digits, "new.csv")
    return [header, f"{SECRET}{first}", *rows]


def bad_values(digits: Path) -> list[str]:
    header, *rows = lines(digits, "new.csv")
    return [header, *(f"{SECRET}{row}" for row in rows)]


def named_rows(digits: Path) -> list[str]:
    """Row names that the header does not know, as R writes them."""
    header, *rows = lines(digits, "new.csv")
    return [header, *(f"{SECRET}-{number}x,{row}" for number, row in enumerate(rows))]


def late_label(digits: Path) -> list[str]:
    """A label column that is empty first."""
    header, *rows = lines(digits, "train.csv")
    return [
        header,
        *(f"{'' if number == 0 else SECRET},{row.partition(',')[2]}" for number, row in enumerate(rows[:40])),
    ]


def cut_short(digits: Path) -> list[str]:
    header, *rows = lines(digits, "new.csv")
    return [f"{header},id", *(f"{row},{SECRET}" for row in rows[:-1]), f"{rows[-1][:50]},{SECRET}"]


@pytest.mark.parametrize("make", [keyed, bad_value, bad_values, named_rows, late_label, cut_short])
def test_no_value_of_a_row_reaches_prefect(
    make: Any, flows: dict[str, Flow[..., Any]], client: SyncPrefectClient, digits: Path, tmp_path: Path
) -> None:
    """Not in states, logs, artifacts or kept results, whether the file is taken or refused."""
    path = tmp_path / "a.csv"
    path.write_text("\n".join(make(digits)) + ("" if make is cut_short else "\n"))
    with temporary_settings({"results.persist_by_default": True, "results.local_storage_path": tmp_path / "results"}):
        state = flows["ingest"]([str(path)], IngestOptions(), str(tmp_path / "store"), return_state=True)
        run = state.state_details.flow_run_id
        assert run
        shown = [f"{artifact.description}{artifact.data}" for artifact in artifacts_of(client, run).values()]
        assert SECRET not in everything_sent(client, state) + "".join(shown)
    assert shown or "nothing was published" in (state.message or "")
