"""What a night says: its summary, its three ends, and whom it tells."""

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from prefect import Flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient

from digitrec.catalog.listing import published
from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS
from digitrec.options import IngestOptions, ScoreOptions
from digitrec.scoring import run
from digitrec.scoring.run import score_all
from tests.flows.conftest import write_csv
from tests.flows.prefect_says import artifacts_of
from tests.places import full

Flows = dict[str, Flow[..., Any]]


def noise(rows: int) -> np.ndarray:
    """What no model can be sure of: uint8 [rows, 784]."""
    return np.random.default_rng(rows).integers(0, 255, (rows, 784), np.uint8)


def summary_of(client: SyncPrefectClient, state: Any) -> str:
    return str(artifacts_of(client, state.state_details.flow_run_id)["score-summary"].data)


def test_a_night_beyond_its_soft_limits_is_complete_and_called_degraded(
    flows: Flows, client: SyncPrefectClient, ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of noise are all published; the run is Completed, named Degraded, with a warning and, where images may
    leave the store, a picture."""
    monkeypatch.setenv("DIGITREC_SHARE_ROWS", "1")
    write_csv(tmp_path / "noise.csv", KAGGLE_PIXELS, noise(30))
    limits = {"soft_unsure": 0.01}
    state = flows["score"]([str(tmp_path / "noise.csv")], ScoreOptions(), ready.url, limits=limits, return_state=True)
    assert (state.is_completed(), state.name) == (True, "Degraded")
    assert "unsure" in state.message
    assert [scored.rows for scored in state.result().scored.datasets] == [30]
    shown = artifacts_of(client, state.state_details.flow_run_id)
    assert "unsure" in str(shown["score-degraded"].data)
    assert "data:image/png;base64," in summary_of(client, state)


def test_a_night_within_its_limits_is_completed(
    flows: Flows, client: SyncPrefectClient, ready: Store, tmp_path: Path
) -> None:
    """The same images with limits that allow them: Completed, no warning; rows and rejects stand in the table."""
    write_csv(tmp_path / "noise.csv", KAGGLE_PIXELS, noise(20))
    limits = {"soft_unsure": 1.0}
    state = flows["score"]([str(tmp_path / "noise.csv")], ScoreOptions(), ready.url, limits=limits, return_state=True)
    assert state.name == "Completed"
    shown = artifacts_of(client, state.state_details.flow_run_id)
    assert "score-degraded" not in shown
    assert "data:image" not in summary_of(client, state)
    [row] = json.loads(str(shown["score-table"].data))
    assert (row["rows"], row["rejects"]) == (20, 0)


def test_a_picture_that_cannot_be_made_fails_nothing(
    flows: Flows, client: SyncPrefectClient, ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that is damaged once its predictions are published: the run is Completed, its summary and table are
    there, and a note says what could not be shown."""
    monkeypatch.setenv("DIGITREC_SHARE_ROWS", "1")
    write_csv(tmp_path / "noise.csv", KAGGLE_PIXELS, noise(25))
    flows["score"]([str(tmp_path / "noise.csv")], ScoreOptions(dataset="later-damaged"), ready.url)
    shard = next(Path(full(ready, "datasets/later-damaged")).glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    state = flows["score"]([], ScoreOptions(dataset="later-damaged"), ready.url, return_state=True)
    assert state.is_completed(), state.message
    assert [scored.already for scored in state.result().scored.datasets] == [True]
    told = summary_of(client, state)
    assert "data:image" not in told
    assert "cannot show the picture of unsure digits" in told.replace("\\", "")
    assert shard.name in told.replace("\\", "")
    [row] = json.loads(str(artifacts_of(client, state.state_details.flow_run_id)["score-table"].data))
    assert row["rows"] == 25


def test_a_damaged_shard_and_its_neighbour(
    flows: Flows, client: SyncPrefectClient, ready: Store, tmp_path: Path
) -> None:
    """The scheduled run publishes what it can, says in its summary what failed, and ends Failed."""
    for name, rows in (("good-one", 11), ("bad-one", 12)):
        write_csv(tmp_path / "noise.csv", KAGGLE_PIXELS, noise(rows))
        flows["ingest"]([str(tmp_path / "noise.csv")], IngestOptions(dataset=name), ready.url)
    shard = next(Path(full(ready, "datasets/bad-one")).glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    state = flows["score"]([], ScoreOptions(), ready.url, return_state=True)
    assert state.is_failed()
    told = summary_of(client, state).replace("\\", "")
    assert f"bad-one: {shard}" in told
    assert "| good-one | 11 |" in told
    shutil.rmtree(full(ready, "datasets/bad-one"))


def test_what_a_first_try_has_scored_is_told_by_the_second(
    flows: Flows, client: SyncPrefectClient, ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage fails for one of two datasets and is tried again: summary, table, answer and the name of the run's state
    are of both, though the other one had been published by then."""
    for name, rows in (("at-once", 13), ("later", 14)):
        write_csv(tmp_path / "noise.csv", KAGGLE_PIXELS, noise(rows))
        flows["ingest"]([str(tmp_path / "noise.csv")], IngestOptions(dataset=name), ready.url)
    in_the_way = Path(full(ready, "predictions/later"))
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("a file where a folder belongs")
    reports = []

    def score_and_clear(*given: Any) -> Any:
        reports.append(score_all(*given))
        if len(reports) == 1:
            in_the_way.unlink()
        return reports[-1]

    monkeypatch.setattr(run, "score_all", score_and_clear)
    limits = {"soft_unsure": 0.01}
    state = flows["score"]([], ScoreOptions(), ready.url, limits=limits, return_state=True)
    assert [[scored.dataset for scored in report.datasets] for report in reports] == [["at-once"], ["later"]]
    assert (state.is_completed(), state.name) == (True, "Degraded")
    assert "at-once" in state.message
    assert [scored.dataset for scored in state.result().scored.datasets] == ["at-once", "later"]
    told = summary_of(client, state)
    assert "| at-once | 13 |" in told.replace("\\", "")
    rows = json.loads(str(artifacts_of(client, state.state_details.flow_run_id)["score-table"].data))
    assert [row["dataset"] for row in rows] == ["at-once", "later"]


def test_names_from_outside_are_escaped(flows: Flows, client: SyncPrefectClient, ready: Store, tmp_path: Path) -> None:
    """A file of landing/ whose name is Markdown and terminal codes is refused by a name that is neither."""
    landing = Path(full(ready, "landing"))
    landing.mkdir(exist_ok=True)
    bad = landing / "x\n```\n![t](https:evil)<b>`|\x1b[31m.csv"
    bad.write_text("no,digits\n1,2\n")
    os.utime(bad, (0, 0))
    state = flows["score"]([], ScoreOptions(), ready.url, return_state=True)
    bad.unlink()
    shown = artifacts_of(client, state.state_details.flow_run_id)
    for key in ("score-summary", "ingest-summary"):
        text = str(shown[key].data)
        html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
        assert "evil" in html
        assert not re.search("<(img|a|b)[ >]", html)
        assert "\x1b" not in text


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server on the loopback that keeps what is posted to it: its address, and what came."""
    came: list[dict[str, str]] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Keep) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", came
        server.shutdown()
        thread.join()


def test_a_failed_run_is_told_to_the_notification_block(
    flows: Flows,
    server: None,
    store: Store,
    webhook: tuple[str, list[dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DIGITREC_NOTIFY names a block of Prefect: a failed run's name and line go there; nothing is published."""
    url, came = webhook
    block = CustomWebhookNotificationBlock(name="night", url=url, json_data={"text": "{{subject}}: {{body}}"})
    block.save("night", overwrite=True)
    monkeypatch.setenv("DIGITREC_NOTIFY", "custom-webhook/night")
    assert flows["score"]([], ScoreOptions(), store.url, return_state=True).is_failed()
    [message] = came
    assert message["text"].startswith("digitrec: Failed: score what is new with the champion: ")
    assert published(store, "predictions") == []
