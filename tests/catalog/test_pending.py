"""Notes of what may have to be scored: they save listing everything, and decide nothing."""

from pathlib import Path

import pytest

from digitrec.catalog.pending import confirm_note, has_predictions, noted, put_note, rebuild_notes, remove_note
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, OldStore
from tests.catalog.conftest import in_memory, make_old, publish_bytes, publish_predictions, with_faults
from tests.places import full


def test_notes_are_listed_by_name(anywhere: Store) -> None:
    """Put, put again, removed, removed again; what is no dataset's name is no note."""
    assert noted(anywhere) == []
    for name in ("two", "one", "two"):
        put_note(anywhere, name)
    for junk in (".DS_Store", "UPPER", "folder/x"):
        anywhere.storage.put(f"pending/{junk}", b"")
    assert noted(anywhere) == ["one", "two"]
    for _ in "12":
        remove_note(anywhere, "two")
    assert noted(anywhere) == ["one"]


def test_a_note_is_confirmed_with_one_look(anywhere: Store) -> None:
    """It is put again only if it is gone."""
    store, faulty = with_faults(anywhere)
    put_note(store, "x")
    faulty.calls.clear()
    confirm_note(store, "x")
    assert faulty.calls == [("stat", "pending/x")]
    remove_note(store, "x")
    confirm_note(store, "x")
    assert noted(anywhere) == ["x"]


def test_predictions_are_of_a_dataset_in_a_state(anywhere: Store) -> None:
    """F8: by its digest, not by its name; by any version."""
    dataset = publish_bytes(anywhere, "x")
    assert not has_predictions(anywhere, "x", dataset.digest)
    publish_predictions(anywhere, "x", "of an earlier one", "m-1")
    assert not has_predictions(anywhere, "x", dataset.digest)
    publish_predictions(anywhere, "x", dataset.digest, "m-2")
    assert has_predictions(anywhere, "x", dataset.digest)


def test_unreadable_predictions_hide_no_others(anywhere: Store) -> None:
    """Those that can be read suffice; where none fits, it is not known."""
    dataset = publish_bytes(anywhere, "x")
    anywhere.storage.put("predictions/x/a-1.fp32/manifest.json", b"{")
    with pytest.raises(Corrupt, match="a-1"):
        has_predictions(anywhere, "x", dataset.digest)
    publish_predictions(anywhere, "x", dataset.digest, "m-1")
    assert has_predictions(anywhere, "x", dataset.digest)


def test_notes_are_rebuilt_from_what_is_published(anywhere: Store) -> None:
    """Noted: unlabelled datasets without predictions of their state. Notes of the others go."""
    publish_bytes(anywhere, "waits")
    publish_bytes(anywhere, "waits-too")
    publish_bytes(anywhere, "labelled", labelled=True)
    publish_predictions(anywhere, "scored", publish_bytes(anywhere, "scored").digest)
    publish_bytes(anywhere, "replaced")
    publish_predictions(anywhere, "replaced", "of an earlier one")
    for name in ("labelled", "scored", "waits-too"):
        put_note(anywhere, name)
    assert rebuild_notes(anywhere) == noted(anywhere) == ["replaced", "waits", "waits-too"]
    assert rebuild_notes(anywhere) == noted(anywhere) == ["replaced", "waits", "waits-too"]


def test_a_note_before_its_dataset_stays_as_long_as_that_may_come(anywhere: Store) -> None:
    """Ingest puts it first; one whose ingest has died long ago goes."""
    for name in ("young", "old"):
        put_note(anywhere, name)
    make_old(anywhere, "pending/old", days=8)
    assert rebuild_notes(anywhere) == []
    assert noted(anywhere) == ["young"]


def test_a_dataset_that_cannot_be_read_keeps_its_note(anywhere: Store) -> None:
    """However old; and no other one is kept from its own."""
    publish_bytes(anywhere, "good")
    anywhere.storage.put("datasets/bad/manifest.json", b"{")
    put_note(anywhere, "bad")
    make_old(anywhere, "pending/bad", days=800)
    assert rebuild_notes(anywhere) == ["good"]
    assert noted(anywhere) == ["bad", "good"]


def test_a_dataset_with_unreadable_predictions_is_noted(anywhere: Store) -> None:
    """The run that looks at it says why they cannot be read."""
    publish_bytes(anywhere, "x")
    anywhere.storage.put("predictions/x/m-1.fp32/manifest.json", b"{")
    assert rebuild_notes(anywhere) == ["x"]


def test_a_note_that_is_put_again_meanwhile_stays() -> None:
    """Another dataset takes the name while the notes are rebuilt: its note is not that of the one before."""
    store = in_memory()
    publish_predictions(store, "x", publish_bytes(store, "x").digest)
    put_note(store, "x")

    def replaced(verb: str, key: str) -> bool:
        if (verb, key) == ("list", "predictions/x"):
            put_note(store, "x")
        return False

    seen, _ = with_faults(store, fail_before=replaced)
    rebuild_notes(seen)
    assert noted(store) == ["x"]


def test_an_old_store_is_not_rebuilt(store: Store) -> None:
    """Exit 78: nothing is noted or removed in it."""
    publish_bytes(store, "x")
    path = Path(full(store, "datasets/x/manifest.json"))
    path.write_text(path.read_text().replace('"format": 3', '"format": 2'))
    put_note(store, "y")
    with pytest.raises(OldStore):
        rebuild_notes(store)
    assert noted(store) == ["y"]
