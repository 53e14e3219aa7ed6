"""A manifest names every byte, is the same for the same request, and does not survive a flipped bit."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from digitrec.store.commit import write_replacing
from hypothesis import given
from hypothesis import strategies as st

from digitrec.catalog.manifest import (
    File,
    Manifest,
    RowGroup,
    Source,
    check_file,
    describe,
    find_manifest,
    parse_manifest,
    publish,
    read_manifest,
)
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import AlreadyPublished, Corrupt, Misconfigured, NoInput
from tests.places import full

MANIFEST = Manifest(
    kind="dataset",
    name="test",
    asked={"sources": ["aa"], "no_header": False},
    files=(File("datasets/test/shard-00000-aa.parquet", 2, 10, "aa", (RowGroup(2, 1, 2, "ff"),)),),
    sources=(Source("test.csv", 100, "bb"),),
    facts={"labelled": True, "rejects": {"blank_line": 1}},
)


def test_a_manifest_comes_back_as_it_was(store: Store) -> None:
    """Published and read again, it is equal; its rows are those of its shards."""
    assert publish(store, "datasets/test", MANIFEST)
    assert read_manifest(store, "datasets/test") == MANIFEST
    assert MANIFEST.rows == 2


def test_its_bytes_depend_on_nothing_but_its_content() -> None:
    """Keys are sorted: whatever order a dictionary was made in, the file is the same."""
    shuffled = replace(MANIFEST, asked=dict(reversed(MANIFEST.asked.items())))
    assert shuffled.to_bytes() == MANIFEST.to_bytes()


def test_the_same_request_again_is_success(store: Store) -> None:
    """The second publication says False and changes nothing, even if its files came out with other bytes."""
    publish(store, "datasets/test", MANIFEST)
    again = replace(MANIFEST, files=())
    assert not publish(store, "datasets/test", again)
    assert read_manifest(store, "datasets/test") == MANIFEST


def test_another_request_is_refused(store: Store) -> None:
    """What stands under the name is named together with what differs, and is not touched."""
    publish(store, "datasets/test", MANIFEST)
    with pytest.raises(AlreadyPublished, match=r"already holds something else.*different no_header"):
        publish(store, "datasets/test", replace(MANIFEST, asked=MANIFEST.asked | {"no_header": True}))
    assert read_manifest(store, "datasets/test") == MANIFEST


def test_no_manifest_no_dataset(store: Store) -> None:
    """A folder with files but without a manifest is not there."""
    write_replacing(store, "datasets/half/shard-00000-aa.parquet", b"x")
    assert find_manifest(store, "datasets/half") is None
    with pytest.raises(NoInput, match="nothing is published"):
        read_manifest(store, "datasets/half")


@pytest.mark.parametrize(("found", "words"), [(FORMAT + 1, "upgrade"), (FORMAT - 1, "make the store anew")])
def test_another_format_is_refused(found: int, words: str) -> None:
    """A manifest of a later or an earlier digitrec is not guessed at."""
    body = json.loads(MANIFEST.to_bytes()) | {"format": found}
    with pytest.raises(Misconfigured, match=words):
        parse_manifest(json.dumps(body).encode(), "there")


@given(st.data())
def test_any_flipped_bit_is_found(data: st.DataObject) -> None:
    """Change one bit anywhere: reading raises, or (in white space) yields the very same manifest."""
    good = MANIFEST.to_bytes()
    where = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[where] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(Corrupt, Misconfigured):
        assert parse_manifest(bytes(bad), "there") == MANIFEST


def test_files_are_checked_against_their_manifest(store: Store) -> None:
    """Size and digest are compared; a missing, longer or changed file is named."""
    write_replacing(store, "f", b"1234")
    file = describe(store, "f", rows=1)
    check_file(store, file)
    for data, word in ((b"123", "has 3 bytes, expected 4"), (b"1235", "is damaged")):
        write_replacing(store, "f", data)
        with pytest.raises(Corrupt, match=word):
            check_file(store, file)
    Path(full(store, "f")).unlink()
    with pytest.raises(Corrupt, match="is missing"):
        check_file(store, file)


def test_a_file_is_found_by_name() -> None:
    """`file` finds by name without folders; a name that is not there means a damaged or foreign manifest."""
    assert MANIFEST.file("shard-00000-aa.parquet") is MANIFEST.files[0]
    with pytest.raises(Corrupt, match=r"names no card\.json"):
        MANIFEST.file("card.json")
