"""What a store holds: newest first, and nothing unreadable hides the rest."""

import shutil
import time
from pathlib import Path

import pytest

from digitrec.catalog import listing as catalog
from digitrec.catalog.champion import promote
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, Misconfigured, NoInput, OldStore, OtherFormat, StorageFailed
from tests.catalog.conftest import make_old, publish_bytes, publish_model, publish_predictions, put_file, with_faults
from tests.places import full


def names(store: Store) -> list[str]:
    return [manifest.name for manifest in catalog.published(store, "dataset")]


def test_the_newest_comes_first_whatever_the_files_say(anywhere: Store) -> None:
    """F37: by the time of publication; a copy of a store, or a backup that was restored, has other times of files."""
    for name in ("b", "c", "a"):
        publish_bytes(anywhere, name)
        time.sleep(0.002)
    for days, name in enumerate("abc"):
        make_old(anywhere, f"datasets/{name}/manifest.json", days)
    assert names(anywhere) == ["a", "c", "b"]
    entry = catalog.listing(anywhere, "dataset")[0]
    assert entry.manifest is not None
    assert entry.published == entry.manifest.published


def test_a_copied_store_is_listed_alike(store: Store, tmp_path: Path) -> None:
    """The whole of it, elsewhere: same order, same manifests."""
    for name in ("b", "a"):
        publish_bytes(store, name)
    copy = Store.at(shutil.copytree(store.url, tmp_path / "copy"))
    assert catalog.published(copy, "dataset") == catalog.published(store, "dataset")


def test_each_kind_is_listed_for_itself(anywhere: Store) -> None:
    """Without files that lie between the folders, folders without a manifest, and the champion's log."""
    dataset, model = publish_bytes(anywhere, "x"), publish_model(anywhere, "m-1")
    promote(anywhere, "m-1", "first")
    predictions = publish_predictions(anywhere, "x", dataset.digest)
    put_file(anywhere, "datasets/half", "shard-00000.parquet", b"")
    for key in ("datasets/file", "models/file", "predictions/file", "predictions/x/file"):
        anywhere.storage.put(key, b"")
    for kind, manifest in (("dataset", dataset), ("model", model), ("predictions", predictions)):
        assert [entry.manifest for entry in catalog.listing(anywhere, kind)] == [manifest]


def test_an_empty_store_lists_nothing(anywhere: Store) -> None:
    """And is no error."""
    assert [catalog.listing(anywhere, kind) for kind in catalog.TOP] == [[], [], []]


BAD = {
    "damaged": (b"{", Corrupt),
    "newer": (b'{"format": %d}' % (FORMAT + 1), OtherFormat),
    "unreadable": (None, StorageFailed),
}


