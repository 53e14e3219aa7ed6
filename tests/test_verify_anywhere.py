"""verify() over keys: places, storage of any kind, the champion's log, long lists of files. What it finds in parts and
submissions: tests/scoring/test_verify.py."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from digitrec import storage
from digitrec.catalog.champion import entry_key, promote
from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.manifest import RowGroup
from digitrec.catalog.publish import publish
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, NoInput, OldStore, StorageFailed
from digitrec.storage.faulty import FaultyStorage
from digitrec.storage.memory import MemoryStorage
from digitrec.verify import verify
from tests.places import full
from tests.scoring.making import make_dataset, make_images, make_model, make_network


def fill(store: Store) -> Store:
    """Two datasets and a champion."""
    make_dataset(store, "first", make_images(5))
    make_dataset(store, "second", make_images(4, seed=1))
    make_model(store)
    return store


@pytest.fixture
def whole(store: Store) -> Store:
    return fill(store)


@pytest.fixture
def in_memory() -> Store:
    return fill(Store(storage.register(MemoryStorage()).url))


@pytest.mark.parametrize(
    "place",
    [
        "{url}/datasets/first",
        "store/datasets/first",
        "./store/datasets/first/",
        "link/datasets/first",
        "datasets/first",
        "datasets/first/",
    ],
)
def test_a_place_may_be_a_path_or_a_key(whole: Store, place: str, tmp_path: Path) -> None:
    """Absolute, relative, through a link, or as `list` and messages name it."""
    (tmp_path / "link").symlink_to(whole.url)
    report = verify(whole, [place.format(url=whole.url)])
    assert (report.datasets, report.models, report.rows) == (1, 0, 5)


def test_several_places_are_looked_at_once_each(whole: Store) -> None:
    """A folder inside another one is not counted twice; the whole store by its own path."""
    assert verify(whole, ["datasets", "datasets/first"]).datasets == 2
    report = verify(whole, [whole.url])
    assert (report.datasets, report.models) == (2, 1)


@pytest.mark.parametrize(
    "place", ["datasets/fir", "datasets/first/x", "/", "..", "elsewhere", "{url}-2/datasets/first"]
)
def test_a_place_where_nothing_is_published_is_no_input(whole: Store, place: str) -> None:
    """Also half a name, or another store's folder."""
    place = place.format(url=whole.url)
    with pytest.raises(NoInput, match="nothing is published at"):
        verify(whole, [place])


def test_storage_of_any_kind_is_verified(in_memory: Store) -> None:
    """By key and by address; nothing is written or changed."""
    faulty = FaultyStorage(in_memory.storage)
    store = Store(storage.register(faulty).url)
    report = verify(store)
    assert (report.store, report.datasets, report.models, report.rows) == (store.url, 2, 1, 9)
    assert verify(in_memory, [in_memory.address("datasets/first")]).rows == 5
    assert {verb for verb, _ in faulty.calls} <= {"list", "stat", "read", "open"}


def test_every_byte_is_read_from_storage(in_memory: Store) -> None:
    """A flipped bit in memory is found as well, in each object that is published."""
    for prefix in ("datasets/first", "datasets/second", "models/quick-00000001", "models/champion"):
        for name in in_memory.storage.list(prefix):
            key = f"{prefix}/{name}"
            good = in_memory.storage.read(key)
            bad = bytearray(good)
            bad[len(bad) // 2] ^= 1
            in_memory.storage.put(key, bad)
            with pytest.raises(Corrupt, match=key):
                verify(in_memory)
            in_memory.storage.put(key, good)
    verify(in_memory)


def test_what_cannot_be_read_is_named_beside_what_is_damaged(in_memory: Store) -> None:
    """A shard that storage does not give stops no other check."""
    shard = next(key for key in in_memory.storage.list("datasets/first") if key.startswith("shard"))
    faulty = FaultyStorage(in_memory.storage, fail_before=lambda verb, key: verb == "open" and key.endswith(shard))
    in_memory.storage.put("datasets/second/manifest.json", b"{")
    with pytest.raises(Corrupt) as found:
        verify(Store(storage.register(faulty).url))
    assert "2 damaged" in str(found.value)
    assert shard in str(found.value)
    assert "datasets/second/manifest.json" in str(found.value)


def test_a_storage_that_cannot_be_listed_is_no_empty_one(in_memory: Store) -> None:
    """It is said as it is."""
    faulty = FaultyStorage(in_memory.storage, fail_before=lambda verb, key: verb == "list")
    with pytest.raises(StorageFailed, match="on purpose"):
        verify(Store(storage.register(faulty).url))
    with pytest.raises(NoInput, match="there is no store at"):
        verify(Store(storage.register(MemoryStorage()).url))


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_list_of_files_that_stands_apart_is_checked(in_memory: Store, damage: str) -> None:
    """It is part of its manifest, though not in it."""
    made = make_dataset(in_memory, "long", make_images(3))
    in_memory.storage.delete(f"{made.folder}/manifest.json")
    groups = tuple(RowGroup(1, n, n, "0" * 64) for n in range(4_000))
    manifest = publish(in_memory, replace(made, files=(replace(made.files[0], row_groups=groups),))).manifest
    (apart,) = manifest.paths - {"manifest.json", made.files[0].path}
    key = f"{dataset_folder('long')}/{apart}"
    if damage == "missing":
        in_memory.storage.delete(key)
    else:
        in_memory.storage.put(key, in_memory.storage.read(key).replace(b"3999", b"3998"))
    with pytest.raises(Corrupt, match=apart):
        verify(in_memory)


def test_a_gap_in_the_champions_log_is_found(in_memory: Store) -> None:
    """Though the champion itself is there."""
    make_model(in_memory, "quick-00000002", make_network(seed=2))
    promote(in_memory, "quick-00000001", "again")
    in_memory.storage.delete(entry_key(2))
    with pytest.raises(Corrupt, match=r"has a gap: .*00002\.json is missing"):
        verify(in_memory)


def test_each_version_that_was_champion_is_there_as_it_was_promoted(in_memory: Store) -> None:
    """A rollback may lead to it: one that was made anew is named, and every one that is missing."""
    for number in (2, 3):
        make_model(in_memory, f"quick-0000000{number}", make_network(seed=number))
    in_memory.storage.delete("models/quick-00000001/manifest.json")
    in_memory.storage.delete("models/quick-00000002/manifest.json")
    make_model(in_memory, "quick-00000002", make_network(seed=9))
    with pytest.raises(Corrupt) as found:
        verify(in_memory)
    assert "2 damaged" in str(found.value)
    for words in (
        f"model quick-00000001, promoted by {in_memory.address(entry_key(1))}, is missing",
        f"model quick-00000002, promoted by {in_memory.address(entry_key(2))}, was made anew since",
    ):
        assert words in str(found.value)


def test_an_old_store_is_refused_at_its_first_manifest(whole: Store) -> None:
    """Not counted as so many damaged folders."""
    path = Path(full(whole, "datasets/first/manifest.json"))
    path.write_text(path.read_text().replace('"format": 3', '"format": 2'))
    with pytest.raises(OldStore, match="of an earlier digitrec"):
        verify(whole)


def test_a_copied_store_is_whole(whole: Store, tmp_path: Path) -> None:
    """Keys are relative: nothing in a store knows where it lies."""
    time.sleep(0.01)
    copy = Store.at(shutil.copytree(whole.url, tmp_path / "copy"))
    shutil.rmtree(whole.url)
    assert verify(copy).rows == 9
