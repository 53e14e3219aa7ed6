"""verify(): every byte, every id, and the submission."""

from itertools import count
from pathlib import Path

import pytest

from digitrec.catalog.manifest import read_manifest
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, NoInput
from digitrec.scoring.run import score
from digitrec.settings import Settings
from digitrec.verify import verify
from tests.places import full
from tests.scoring.making import make_dataset, make_images
from tests.scoring.test_run import FOLDER, NIGHT
from tests.scoring.watched import before_call, watched


@pytest.fixture
def scored(ready: Store, settings: Settings) -> Store:
    """A store with a dataset, a model and published predictions."""
    score(ready, NIGHT, settings)
    return ready


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_store_is_counted(scored: Store) -> None:
    """Three shards, three parts, card and weights; the rows of dataset and predictions."""
    report = verify(scored)
    assert (report.datasets, report.models, report.predictions) == (1, 1, 1)
    assert (report.files, report.rows) == (3 + 2 + 3, 2000)
    assert "is whole" in report.lines()[0]


@pytest.mark.parametrize(
    "pattern",
    [
        "datasets/night/shard-*",
        "datasets/night/manifest.json",
        "models/quick-00000001/weights-*",
        "models/quick-00000001/card-*",
        "models/quick-00000001/manifest.json",
        f"{FOLDER}/part-*",
        f"{FOLDER}/manifest.json",
        f"{FOLDER}/submission.csv",
    ],
)
def test_a_flipped_bit_anywhere_is_found_and_named(scored: Store, pattern: str) -> None:
    """Whatever file it is in, the error names it."""
    path = sorted(Path(scored.url).glob(pattern))[0]
    flip(path)
    with pytest.raises(Corrupt, match=path.name):
        verify(scored)


def test_all_damage_is_named_at_once(scored: Store) -> None:
    """One error names every damaged file: a short one, a missing one and a flipped one."""
    short, missing, flipped = (sorted(Path(scored.url).glob(f"{FOLDER}/part-0000{i}-*"))[0] for i in range(3))
    short.write_bytes(short.read_bytes()[:-5])
    missing.unlink()
    flip(flipped)
    with pytest.raises(Corrupt) as caught:
        verify(scored)
    assert str(caught.value).startswith("3 damaged: ")
    assert all(path.name in str(caught.value) for path in (short, missing, flipped))


def test_swapped_parts_are_found(scored: Store) -> None:
    """Two whole files under each other's names are two damaged files."""
    first, second = sorted(Path(full(scored, FOLDER)).glob("part-*"))[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(Corrupt, match=f"{first.name}.*{second.name}"):
        verify(scored)


def test_a_path_limits_what_is_looked_at(scored: Store) -> None:
    """Only what lies at or below the path is hashed."""
    flip(sorted(Path(full(scored, FOLDER)).glob("part-*"))[0])
    assert verify(scored, [full(scored, "datasets")]).datasets == 1
    with pytest.raises(Corrupt):
        verify(scored, [full(scored, FOLDER)])


def test_a_path_with_nothing_published_is_no_input(scored: Store) -> None:
    """A typing error must not look like a clean bill of health."""
    with pytest.raises(NoInput, match="nothing is published at"):
        verify(scored, [full(scored, "datasets/nigth")])


def test_what_can_be_made_again_is_a_note(scored: Store) -> None:
    """A missing `submission.csv`, or a dataset that was removed after scoring, is said, not raised."""
    Path(full(scored, f"{FOLDER}/submission.csv")).unlink()
    Path(full(scored, "datasets/night/manifest.json")).unlink()
    notes = " ".join(verify(scored).notes)
    assert "submission.csv is missing" in notes
    assert "dataset night is gone" in notes


def test_predictions_of_another_state_of_the_dataset_are_found(scored: Store) -> None:
    """A dataset removed and made anew under its name is not what was scored."""
    Path(full(scored, "datasets/night/manifest.json")).unlink()
    make_dataset(scored, "night", make_images(1000, seed=9))
    with pytest.raises(Corrupt, match="another state of dataset night"):
        verify(scored)


def test_a_champion_that_is_gone_is_found(scored: Store) -> None:
    """The champion's log must not point into the void."""
    Path(full(scored, "models/quick-00000001/manifest.json")).unlink()
    with pytest.raises(Corrupt, match=r"model quick-00000001, promoted by .*, is missing"):
        verify(scored)


def test_what_goes_meanwhile_is_named(scored: Store) -> None:
    """A shard that is removed between two looks at it ends the examination of its dataset, and nothing else."""
    shard = read_manifest(scored, "datasets/night").data_files[0].path
    looks = count(1)

    def remove() -> None:
        if next(looks) == 2:
            scored.storage.delete(f"datasets/night/{shard}")

    store, _ = watched(scored, delay_s=before_call("open", shard, remove))
    with pytest.raises(Corrupt, match=rf"^1 damaged: .*{shard} went while it was looked at"):
        verify(store)
