"""How a stage looks in Prefect: its failure, its second try, its log and its progress."""

import json
import logging
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from markdown_it import MarkdownIt
from prefect import Flow, flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.logging import get_logger
from prefect.logging.handlers import APILogHandler

from digitrec.errors import (
    BadData,
    Corrupt,
    DigitrecError,
    Misconfigured,
    StorageFailed,
    TryAgain,
    Unavailable,
    combined,
)
from digitrec.progress import Step
from tests.flows.prefect_says import artifacts_of, log_of

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(scope="module")
def room(flows: dict[str, Flow[..., Any]]) -> Any:
    """The module that the flows share; loading a flow makes it importable, as on a worker."""
    import _stage

    return _stage


class Work:
    """A stage that fails with each of `errors`, then succeeds, and counts how often it was asked."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def end(room: Any, work: Callable[[], object]) -> State[Any]:
    """The final state of a flow whose only stage does `work`; a second try does not wait."""

    def run() -> object:
        return work()

    staged = room.stage("work")(run).with_options(retry_delay_seconds=0)

    @flow(name="one-stage")
    @room.in_one_line
    def one_stage() -> object:
        return staged()

    return one_stage(return_state=True)


def run_id(state: State[Any]) -> UUID:
    assert state.state_details.flow_run_id
    return state.state_details.flow_run_id


@pytest.mark.parametrize("error", [TryAgain("a"), Unavailable("b"), StorageFailed("c")])
def test_what_may_pass_is_tried_again(room: Any, error: Exception) -> None:
    """A failure that may pass (`transient`) is tried again, and the flow completes."""
    work = Work(error)
    assert end(room, work).is_completed()
    assert work.asked == 2


@pytest.mark.parametrize("error", [BadData("a"), Corrupt("b"), Misconfigured("c"), ValueError("d")])
def test_what_will_not_pass_is_not_tried_again(room: Any, error: Exception) -> None:
    """Bad data, damaged bytes, wrong settings and bugs fail at once."""
    work = Work(error)
    assert end(room, work).is_failed()
    assert work.asked == 1


def test_a_failed_flow_says_the_error_s_line_and_nothing_else(room: Any) -> None:
    """The state's message is the error's own line; the caller gets the error itself."""
    state = end(room, Work(BadData("train.csv: line 3 has 7 columns, expected 785")))
    assert state.message == "train.csv: line 3 has 7 columns, expected 785"
    with pytest.raises(BadData, match="line 3"):
        state.result()


def test_when_the_last_try_fails_there_is_no_trace(room: Any, caplog: pytest.LogCaptureFixture) -> None:
    """After three tries the flow fails with the line; Prefect's log of it, then and later, carries no trace."""
    work = Work(*[StorageFailed("disk full: free some space")] * 3)
    state = end(room, work)
    assert work.asked == 3
    assert state.message == "disk full: free some space"
    try:
        state.result()
    except StorageFailed:
        # What Prefect's engine does in a worker's process.
        get_logger("flow_runs").exception("Engine execution exited", extra={"send_to_api": False})
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("errors", [(Corrupt("a"), StorageFailed("b")), (StorageFailed("b"), Corrupt("a"))])
def test_of_several_failures_one_that_may_pass_is_enough(room: Any, errors: tuple[DigitrecError, ...]) -> None:
    """Whichever came first: a damaged file and a full disk are tried again, for the sake of the disk."""
    work = Work(combined(errors, "2 of 2 datasets were not scored"))
    assert end(room, work).is_completed()
    assert work.asked == 2


