"""What cannot be done is refused in one line, with the exit code that says why, and leaves nothing behind."""

import os
from pathlib import Path

import pytest

from digitrec.contract import KAGGLE_PIXELS
from tests.cli.conftest import Command, published, refused, write_csv


def test_a_missing_file(digitrec: Command, tmp_path: Path) -> None:
    """Exit 66, and its name."""
    refused(digitrec("ingest", "missing.csv"), 66, "missing.csv")
    assert published(tmp_path) == []


def test_a_folder_instead_of_a_file(digitrec: Command, tmp_path: Path) -> None:
    """Exit 66: a folder is no source."""
    (tmp_path / "folder.csv").mkdir()
    refused(digitrec("ingest", "folder.csv"), 66, "folder.csv")


def test_a_named_pipe_does_not_hang(digitrec: Command, tmp_path: Path) -> None:
    """Regular files only: nobody waits for a writer that may never come."""
    os.mkfifo(tmp_path / "pipe.csv")
    refused(digitrec("ingest", "pipe.csv"), 66, "pipe.csv", "expected a CSV file")


def test_an_empty_file(digitrec: Command, tmp_path: Path) -> None:
    """Exit 65."""
    (tmp_path / "empty.csv").touch()
    refused(digitrec("ingest", "empty.csv"), 65, "empty.csv")


def test_a_wrong_header(digitrec: Command, tmp_path: Path) -> None:
    """Exit 65, with the columns that are missing or surplus."""
    write_csv(tmp_path / "wrong.csv", header=(*KAGGLE_PIXELS[:-1], "colour"))
    refused(digitrec("ingest", "wrong.csv"), 65, "wrong.csv", "pixel783", "colour")


def test_all_rows_refused(digitrec: Command, tmp_path: Path) -> None:
    """Exit 65, the reason, and nothing is published."""
    write_csv(tmp_path / "bad.csv", rows=2, pixel="256")
    ended = digitrec("ingest", "bad.csv")
    refused(ended, 65, "all 2 rows were rejected")
    assert "bad.csv" in ended.err
    assert "pixel_out_of_range" in ended.err
    assert published(tmp_path) == []


@pytest.mark.parametrize(
    ("tokens", "code", "word"),
    [
        (["ingest"], 64, "at least one"),
        (["fetch", "idx"], 64, "IDX"),
        (["fetch", "sample", "surplus"], 64, "takes no files"),
        (["ingest", "a.csv", "--dataset", "No Such Name"], 64, "No Such Name"),
        (["score", "--precision", "fp7"], 64, "fp7"),
        (["train"], 66, "digitrec ingest"),
        (["train", "--dataset", "ghost"], 66, "ghost"),
        (["train", "--resume", "quick-12345678"], 66, "quick-12345678"),
        (["score", "--dataset", "ghost"], 66, "ghost"),
        (["promote", "ghost"], 66, "ghost"),
        (["rollback"], 66, "no earlier champion"),
        (["verify", "nowhere"], 66, "nowhere"),
        (["list", "wishes"], 64, "wishes"),
    ],
)
def test_what_is_not_there_or_makes_no_sense(tokens: list[str], code: int, word: str, digitrec: Command) -> None:
    """In an empty store, each command says what is missing, in one line."""
    refused(digitrec(*tokens), code, word)


def test_an_unknown_model(digitrec: Command, tmp_path: Path) -> None:
    """A dataset is there, the model version is not: exit 66."""
    write_csv(tmp_path / "test.csv")
    assert digitrec("ingest", "test.csv", "--dataset", "test").code == 0
    refused(digitrec("score", "--dataset", "test", "--model", "ghost"), 66, "ghost")


def test_verifying_a_store_that_is_not_there_proves_nothing(digitrec: Command) -> None:
    """A mistyped --store is no input, not a whole store."""
    refused(digitrec("verify", "--store", "mistyped"), 66, "mistyped")


def test_training_needs_labels(digitrec: Command, tmp_path: Path) -> None:
    """An unlabelled dataset that is named for training is refused as such."""
    write_csv(tmp_path / "test.csv")
    digitrec("ingest", "test.csv", "--dataset", "test")
    refused(digitrec("train", "--dataset", "test"), 65, "test", "label")


def test_another_content_under_the_same_name(digitrec: Command, tmp_path: Path) -> None:
    """Exit 73, and the first content stays."""
    assert digitrec("ingest", write_csv(tmp_path / "a.csv", rows=3), "--dataset", "x").code == 0
    refused(digitrec("ingest", write_csv(tmp_path / "b.csv", rows=4), "--dataset", "x"), 73, "x")
    assert digitrec("list", "datasets", "--json").answer["found"][0]["rows"] == 3
