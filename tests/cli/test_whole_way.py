"""What was asked for is done, and told; asked again, it is found done."""

import os
from pathlib import Path

from digitrec.contract import KAGGLE_PIXELS
from tests.cli.conftest import Command, published, write_csv


def test_the_whole_way_on_real_digits(digitrec: Command, tmp_path: Path) -> None:
    """fetch, ingest, train, score, verify: at least 96.5 % of the sample's answers are right."""
    assert digitrec("fetch", "sample", "--to", "data").code == 0
    assert digitrec("ingest", "data/train.csv", "--dataset", "train").code == 0
    assert digitrec("train", "--preset", "quick").code == 0
    scored = digitrec("score", "data/test.csv", "--dataset", "test")
    assert scored.code == 0, scored.err
    (submission,) = tmp_path.glob("store/predictions/test/*/submission.csv")
    answers = (tmp_path / "data/answers.csv").read_text().splitlines()
    given = submission.read_text().splitlines()
    assert given[0] == answers[0] == "ImageId,Label"
    assert len(given) == len(answers) == 1001
    assert sum(a == b for a, b in zip(given[1:], answers[1:], strict=True)) >= 965
    assert digitrec("verify").code == 0
    again = digitrec("score", "data/test.csv", "--dataset", "test")
    assert (again.code, "already published" in again.out) == (0, True)
    damaged = next(tmp_path.glob("store/predictions/test/*/part-*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert digitrec("verify").code == 74


def test_the_same_again_is_success(digitrec: Command, tmp_path: Path) -> None:
    """Exit 0, "already ingested"; a script sees it in JSON."""
    write_csv(tmp_path / "a.csv")
    assert digitrec("ingest", "a.csv").code == 0
    assert "already ingested" in digitrec("ingest", "a.csv").out
    assert digitrec("ingest", "a.csv", "--json").answer["already"] is True
    assert len(published(tmp_path)) == 1


def test_a_night_with_neither_champion_nor_data(digitrec: Command) -> None:
    """Exit 66, and the commands that would help."""
    ended = digitrec("score")
    assert ended.code == 66
    assert "train one with `digitrec ingest train.csv` and `digitrec train`" in ended.err


def test_a_night_without_champion_still_says_what_it_refused(digitrec: Command, tmp_path: Path) -> None:
    """The scoring cannot be done (exit 66); what became of landing/ is told all the same."""
    (tmp_path / "store/landing").mkdir(parents=True)
    wrong = write_csv(tmp_path / "store/landing/wrong.csv", header=(*KAGGLE_PIXELS[:-1], "colour"))
    os.utime(wrong, (0, 0))
    ended = digitrec("score")
    assert ended.code == 66
    assert "wrong.csv" in ended.out