@pytest.mark.parametrize("how", BAD)
def test_an_unreadable_manifest_is_listed_and_stops_no_other(
    anywhere: Store, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With its problem, last of all; whoever goes without it says so."""
    publish_bytes(anywhere, "good")
    publish_bytes(anywhere, "bad")
    data, error = BAD[how]
    if data is not None:
        anywhere.storage.put("datasets/bad/manifest.json", data)
    store, _ = with_faults(anywhere, fail_before=lambda verb, key: data is None and key == "datasets/bad/manifest.json")
    good, bad = catalog.listing(store, "dataset")
    assert (good.problem, good.manifest is not None) == (None, True)
    assert (type(bad.problem), bad.manifest, bad.published, bad.folder) == (error, None, "", "datasets/bad")
    assert names(store) == ["good"]
    assert "left out: " in caplog.text
    assert "datasets/bad" in caplog.text
    with pytest.raises(error):
        catalog.dataset(store, "bad")


def test_predictions_that_cannot_be_listed_stand_for_themselves(anywhere: Store) -> None:
    """One dataset's folder that is closed hides no other one's."""
    for name in ("closed", "open"):
        publish_predictions(anywhere, name, "0")
    store, _ = with_faults(anywhere, fail_before=lambda verb, key: key.startswith("predictions/closed"))
    problems = {entry.folder: entry.problem is not None for entry in catalog.listing(store, "predictions")}
    assert problems == {"predictions/open/m-1.fp32": False, "predictions/closed": True}


def test_a_store_that_cannot_be_listed_is_said(anywhere: Store) -> None:
    """F39: an error while looking is not an empty store, nor a missing dataset."""
    publish_bytes(anywhere, "x")
    store, _ = with_faults(anywhere, fail_before=lambda verb, key: True)
    for ask in (
        lambda: catalog.listing(store, "dataset"),
        lambda: catalog.dataset(store, "x"),
        lambda: store.storage.exists("datasets/x/manifest.json"),
    ):
        with pytest.raises(StorageFailed):
            ask()


def test_a_store_of_an_earlier_digitrec_is_refused_as_a_whole(anywhere: Store) -> None:
    """Exit 78 at the first manifest: not a list of unreadable entries."""
    publish_bytes(anywhere, "good")
    anywhere.storage.put("datasets/old/manifest.json", b'{"format": %d}' % (FORMAT - 1))
    for ask in (lambda: catalog.listing(anywhere, "dataset"), lambda: catalog.newest_labelled(anywhere)):
        with pytest.raises(OldStore, match="of an earlier digitrec"):
            ask()


def test_a_manifest_of_another_folder_is_of_no_use(store: Store) -> None:
    """Copied to another name it names files that may not be there, and answers another request."""
    publish_bytes(store, "x")
    shutil.copytree(full(store, "datasets/x"), full(store, "datasets/y"))
    shutil.copytree(full(store, "datasets/x"), full(store, "models/x"))
    for kind, folder in (("dataset", "datasets/y"), ("model", "models/x")):
        problems = {entry.folder: entry.problem for entry in catalog.listing(store, kind)}
        with pytest.raises(Corrupt, match="holds the manifest of dataset x: was it copied"):
            raise problems[folder] or AssertionError


def test_a_manifest_without_what_is_needed_is_of_no_use(anywhere: Store) -> None:
    """Said once, with what is missing, instead of an error wherever it is used."""
    publish_model(anywhere, "m-1")
    data = publish_predictions(anywhere, "x", "0")
    anywhere.storage.delete(f"{data.folder}/manifest.json")
    from digitrec.catalog.manifest import Manifest
    from digitrec.catalog.publish import publish

    publish(anywhere, Manifest("predictions", data.name, data.asked, (), facts={"keyed": False}))
    (entry,) = catalog.listing(anywhere, "predictions")
    assert isinstance(entry.problem, Misconfigured)
    assert "did not note confidences" in str(entry.problem)


def test_training_takes_the_newest_labelled_dataset(anywhere: Store) -> None:
    """An unlabelled one is no choice, nor is one without rows."""
    with pytest.raises(NoInput, match=r"no labelled dataset in .*; make one with `digitrec ingest"):
        catalog.newest_labelled(anywhere)
    publish_bytes(anywhere, "first", labelled=True)
    time.sleep(0.002)
    publish_bytes(anywhere, "second", labelled=True)
    time.sleep(0.002)
    publish_bytes(anywhere, "third")
    assert catalog.newest_labelled(anywhere).name == "second"


def test_what_is_missing_is_answered_with_what_is_there(anywhere: Store) -> None:
    """Some names, and how many more; reading one name reads one manifest."""
    with pytest.raises(NoInput, match=r"no dataset nope in .*; there: none"):
        catalog.dataset(anywhere, "nope")
    for number in range(7):
        publish_bytes(anywhere, f"d{number}")
    with pytest.raises(NoInput, match="there: d0, d1, d2, d3, d4 and 2 more"):
        catalog.dataset(anywhere, "nope")
    publish_model(anywhere, "m-1")
    promote(anywhere, "m-1", "first")
    with pytest.raises(NoInput, match=r"no model nope in .*; there: m-1$"):
        catalog.model(anywhere, "nope")
    store, faulty = with_faults(anywhere)
    assert catalog.dataset(store, "d3").name == "d3"
    assert faulty.calls == [("read", "datasets/d3/manifest.json")]
