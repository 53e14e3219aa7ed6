"""The note of a store's format: what an earlier digitrec has made gets nothing added to it."""

import pytest

from digitrec.catalog.manifest import Manifest, find_manifest
from digitrec.catalog.marker import MARKER, check_format
from digitrec.catalog.publish import publish
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, OldStore, OtherFormat
from tests.catalog.conftest import with_faults

FACTS = {"labelled": True, "keyed": False}


def draft(name: str) -> Manifest:
    return Manifest("dataset", name, {"name": name}, (), facts=FACTS)


def make_old(store: Store) -> None:
    """A store of the format before this one, which had no marker."""
    publish(store, draft("x"))
    data = store.storage.read("datasets/x/manifest.json").replace(
        b'"format": %d' % FORMAT, b'"format": %d' % (FORMAT - 1)
    )
    store.storage.put("datasets/x/manifest.json", data)
    store.storage.delete(MARKER)


def test_the_first_publication_notes_the_format(anywhere: Store) -> None:
    """Before its manifest; a store in which nothing is published has none, and is no old one."""
    check_format(anywhere)
    assert not anywhere.storage.exists(MARKER)
    store, faulty = with_faults(anywhere)
    publish(store, draft("x"))
    puts = [key for verb, key in faulty.calls if verb == "put_if_absent"]
    assert puts == [MARKER, "datasets/x/manifest.json"]
    check_format(anywhere)


def test_an_old_store_gets_nothing(anywhere: Store) -> None:
    """Neither a look nor a publication passes, and nothing is added."""
    make_old(anywhere)
    with pytest.raises(OldStore, match=f"has format {FORMAT - 1}"):
        check_format(anywhere)
    with pytest.raises(OldStore):
        publish(anywhere, draft("y"))
    assert find_manifest(anywhere, "datasets/y") is None
    assert not anywhere.storage.exists(MARKER)


def test_a_copy_without_its_marker_is_no_old_store(anywhere: Store) -> None:
    """What is in it decides; the next publication marks it."""
    publish(anywhere, draft("x"))
    anywhere.storage.delete(MARKER)
    check_format(anywhere)
    publish(anywhere, draft("y"))
    assert anywhere.storage.exists(MARKER)


def test_a_marker_of_another_format_refuses(anywhere: Store) -> None:
    """Newer, older, or damaged: each says so."""
    for data, error in [
        (b'{"format": %d}' % (FORMAT + 1), OtherFormat),
        (b'{"format": %d}' % (FORMAT - 1), OldStore),
        (b"{", Corrupt),
    ]:
        anywhere.storage.put(MARKER, data)
        with pytest.raises(error):
            check_format(anywhere)


def test_a_look_costs_one_read_however_much_is_published(anywhere: Store) -> None:
    """Where there is a marker, nothing is listed."""
    for name in "abcde":
        publish(anywhere, draft(name))
    store, faulty = with_faults(anywhere)
    check_format(store)
    assert faulty.calls == [("read", MARKER)]
