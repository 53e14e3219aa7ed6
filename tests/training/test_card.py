"""The card says what a person wants to know of a model; nothing in it would another run of the same training change."""

import json
from dataclasses import dataclass

import pytest

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.options import TrainOptions
from digitrec.training.run import TrainReport
from tests.training.conftest import Digits, file_of, publish_rows, train


@dataclass(frozen=True)
class Trained:
    store: Store
    report: TrainReport

    def read(self, name: str) -> str:
        return file_of(self.store, self.report.version, name).decode()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Trained:
    """A model version, trained on 1,000 rows."""
    store = Store.at(tmp_path_factory.mktemp("card"))
    publish_rows(store, "sample", digits[0][:1000], digits[1][:1000])
    return Trained(store, train(store, TrainOptions(preset="quick")))


@pytest.fixture(scope="module")
def card(trained: Trained) -> dict:
    return json.loads(trained.read("card.json"))


def test_quality_comes_with_intervals(card: dict) -> None:
    """Of accuracy and of each digit's recall."""
    metrics = card["metrics"]
    assert metrics["interval95"][0] < metrics["accuracy"] < metrics["interval95"][1]
    assert all(
        low <= share <= high for share, (low, high) in zip(metrics["recall"], metrics["recall_interval95"], strict=True)
    )
    assert sum(bin_["rows"] for bin_ in metrics["reliability"]) == metrics["rows"] == card["rows"]["validation"]


def test_calibration_before_and_after(card: dict) -> None:
    """The error without the temperature, with it, and on rows that it was not fitted on."""
    assert card["calibration"]["temperature"] == card["temperature"]
    assert card["calibration"]["error_fitted"] == card["metrics"]["calibration_error"]
    assert set(card["calibration"]) == {"temperature", "error_uncalibrated", "error_fitted", "error_cross_fitted"}


def test_data_and_cost_in_numbers_that_no_machine_changes(card: dict) -> None:
    """Datasets with rows and digests; images shown, and three multiply-adds for each weight and image."""
    assert [(entry["name"], entry["rows"], len(entry["digest"])) for entry in card["datasets"]] == [
        ("sample", 1000, 64)
    ]
    batch = card["hyperparameters"]["batch"]
    assert card["cost"]["images_shown"] == 5 * (card["rows"]["training"] // batch) * batch
    assert card["cost"]["multiply_adds"] == 3 * card["cost"]["images_shown"] * (784 * 32 + 32 * 10)


def test_when_where_and_how_fast_lie_beside_it(trained: Trained, card: dict) -> None:
    """In runs/<uuid>.json, which the manifest does not name."""
    storage, runs = trained.store.storage, f"models/{trained.report.version}/runs"
    (run,) = (json.loads(storage.read(f"{runs}/{name}")) for name in storage.list(runs))
    assert {"at", "seconds", "images_per_s", "threads", "processor", "gpu", "multiplied", "system"} <= set(run)
    assert run["processor"]
    assert not set(run) - {"format"} & set(card)
    assert not [file.path for file in catalog.model(trained.store, card["version"]).files if "runs" in file.path]


def test_the_page_for_people_says_it_too(trained: Trained, card: dict) -> None:
    """With the warning that epoch and temperature were chosen by the same rows."""
    page = trained.read("card.md")
    assert f"# {card['version']}" in page
    assert f"**{card['metrics']['accuracy']:.2%}** (95 % interval" in page
    assert "chosen by the same rows" in " ".join(page.split())
    assert f"| sample | 1,000 | {card['datasets'][0]['digest'][:12]} |" in page
    assert page.count("|\n") == 10 + 2 + len(card["metrics"]["reliability"]) + 2 + 1 + 2
