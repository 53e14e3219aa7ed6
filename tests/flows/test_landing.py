"""What a scheduled run's summary says of landing/."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient

from digitrec.catalog.store import Store
from digitrec.contract import KAGGLE_PIXELS
from digitrec.options import ScoreOptions
from tests.flows.conftest import write_csv
from tests.flows.prefect_says import artifacts_of
from tests.places import full


def test_the_summary_names_what_waits_what_is_refused_and_what_is_for_training(
    flows: dict[str, Flow[..., Any]], client: SyncPrefectClient, ready: Store
) -> None:
    """Each with its reason; the run is completed."""
    landing = Path(full(ready, "landing"))
    landing.mkdir()
    rows = np.random.default_rng(0).integers(0, 10, (20, 785), np.uint8) * np.array([1, *[20] * 784], np.uint8)
    write_csv(landing / "labelled.csv", ("label", *KAGGLE_PIXELS), rows)
    write_csv(landing / "half.csv", KAGGLE_PIXELS, rows[:, 1:])
    (landing / "half.csv").write_bytes((landing / "half.csv").read_bytes()[:-99])
    (landing / "link.csv").symlink_to("labelled.csv")
    for name in ("labelled.csv", "half.csv"):
        os.utime(landing / name, (time.time() - 3600,) * 2)
    state = flows["score"]([], ScoreOptions(), ready.url, return_state=True)
    assert state.is_completed()
    summary = str(artifacts_of(client, state.state_details.flow_run_id)["score-summary"].data)
    waiting, refused = summary.partition("### Waiting")[2], summary.partition("### Refused")[2]
    assert "half.csv\\: it ends neither in a newline" in waiting
    assert "link.csv\\: a link is not followed\\: copy the file" in refused
    assert "labelled datasets are for training" in summary.partition("### Notes")[2]
