"""A manifest names every byte, is the same for the same request, and does not survive a flipped bit."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitrec.catalog import manifest as manifests
from digitrec.catalog.manifest import (
    File,
    Json,
    Manifest,
    RowGroup,
    Source,
    canonical,
    check_file,
    digest_of,
    find_manifest,
    read_file,
    read_manifest,
)
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import sweep_folder
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, DigitrecError, NoInput, OldStore, OtherFormat
from tests.catalog.conftest import in_memory, put_file

SHARD = File("shard-00000-00112233445566aa.parquet", 2, 10, "aa", (RowGroup(2, 1, 2, "ff"),))
MANIFEST = Manifest(
    kind="dataset",
    name="test",
    asked={"sources": ["aa"], "no_header": False},
    files=(SHARD, File("rejects-00112233445566bb.parquet", 5, 20, "bb")),
    sources=(Source("test.csv", 100, "bb"),),
    facts={"labelled": True, "rejects": {"blank_line": 1}},
)


def put(store: Store, manifest: Manifest) -> Manifest:
    """Write a manifest as it is written, without its files."""
    manifest = manifest.stamped()
    for path, data in manifest.to_objects().items():
        store.storage.put(f"{manifest.folder}/{path}", data)
    return manifest


def large(shards: int) -> Manifest:
    """As of so many full shards."""
    groups = tuple(RowGroup(16_384, n * 16_384 + 1, (n + 1) * 16_384, f"{n:064x}") for n in range(8))
    files = tuple(
        File(f"shard-{n:05d}-{n:016x}.parquet", 131_072, 30_000_000 + n, f"{n:064x}", groups) for n in range(shards)
    )
    return replace(MANIFEST, files=files)


@pytest.mark.parametrize("manifest", [MANIFEST, replace(MANIFEST, files=()), large(300)])
def test_a_manifest_comes_back_as_it_was(anywhere: Store, manifest: Manifest) -> None:
    """Written and read again it is equal, its digests too, whether its list of files stands apart or not."""
    written = put(anywhere, manifest)
    found = read_manifest(anywhere, "datasets/test")
    assert found == written
    assert (found.digest, found.request) == (manifest.digest, manifest.request)


def test_rows_are_those_of_the_shards() -> None:
    """Rejected rows are not counted."""
    assert (MANIFEST.rows, MANIFEST.data_files) == (2, (SHARD,))


@pytest.mark.parametrize(
    ("kind", "name", "folder"),
    [
        ("dataset", "test", "datasets/test"),
        ("model", "quick-1", "models/quick-1"),
        ("predictions", "test/quick-1.fp32-cascade", "predictions/test/quick-1.fp32-cascade"),
    ],
)
def test_kind_and_name_say_where_it_lies(kind: manifests.Kind, name: str, folder: str) -> None:
    """Its folder, and the keys of its files in it."""
    manifest = Manifest(kind, name, {}, (SHARD,))
    assert manifest.folder == folder
    assert manifest.key(SHARD) == f"{folder}/{SHARD.path}"


def test_ten_thousand_shards_fit_into_one_quick_put() -> None:
    """The manifest stays below 1 MB, and comes back whole: the list of files stands apart."""
    store, manifest = in_memory(), large(10_000)
    put(store, manifest)
    found = store.storage.stat("datasets/test/manifest.json")
    assert found is not None
    assert found.size < 1_000_000
    assert read_manifest(store, "datasets/test").files == manifest.files


def of_many_sources(number: int) -> Manifest:
    """A manifest whose request and sources are long, and whose files are few."""
    sources = tuple(Source(f"{index}.csv", index, f"{index:064x}") for index in range(number))
    return replace(MANIFEST, sources=sources, asked={"texts": [vars(source) for source in sources]})


def test_ten_thousand_sources_fit_into_one_quick_put() -> None:
    """Its details stand apart too, belong to its folder, and come back whole."""
    store = in_memory()
    written = put(store, of_many_sources(10_000))
    found = store.storage.stat("datasets/test/manifest.json")
    assert found is not None
    assert found.size < 1_000_000
    assert read_manifest(store, "datasets/test") == written
    (details,) = (path for path in written.paths if path.startswith("details-"))
    store.storage.delete(f"datasets/test/{details}")
    with pytest.raises(Corrupt, match=f"{details} is missing"):
        read_manifest(store, "datasets/test")


def test_all_that_belongs_in_its_folder_is_named() -> None:
    """The manifest, the files, and the list of files where it stands apart: what a sweep keeps."""
    assert MANIFEST.paths == {"manifest.json", *(file.path for file in MANIFEST.files)}
    manifest = large(300)
    assert manifest.paths == {*manifest.to_objects(), *(file.path for file in manifest.files)}
    assert len(manifest.paths) == 302


def test_what_another_digitrec_wrote_apart_is_swept_by_none() -> None:
    """It belongs to the folder by the path that the manifest names, though this code would write it in other bytes."""
    store = in_memory()
    written = put(store, replace(of_many_sources(3_000), facts={"count": {10: 1, 9: 1}}))  # JSON has no such keys
    again = read_manifest(store, "datasets/test")
    assert again.digest != written.digest
    assert set(store.storage.list("datasets/test")) <= again.paths
    sweep_folder(store, "datasets/test", grace_s=-1)
    assert read_manifest(store, "datasets/test") == again


def test_its_bytes_depend_on_nothing_but_its_content() -> None:
    """Keys are sorted: whatever order a dictionary was made in, the file is the same."""
    shuffled = replace(MANIFEST, asked=dict(reversed(MANIFEST.asked.items())))
    assert shuffled.to_objects() == MANIFEST.to_objects()


CHANGED = {
    "name": "other",
    "asked": {"sources": ["ab"]},
    "files": (),
    "sources": (),
    "facts": {"labelled": False},
}


@pytest.mark.parametrize("name", CHANGED)
def test_its_digest_is_of_all_but_the_time(name: str) -> None:
    """What others refer to changes with any part of the content, and not with the time of publication."""
    changed = replace(MANIFEST, **{name: CHANGED[name]})
    assert changed.digest != MANIFEST.digest
    assert replace(MANIFEST, published="2020-01-01").digest == MANIFEST.stamped().digest == MANIFEST.digest


def test_the_time_of_publication_is_covered_too() -> None:
    """Another time in the file is damage: it decides which dataset is the newest."""
    store = in_memory()
    written = put(store, MANIFEST)
    data = store.storage.read("datasets/test/manifest.json")
    store.storage.put("datasets/test/manifest.json", data.replace(written.published[:4].encode(), b"1999"))
    with pytest.raises(Corrupt, match=r"datasets/test/manifest\.json is damaged"):
        read_manifest(store, "datasets/test")


@settings(max_examples=200)
@given(st.data())
def test_any_damage_is_found(data: st.DataObject) -> None:
    """Change one bit anywhere, or cut the end off, in the manifest or in its list of files: reading raises, or (in
    white space) yields the very same manifest."""
    store = in_memory()
    written = put(store, data.draw(st.sampled_from([MANIFEST, large(300), of_many_sources(1_500)])))
    key = f"datasets/test/{data.draw(st.sampled_from(sorted(written.to_objects())))}"
    good = store.storage.read(key)
    where = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    if data.draw(st.booleans()):
        bad[where] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del bad[where:]
    store.storage.put(key, bad)
    with suppress(Corrupt, OtherFormat, OldStore):
        assert read_manifest(store, "datasets/test") == written


def test_a_list_of_files_that_is_missing_is_damage() -> None:
    """Not an empty dataset, and not an absent one."""
    store = in_memory()
    apart = next(iter(put(store, large(300)).to_objects()))
    store.storage.delete(f"datasets/test/{apart}")
    with pytest.raises(Corrupt, match=f"{apart} is missing"):
        find_manifest(store, "datasets/test")


def forged(store: Store, change: dict[str, Json]) -> None:
    """A manifest whose digests fit, as anybody can make one."""
    body = json.loads(MANIFEST.stamped().to_objects()["manifest.json"]) | change
    del body["checksum"]
    store.storage.put("datasets/test/manifest.json", canonical(body | {"checksum": digest_of(body)}).encode())


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../other/shard-00000.parquet",
        "..",
        ".",
        "",
        "a/../../b",
        "a/..",
        "a//b",
        "a/b/c",
        "./a",
        "a\\b",
        "..\\a",
        "C:\\a",
        "file:///etc/passwd",
        ".hidden",
        "a\0b",
        "a\nb",
        "a b",
        "ä",
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_path_that_may_lead_out_of_the_folder_is_refused(path: str, apart: bool) -> None:
    """F48: a digest that fits proves nothing about who made it; files are read from the manifest's folder alone."""
    store = in_memory()
    entry = {"path": path, "bytes": 2, "sha256": "0" * 64}
    forged(store, {"files": entry if apart else [entry | {"rows": 0, "row_groups": []}]})
    with pytest.raises(Corrupt, match="expected a file in its own folder"):
        read_manifest(store, "datasets/test")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x"},
        {"kind": "nothing"},
        {"files": None},
        {"files": [{"path": "a"}]},
        {"files": {"path": "a"}},
        {"sources": [{"name": 1}]},
        {"sources": 7},
        {"name": None},
    ],
)
def test_what_no_manifest_says_is_damage(change: dict[str, Json]) -> None:
    """Of the right format, with the right checksum, and nothing that we have written: an error of ours all the same."""
    store = in_memory()
    forged(store, change)
    with pytest.raises(Corrupt):
        read_manifest(store, "datasets/test")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"1", b"\xff", b'{"format": "x"}', b'{"format": null}'])
