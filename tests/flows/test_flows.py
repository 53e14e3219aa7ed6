"""The three flows with the real stages, on real digits: what they publish, what Prefect shows, what they ask for."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.logging.handlers import APILogHandler

from digitrec.catalog.listing import listing, published
from digitrec.catalog.store import Store
from digitrec.errors import BadData, NoInput, UsageError
from digitrec.options import IngestOptions, ScoreOptions, TrainOptions
from tests.flows.conftest import NEW_ROWS, TRAINING_ROWS
from tests.flows.prefect_says import artifacts_of, log_of
from tests.places import full

Flows = dict[str, Flow[..., Any]]


def run_id(state: Any) -> Any:
    return state.state_details.flow_run_id


def test_ingest_seals_a_dataset_and_shows_it(
    flows: Flows, client: SyncPrefectClient, digits: Path, store: Store
) -> None:
    """`ingest` publishes a dataset; its run is named after the file and shows dataset, rows and rejects."""
    state = flows["ingest"]([str(digits / "train.csv")], IngestOptions(dataset="known"), store.url, return_state=True)
    assert [manifest.name for manifest in published(store, "dataset")] == ["known"]
    assert client.read_flow_run(run_id(state)).name == "ingest train.csv as known"
    [row] = json.loads(str(artifacts_of(client, run_id(state))["ingest-table"].data))
    assert (row["dataset"], row["rows"], row["rejects"]) == ("known", TRAINING_ROWS, 0)


def test_train_seals_a_model_version_and_shows_it(flows: Flows, client: SyncPrefectClient, ready: Store) -> None:
    """`train` asked twice finds its version; the run shows version, accuracy and who is champion, and a full bar."""
    state = flows["train"](TrainOptions(preset="quick", promote=True), ready.url, return_state=True)
    [model] = published(ready, "model")
    assert client.read_flow_run(run_id(state)).name == "train quick on the newest labelled dataset"
    [row] = json.loads(str(artifacts_of(client, run_id(state))["train-table"].data))
    assert row["version"] == model.name


def test_score_does_the_night_s_work_and_shows_it(
    flows: Flows, client: SyncPrefectClient, ready: Store, digits: Path
) -> None:
    """`score` takes a file given as a source, publishes predictions of each row, shows a table, links to them."""
    state = flows["score"]([str(digits / "new.csv")], ScoreOptions(), ready.url, return_state=True)
    assert [manifest.rows for manifest in published(ready, "predictions")] == [NEW_ROWS]
    assert client.read_flow_run(run_id(state)).name == "score new.csv with the champion"
    shown = artifacts_of(client, run_id(state))
    [row] = json.loads(str(shown["score-table"].data))
    assert row["rows"] == NEW_ROWS
    [listed] = listing(ready, "predictions")
    assert Path(full(ready, listed.folder)).as_uri() in str(shown["score-predictions"].data)
    assert float(str(shown["score-progress"].data)) == 100
    APILogHandler().flush()
    assert log_of(client, run_id(state))


def test_a_second_score_changes_nothing(flows: Flows, ready: Store, digits: Path) -> None:
    """What is published is not computed again: the same request is the same work."""
    first = flows["score"]([str(digits / "new.csv")], ScoreOptions(), ready.url)
    again = flows["score"]([str(digits / "new.csv")], ScoreOptions(), ready.url)
    assert [scored.already for scored in again.scored.datasets] == [True]
    assert [scored.folder for scored in again.scored.datasets] == [scored.folder for scored in first.scored.datasets]


def test_score_with_neither_champion_nor_data_says_what_to_do(flows: Flows, server: None, store: Store) -> None:
    """In an empty store the run ends Failed with a line that names the next command; nothing is published."""
    state = flows["score"]([], ScoreOptions(), store.url, return_state=True)
    assert state.is_failed()
    assert "digitrec" in state.message
    assert "\n" not in state.message
    with pytest.raises(NoInput):
        state.result()


def test_refused_rows_fail_the_run_with_the_reason(flows: Flows, server: None, tmp_path: Path, store: Store) -> None:
    """A file that is no CSV of digits ends the run Failed with ingest's own line; nothing is published."""
    (tmp_path / "words.csv").write_text("not,digits\n1,2\n")
    state = flows["ingest"]([str(tmp_path / "words.csv")], IngestOptions(), store.url, return_state=True)
    assert state.is_failed()
    assert "words.csv" in state.message
    with pytest.raises(BadData):
        state.result()
    assert published(store, "dataset") == []


def test_ingest_without_a_file_says_so(flows: Flows, server: None, store: Store) -> None:
    """An empty list of sources is a usage error."""
    with pytest.raises(UsageError, match="at least one"):
        flows["ingest"]([], IngestOptions(), store.url)
