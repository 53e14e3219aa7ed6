"""`digitrec score` on what other people have left in landing/: what is published, what is said, how it ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from digitrec.contract import KAGGLE_PIXELS
from tests.cli.conftest import write_csv

SCORE = [sys.executable, "-c", "from digitrec.cli import main; main()", "score"]
EXPECTED = {
    "half.csv": "it ends neither in a newline nor as a whole archive does: its upload may be under way",
    "young.csv": "it was touched in the last 60 s",
    "ahead.csv": "its time lies in the future: its sender's clock is ahead",
}


def score(store: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [*SCORE, *options, "--store", str(store)]
    return subprocess.run(command, cwd=store.parent, capture_output=True, text=True, timeout=300, check=False)


def land(store: Path, name: str, *, first: int = 0, labelled: bool = False, age_s: float = 3600) -> Path:
    """Three images, told apart from other files' by `first`."""
    path = store / "landing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, header=("label", *KAGGLE_PIXELS) if labelled else KAGGLE_PIXELS, pixel=str(first))
    return aged(path, age_s)


def aged(path: Path, age_s: float = 3600) -> Path:
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def names(store: Path, kind: str) -> list[str]:
    """The stems of what is published: names without digests."""
    return sorted(path.parent.name.rpartition("-")[0] for path in store.glob(f"{kind}/*/manifest.json"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, subprocess.CompletedProcess[str]]":
    """The store after one run over all that strangers may leave, and how that ended, in JSON."""
    store = tmp_path_factory.mktemp("strangers") / "store"
    land(store, "good.csv")
    half = land(store, "half.csv", first=1)
    half.write_bytes(half.read_bytes()[:-700])
    aged(half)
    land(store, "young.csv", first=2, age_s=0)
    land(store, "ahead.csv", first=3, age_s=-86_400)
    land(store, "later.csv.part", first=4)
    secret = store.parent / "secret.csv"
    secret.write_text('{"key": "5ec12e7"}\n')
    aged(secret)
    (store / "landing/link.csv").symlink_to(secret)
    (store / "landing/hard.csv").hardlink_to(secret)
    land(store, "day/a.csv", first=5)
    (store / "landing/day/.digitrec.toml").write_text("max_rejects = 1.0\n")
    return store, score(store, "--json")


def reasons(entries: list[dict[str, str]]) -> dict[str, str]:
    return {entry["path"]: entry["reason"] for entry in entries}


def test_links_and_wrong_options_are_named_and_stop_nobody(
    strangers: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    """Exit 0; nothing of what a link points to is told."""
    _, ended = strangers
    assert ended.returncode == 0, ended.stderr
    refused = reasons(json.loads(ended.stdout)["ingested"]["refused"])
    assert sorted(refused) == ["day/.digitrec.toml", "day/a.csv", "hard.csv", "link.csv"]
    assert refused["link.csv"] == refused["hard.csv"] == "a link is not followed: copy the file"
    assert "day/.digitrec.toml: a folder has no option 'max_rejects'" in refused["day/a.csv"]
    assert "5ec12e7" not in ended.stdout + ended.stderr


def test_what_may_not_be_whole_waits_for_the_second_run(
    strangers: "tuple[Path, subprocess.CompletedProcess[str]]",
) -> None:
    """Half, young and future files are named with a reason, and change no exit code; the next run takes them."""
    store, ended = strangers
    landed = json.loads(ended.stdout)["ingested"]
    assert (reasons(landed["waiting"]), landed["uploads"], ended.returncode) == (EXPECTED, 1, 0)
    assert names(store, "datasets") == ["good"]
    again = score(store)
    assert again.returncode == 0, again.stderr
    assert {"ahead", "young"} <= set(names(store, "datasets"))


def test_a_labelled_file_is_said_to_be_for_training(tmp_path: Path) -> None:
    """The run names it, and the command that scores it all the same."""
    store = tmp_path / "store"
    land(store, "good.csv")
    land(store, "labelled.csv", labelled=True)
    ended = score(store)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if "are for training" in line]
    name = line.rpartition(": ")[2]
    assert name.startswith("labelled-")
    assert "`digitrec score --dataset NAME`" in line
    assert score(store, "--dataset", name).returncode == 0


def test_a_folder_says_how_its_files_are_read(tmp_path: Path) -> None:
    """A file without a header, refused in the night before its folder said so."""
    store = tmp_path / "store"
    path = land(store, "bare/a.csv")
    path.write_text(path.read_text().partition("\n")[2])
    aged(path)
    assert "refused: bare/a.csv: " in score(store).stdout
    (store / "landing/bare/.digitrec.toml").write_text("no_header = true\n")
    ended = score(store)
    assert ended.returncode == 0, ended.stderr
    assert "1 new datasets, 3 rows" in ended.stdout


def test_a_corrected_file_of_the_same_size_and_time_is_taken(tmp_path: Path) -> None:
    """As `rsync -t` sends a correction of a single digit."""
    store = tmp_path / "store"
    path = land(store, "a.csv")
    sent = path.stat().st_mtime_ns
    assert "1 new datasets" in score(store).stdout
    path.write_text(path.read_text().replace("\n0,0,", "\n9,0,", 1))
    os.utime(path, ns=(sent, sent))
    assert "1 new datasets, 3 rows; 0 files known" in score(store).stdout