def test_what_is_no_manifest_is_damage(data: bytes) -> None:
    """Whatever else may stand there."""
    store = in_memory()
    store.storage.put("datasets/test/manifest.json", data)
    with pytest.raises(Corrupt, match=r"manifest\.json is not a manifest"):
        find_manifest(store, "datasets/test")


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [(FORMAT + 1, OtherFormat, "upgrade it"), (FORMAT - 1, OldStore, "name a new one with --store")],
)
def test_another_format_is_refused(found: int, error: type[DigitrecError], words: str) -> None:
    """What a later or an earlier digitrec wrote is not guessed at: exit 78, the file with its store, what to do."""
    store = in_memory()
    forged(store, {"format": found})
    with pytest.raises(
        error, match=rf"{store.url}/datasets/test/manifest\.json has format {found}.*{words}"
    ) as refused:
        find_manifest(store, "datasets/test")
    assert (refused.value.exit_code, "\n" in str(refused.value)) == (78, False)


def test_no_manifest_no_dataset(anywhere: Store) -> None:
    """A folder with files but without a manifest is not there."""
    put_file(anywhere, "datasets/half", "shard-00000.parquet", b"x")
    assert find_manifest(anywhere, "datasets/half") is None
    with pytest.raises(NoInput, match=r"nothing is published at .*datasets/half"):
        read_manifest(anywhere, "datasets/half")


