"""The same command again, with what makes no difference changed, and with what does."""

import shutil
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from tests.cli.conftest import Command, refused, write_csv
from tests.scoring.making import make_model


@pytest.fixture
def scored(digitrec: Command, tmp_path: Path) -> Command:
    """Dataset `x` of 30 rows, ingested and scored."""
    make_model(Store.at("store"))
    write_csv(tmp_path / "a.csv", rows=30)
    assert digitrec("ingest", "a.csv", "--dataset", "x").code == 0
    assert digitrec("score").code == 0
    return digitrec


@pytest.mark.parametrize("score", [("score",), ("score", "--dataset", "x")])
def test_other_content_under_a_name_that_was_removed_is_scored(
    scored: Command, tmp_path: Path, score: tuple[str, ...]
) -> None:
    """Exit 0, the new rows, and where the earlier predictions are now."""
    shutil.rmtree("store/datasets/x")
    write_csv(tmp_path / "b.csv", rows=20, pixel="1")
    assert scored("ingest", "b.csv", "--dataset", "x").code == 0
    refused(scored("verify"), 74, "another state of dataset x", "digitrec score --dataset x")
    ended = scored(*score)
    assert ended.code == 0, ended.err
    assert "x: scored in" in ended.out
    assert "20 rows" in ended.out
    assert "set aside in" in ended.out
    (submission,) = tmp_path.glob("store/predictions/x/*/submission.csv")
    assert len(submission.read_text().splitlines()) == 21
    assert scored("verify").code == 0
    assert "nothing to score" in scored("score").out


def test_another_threshold_is_another_count_of_the_same_predictions(scored: Command) -> None:
    """Exit 0, already published, counted anew; and the default again."""
    default = scored("score", "--dataset", "x", "--json").answer["scored"]["datasets"][0]
    for threshold, expected in (("1", 30), ("0", 0), ("0.8", None), ("0.9", default["unsure"])):
        ended = scored("score", "--dataset", "x", "--unsure-below", threshold, "--json")
        assert ended.code == 0, ended.err
        (found,) = ended.answer["scored"]["datasets"]
        assert (found["already"], found["unsure_below"]) == (True, float(threshold))
        assert expected is None or found["unsure"] == expected
    told = scored("score", "--dataset", "x", "--unsure-below", "0.8").out
    assert "already published" in told
    assert "below 0.8" in told


def test_a_threshold_that_could_not_be_counted_exactly(scored: Command) -> None:
    """Exit 64 with the value."""
    refused(scored("score", "--unsure-below", "0.12345"), 64, "--unsure-below 0.12345: expected at most three decimals")


def test_ids_that_a_submission_lacks_are_said(scored: Command, tmp_path: Path) -> None:
    """Of a file with rejected rows, the report names the ids that are missing, each time."""
    path = write_csv(tmp_path / "c.csv", rows=400)
    lines = path.read_text().splitlines()
    lines[5] = lines[5].replace("4,0", "300,0", 1)
    lines[6] = "x" + lines[6]
    path.write_text("\n".join(lines) + "\n")
    for told in ("scored in", "already published"):
        ended = scored("score", "c.csv", "--dataset", "c")
        assert ended.code == 0, ended.err
        assert told in ended.out
        assert "2 of 400 rows were rejected and have no line in submission.csv (image ids 5 to 6)" in ended.out
