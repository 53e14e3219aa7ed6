"""`submission.csv`: under the user's own ids where there are any, and what is not in it is said."""

import csv
import io
import string
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitrec.catalog.manifest import Manifest, read_manifest
from digitrec.catalog.publish import publish
from digitrec.catalog.reader import read_predictions
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt
from digitrec.options import ScoreOptions
from digitrec.scoring.run import score
from digitrec.scoring.submission import lines_with_keys
from digitrec.settings import Settings
from digitrec.verify import verify
from tests.places import full
from tests.scoring.making import Shape, make_dataset, make_images, make_model
from tests.scoring.test_run import NIGHT

KEYS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\",\r\n;' =")), min_size=1, max_size=12)


def lines_of(path: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(Path(path).read_bytes().decode(), newline="")))


def test_it_is_kaggles(store: Store, settings: Settings) -> None:
    """Kaggle's header, and a line for each image, in order."""
    make_model(store)
    make_dataset(store, "night", make_images(700), Shape(((100, 250), (350,))))
    (scored,) = score(store, NIGHT, settings).datasets
    header, *lines = Path(scored.submission).read_text().splitlines()
    assert header == "ImageId,Label"
    assert lines == [f"{row.image_id},{row.label}" for row in read_predictions(scored.folder).itertuples()]
    assert scored.notes == ()


def test_it_has_the_users_own_ids(ready: Store, settings: Settings) -> None:
    """Where a dataset has row keys, they are the ImageIds; `verify` compares them too."""
    (scored,) = score(ready, NIGHT, settings).datasets
    frame = read_predictions(scored.folder)
    assert lines_of(scored.submission) == [
        ["ImageId", "Label"],
        *map(list, zip(frame["key"], map(str, frame["label"]), strict=True)),
    ]
    verify(ready)
    path = Path(scored.submission)
    path.write_text(path.read_text().replace("key 8,", "key 9,", 1))
    with pytest.raises(Corrupt, match="submission"):
        verify(ready)


@given(st.lists(st.tuples(KEYS, st.integers(0, 9)), max_size=20), st.integers(0, 3))
def test_any_key_comes_back(rows: list[tuple[str, int]], start: int) -> None:
    """Quoted only where RFC 4180 wants it, whatever is in it, and whatever part of a table it is."""
    table = pa.table(
        {"key": pa.array([key for key, _ in rows], pa.string()), "label": pa.array([n for _, n in rows], pa.uint8())}
    ).slice(start)
    text = lines_with_keys(table).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [[key, str(label)] for key, label in rows[start:]]
    plain = set(string.ascii_letters + string.digits + " ;'=")
    if all(set(key) <= plain for key, _ in rows):
        assert '"' not in text


def with_facts(store: Store, **facts: object) -> None:
    """Say more of dataset `night`, as its ingest would have."""
    there = read_manifest(store, "datasets/night")
    Path(full(store, "datasets/night/manifest.json")).unlink()
    publish(store, replace(there, facts=there.facts | facts))


@pytest.mark.parametrize(
    ("shape", "rejects", "told"),
    [
        (
            Shape(((20,),), gap=7),
            0,
            "3 of 23 rows were rejected and have no line in submission.csv (image ids 7, 14, 21)",
        ),
        (Shape(((6, 6), (8,)), gap=7), 3, "3 of 23 rows were rejected"),
        (Shape(((5,),)), 4, "4 of 9 rows were rejected and have no line in submission.csv (image ids 6 to 9)"),
        (Shape(((60,),), gap=2), 60, "(image ids 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, …)"),
    ],
)
def test_ids_that_are_missing_are_named(
    store: Store, settings: Settings, shape: Shape, rejects: int, told: str
) -> None:
    """How many, and the first ten or runs of them: within a row group, between two, and at the end."""
    make_model(store)
    make_dataset(store, "night", make_images(shape.rows), shape)
    with_facts(store, rejects={"bad_pixel": rejects})
    for _ in "new", "already published":
        report = score(store, NIGHT, settings)
        (note,) = report.datasets[0].notes
        assert told in note
        assert "Kaggle refuses" in note
        assert f"  note: {note}" in report.lines()


def test_rows_rejected_before_the_first(store: Store, settings: Settings) -> None:
    """Ids that are missing at the beginning, as one run."""
    make_model(store)
    make_dataset(store, "night", make_images(3), Shape(((3,),), gap=2))  # 1, 3, 5
    with_facts(store, rejects={"bad_pixel": 2})
    (scored,) = score(store, ScoreOptions(), settings).datasets
    assert "2 of 5 rows" in scored.notes[0]
    assert "(image ids 2, 4)" in scored.notes[0]


def test_keys_that_repeat_are_said(ready: Store, settings: Settings) -> None:
    """As far as the ingest counted them."""
    with_facts(ready, doubled_keys=4)
    (scored,) = score(ready, NIGHT, settings).datasets
    assert [note for note in scored.notes if "keys repeat (4 rows)" in note]


def test_without_room_for_it_nothing_is_published(
    ready: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written before the manifest: no scheduled run takes a dataset for done that lacks it."""

    def refuse(*_: object) -> None:
        raise Corrupt("no room")

    with monkeypatch.context() as patch:
        patch.setattr("digitrec.scoring.publication.write_submission", refuse)
        with pytest.raises(Corrupt, match="no room"):
            score(ready, NIGHT, settings)
    (scored,) = score(ready, ScoreOptions(), settings).datasets
    assert not scored.already
    assert Path(scored.submission).exists()


def test_an_empty_dataset_has_a_header(store: Store, settings: Settings) -> None:
    """No row, no note."""
    make_model(store)
    make_dataset(store, "night", make_images(0), keyed=True)
    (scored,) = score(store, NIGHT, settings).datasets
    assert Path(scored.submission).read_bytes() == b"ImageId,Label\n"
    assert isinstance(read_manifest(store, "datasets/night"), Manifest)