def test_files_are_checked_against_their_manifest(anywhere: Store) -> None:
    """Size and digest are compared; a missing, longer or changed file is named, however it is asked for."""
    file = put_file(anywhere, "models/m", "weights.safetensors", b"1234")
    manifest = Manifest("model", "m", {}, (file,))
    key = manifest.key(file)
    check_file(anywhere, key, file)
    assert read_file(anywhere, manifest, "weights.safetensors") == b"1234"
    for data, word in ((b"123", "has 3 bytes, expected 4"), (b"1235", "is damaged")):
        anywhere.storage.put(key, data)
        with pytest.raises(Corrupt, match=word):
            check_file(anywhere, key, file)
        with pytest.raises(Corrupt, match="is damaged"):
            read_file(anywhere, manifest, "weights.safetensors")
    anywhere.storage.delete(key)
    for look in (lambda: check_file(anywhere, key, file), lambda: read_file(anywhere, manifest, "weights.safetensors")):
        with pytest.raises(Corrupt, match="is missing"):
            look()


def test_a_file_is_found_by_its_name() -> None:
    """Without folder and digest; a name that is not there means a damaged or foreign manifest."""
    assert MANIFEST.file("shard-00000.parquet") is SHARD
    with pytest.raises(Corrupt, match=r"names no card\.json"):
        MANIFEST.file("card.json")
