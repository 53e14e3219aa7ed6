"""A folder of landing/ may say how its files are read, in `.digitrec.toml`; it cannot loosen a check."""

from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from digitrec.ingest.landing import ingest_landing
from digitrec.ingest.landing_scan import OPTIONS_MAX_BYTES, parse_options
from digitrec.options import IngestOptions

from .files import UNLABELLED, csv_of
from .landed import land, place, records, refused

BARE = csv_of(UNLABELLED, rows=3).partition(b"\n")[2]
"""No header."""
NO_HEADER = b"no_header = true\n"


def test_the_files_of_a_folder_are_read_as_it_says(store: Store) -> None:
    """And those of the folders below it; other folders' are not."""
    land(store, "bare/.digitrec.toml", NO_HEADER)
    land(store, "bare/a.csv", BARE)
    land(store, "bare/day/b.csv", csv_of(UNLABELLED, rows=4).partition(b"\n")[2])
    land(store, "c.csv", csv_of(UNLABELLED, rows=5).partition(b"\n")[2])
    report = ingest_landing(store)
    assert [entry.rows for entry in report.ingested] == [3, 4]
    assert list(refused(report)) == ["c.csv"]
    assert ingest_landing(store).known == 2


def test_the_nearest_folder_wins_as_a_whole(store: Store) -> None:
    """An empty file takes back what a folder above has said."""
    land(store, ".digitrec.toml", NO_HEADER)
    land(store, "day/.digitrec.toml", b"")
    land(store, "day/a.csv", csv_of())
    (report,) = ingest_landing(store).ingested
    assert (report.rows, report.labelled) == (3, True)


def test_all_four_options_reach_the_request(store: Store) -> None:
    """A whole number does for `pixel_max`."""
    text = b'no_header = true\nlabel = "first"\nkey = "name"\npixel_max = 16\n'
    asked = IngestOptions(no_header=True, label="first", key="name", pixel_max=16.0)
    assert parse_options(text) == asked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            b"max_rejects = 1.0\n",
            "a folder has no option 'max_rejects'; expected only no_header, label, key, pixel_max",
        ),
        (b"allow_unterminated = true\n", "'allow_unterminated'"),
        (b'dataset = "train"\n', "'dataset'"),
        (b'"\\u001b[31m" = 1\n', r"'\x1b[31m'"),
        (b'no_header = "yes"\n', "no_header = 'yes': input should be a valid boolean"),
        (b"no_header = 1\n", "no_header = 1"),
        (b"label = 5\n", "label = 5: input should be a valid string"),
        (b'pixel_max = "16"\n', "pixel_max = '16'"),
        (b"pixel_max = true\n", "pixel_max = True"),
        (b"pixel_max = nan\n", "pixel_max = nan"),
        (b"pixel_max = -1\n", "pixel_max = -1"),
        (b"[options]\nno_header = true\n", "'options'"),
        (b"no_header\n", "it is no TOML: "),
        (b"\xff\n", "it is no TOML: "),
        (b"label = " + b"[" * 60_000, "it is no TOML: "),
        (b"#" * (OPTIONS_MAX_BYTES + 1), "it is longer than 65,536 bytes"),
    ],
)
def test_a_wrong_options_file_holds_its_folder_back(text: bytes, words: str, store: Store) -> None:
    """Itself and each file are named with the reason, nothing is remembered, other folders' files are taken."""
    land(store, "day/.digitrec.toml", text)
    land(store, "day/a.csv", csv_of())
    land(store, "day/below/b.csv", csv_of(first=5))
    land(store, "c.csv", csv_of(first=9))
    report = ingest_landing(store)
    assert sorted(refused(report)) == ["day/.digitrec.toml", "day/a.csv", "day/below/b.csv"]
    assert words in refused(report)["day/.digitrec.toml"]
    assert refused(report)["day/a.csv"] == "day/.digitrec.toml: " + refused(report)["day/.digitrec.toml"]
    assert len(report.ingested) == len(records(store)) == 1
    land(store, "day/.digitrec.toml", b"")
    assert len(ingest_landing(store).ingested) == 2


def test_an_options_file_that_is_a_link_holds_its_folder_back(store: Store, tmp_path: Path) -> None:
    """Nothing of what it points to is told."""
    (tmp_path / "secret").write_text("5ec12e7 = true\n")
    place(store, "day/.digitrec.toml").symlink_to(tmp_path / "secret")
    land(store, "day/a.csv", csv_of())
    report = ingest_landing(store)
    assert list(refused(report)) == ["day/.digitrec.toml", "day/a.csv"]
    assert "a link is not followed" in refused(report)["day/a.csv"]
    assert "5ec12e7" not in "\n".join(report.lines())


def test_refused_files_are_looked_at_again_when_the_options_change(store: Store) -> None:
    """And remembered for as long as they do not."""
    land(store, "day/a.csv", BARE)
    for _ in range(2):
        assert list(refused(ingest_landing(store))) == ["day/a.csv"]
    land(store, "day/.digitrec.toml", NO_HEADER)
    assert [entry.rows for entry in ingest_landing(store).ingested] == [3]
    place(store, "day/.digitrec.toml").unlink()
    assert list(refused(ingest_landing(store))) == ["day/a.csv"]
    assert len(records(store)) == 2


def test_a_remedy_that_is_an_option_is_one_that_landing_has(store: Store) -> None:
    """Nobody can give the command an option for a single file."""
    land(store, "day/a.csv", BARE)
    reasons = refused(ingest_landing(store))
    assert "--no-header reads it (in landing/: no_header, in a file .digitrec.toml beside it)" in reasons["day/a.csv"]
    assert refused(ingest_landing(store)) == reasons


def test_the_same_bytes_under_other_options_are_another_request(store: Store) -> None:
    """In the same run too; options that say what holds anyhow make none."""
    land(store, "bare/.digitrec.toml", NO_HEADER)
    land(store, "bare/a.csv", BARE)
    land(store, "usual/.digitrec.toml", b"no_header = false\n")
    land(store, "usual/a.csv", BARE)
    land(store, "z.csv", BARE)
    report = ingest_landing(store)
    assert [entry.rows for entry in report.ingested] == [3]
    assert list(refused(report)) == ["usual/a.csv", "z.csv"]
    assert len(records(store)) == 2


def test_an_options_file_is_neither_source_nor_upload(store: Store) -> None:
    """Although its name is hidden."""
    land(store, ".digitrec.toml", NO_HEADER)
    report = ingest_landing(store)
    assert (report.refused, report.waiting, report.uploads) == ((), (), 0)


def test_labelled_datasets_are_said_to_be_for_training(store: Store) -> None:
    """Nobody will score them unasked; how to ask is said."""
    land(store, "a.csv", csv_of())
    land(store, "b.csv", csv_of(UNLABELLED))
    report = ingest_landing(store)
    labelled = report.ingested[0].dataset
    assert report.notes == [
        "labelled datasets are for training, the scheduled run does not score them "
        f"(`digitrec score --dataset NAME` does): {labelled}"
    ]
    assert ingest_landing(store).notes == []