def test_what_is_only_for_show_fails_nothing(
    room: Any, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with an artifact, also a bug of ours or of Prefect's: the run completes, its log says so."""

    def refuse(*_: object) -> None:
        raise ZeroDivisionError("no such picture")

    monkeypatch.setattr(room, "create_markdown_artifact", refuse)

    def work() -> None:
        with room.shown("work"):
            room.leave("work", ["line"], [{"a": 1}])

    state = end(room, work)
    assert state.is_completed()
    APILogHandler().flush()
    said = [line for line in log_of(client, run_id(state)) if "work-summary" in line]
    assert "cannot show work-summary: ZeroDivisionError: no such picture" in said[0]
    assert "work-table" in artifacts_of(client, run_id(state))


def test_what_is_shown_is_escaped(room: Any, client: SyncPrefectClient) -> None:
    """Names from outside, in the log, the summary, the table and a failure's message: no terminal codes, no forged
    lines, nothing that leaves its block."""
    name = "x\n```\n![t](https://evil.example/p.png)\x1b[31m\u202e.csv"

    def work() -> None:
        with room.shown("work"):
            logging.getLogger("digitrec.landing").info("looking at %s", name)
            room.leave("work", [f"refused: {name}"], [{"file": name}])
        raise BadData(f"{name} is wrong")

    state = end(room, work)
    APILogHandler().flush()
    found = artifacts_of(client, run_id(state))
    assert all(line.isprintable() for line in log_of(client, run_id(state)) if "looking at" in line)
    assert state.message is not None
    assert state.message.isprintable()
    summary = str(found["work-summary"].data)
    assert "<img" not in MarkdownIt("gfm-like", {"linkify": False}).render(summary)
    assert set(summary) - {"\n"} == {character for character in summary if character.isprintable()}
    [row] = json.loads(str(found["work-table"].data))
    assert row["file"].isprintable()


def test_the_name_of_a_run_is_short_and_printable(room: Any) -> None:
    """However long a source's name is, and whatever is in it."""
    assert room.abridged(["/a/\x1b[31m.csv", "b"]) == "\\x1b[31m.csv and 1 more"
    assert len(room.abridged(["x" * 300])) == 80


def test_a_bug_keeps_its_trace(room: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An error that is not digitrec's is logged by Prefect in full."""
    assert end(room, Work(ZeroDivisionError())).is_failed()
    assert [record for record in caplog.records if record.exc_info]


def test_the_library_s_log_is_shown_in_prefect(room: Any, client: SyncPrefectClient) -> None:
    """What the library logs during a stage appears in the run's log, also from threads that know of no run."""

    def talk() -> None:
        with room.shown("talk"):
            logging.getLogger("digitrec.scoring").info("from the stage")
            thread = threading.Thread(target=logging.getLogger("digitrec").warning, args=("from a thread",))
            thread.start()
            thread.join()

    state = end(room, talk)
    APILogHandler().flush()
    assert {"from the stage", "from a thread"} <= set(log_of(client, run_id(state)))


def test_progress_is_one_bar_that_ends_where_the_stage_ended(room: Any, client: SyncPrefectClient) -> None:
    """However many steps a stage reports, its run has one progress artifact, which shows the last of them."""

    def count() -> None:
        with room.shown("count") as progress:
            for done in range(1, 1001):
                progress(Step("count", done, 1000, "rows", {"rate": "9/s"}))

    bar = artifacts_of(client, run_id(end(room, count)))["count-progress"]
    assert float(str(bar.data)) == 100
    assert bar.description == "count: 1,000 of 1,000 rows, rate 9/s"


def test_without_a_total_there_is_no_bar(room: Any, client: SyncPrefectClient) -> None:
    """A stage that cannot say how much there is to do leaves no progress artifact."""

    def count() -> None:
        with room.shown("count") as progress:
            progress(Step("count", 1, None, "rows"))

    assert artifacts_of(client, run_id(end(room, count))) == {}


def test_a_long_table_is_cut_and_says_so(room: Any, client: SyncPrefectClient) -> None:
    """A result of 1,000 rows becomes a table of the first 100, with the number of all in its description."""
    state = end(room, lambda: room.leave("much", ["1,000 rows"], [{"row": row} for row in range(1000)]))
    artifacts = artifacts_of(client, run_id(state))
    assert "1,000 rows" in str(artifacts["much-summary"].data)
    assert len(json.loads(str(artifacts["much-table"].data))) == 100
    assert artifacts["much-table"].description == "the first 100 of 1,000"


def test_a_deployed_run_needs_an_absolute_store(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by a worker, a relative store is a configuration error that names DIGITREC_STORE."""
    assert room.settings_for(None).store == "./store"
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "b1a2")
    with pytest.raises(Misconfigured, match="DIGITREC_STORE"):
        room.settings_for(None)
    assert room.settings_for("/data/store").store == "/data/store"
    assert room.settings_for("~/store").store == "~/store"
