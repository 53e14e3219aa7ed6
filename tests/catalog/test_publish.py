"""The commit protocol: everything is there before the manifest, and the manifest is put once."""

import hashlib
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from digitrec.catalog.manifest import File, Manifest, RowGroup, find_manifest, read_manifest
from digitrec.catalog.publish import create, find_published, publish, upload
from digitrec.catalog.store import Store
from digitrec.errors import AlreadyPublished, StorageFailed, TryAgain
from digitrec.storage.faulty import Verb, once
from tests.catalog.conftest import in_memory, put_file, with_faults

FOLDER = "datasets/x"
ASKED = {"sources": ["aa"], "no_header": False}


def made(store: Store, shards: int = 2, content: str = "") -> Manifest:
    """A dataset whose files are there, not published yet."""
    files = [put_file(store, FOLDER, f"shard-{n:05d}.parquet", f"{content}{n}".encode(), rows=1) for n in range(shards)]
    return Manifest("dataset", "x", ASKED, tuple(files))


def many(store: Store) -> Manifest:
    """The same with so many row groups that the list of files stands apart."""
    manifest = made(store, 40)
    groups = tuple(RowGroup(1, n, n, "0" * 64) for n in range(100))
    return replace(manifest, files=tuple(replace(file, row_groups=groups) for file in manifest.files))


def is_manifest(verb: Verb, key: str) -> bool:
    return verb == "put_if_absent" and key == f"{FOLDER}/manifest.json"


def test_a_data_file_carries_its_digest(anywhere: Store) -> None:
    """Sixteen digits before the suffix, in a folder inside too; bytes, rows and row groups are noted."""
    groups = (RowGroup(3, 1, 3, "ff"),)
    with anywhere.storage.scratch() as scratch:
        file = upload(anywhere, FOLDER, scratch.write("x", b"data"), "plots/a.png", rows=3, row_groups=groups)
    digest = hashlib.sha256(b"data").hexdigest()
    assert file == File(f"plots/a-{digest[:16]}.png", 3, 4, digest, groups)
    assert anywhere.storage.read(f"{FOLDER}/{file.path}") == b"data"
    assert file.name == "a.png"


def test_what_is_published_is_returned(anywhere: Store) -> None:
    """With the time at which it was; before, nothing was there."""
    manifest = made(anywhere)
    assert find_published(anywhere, manifest) is None
    published = publish(anywhere, manifest)
    assert published.created
    assert published.manifest == read_manifest(anywhere, FOLDER) == find_published(anywhere, manifest)
    assert published.manifest.published
    assert replace(published.manifest, published="") == manifest


@pytest.mark.parametrize("make", [made, many])
def test_every_file_is_looked_at_between_the_last_upload_and_the_manifest(make: "type") -> None:
    """The order of calls: uploads, the list of files among them; a stat of every file; the put of the manifest."""
    store, faulty = with_faults(in_memory())
    publish(store, make(store))
    verbs = [verb for verb, _ in faulty.calls]
    (put,) = [place for place, call in enumerate(faulty.calls) if is_manifest(*call)]
    last_upload = max(place for place, verb in enumerate(verbs) if verb == "upload")
    looked_at = {key for verb, key in faulty.calls[last_upload:put] if verb == "stat"}
    uploaded = {key for verb, key in faulty.calls if verb == "upload"}
    assert {key for key in uploaded if "/shard-" in key} <= looked_at
    assert last_upload < put
    assert not {"upload", "put", "put_if_absent", "delete"} & set(verbs[put + 1 :])
    assert len(uploaded) == (2 if make is made else 41)


def test_the_same_request_again_is_success(anywhere: Store) -> None:
    """Who comes second, though with files of other bytes, changes nothing and reports what is published (F35)."""
    first = publish(anywhere, made(anywhere)).manifest
    second = made(anywhere, 3, "other ")
    assert find_published(anywhere, second) == first
    again = publish(anywhere, second)
    assert (again.manifest, again.created) == (first, False)
    assert read_manifest(anywhere, FOLDER) == first


def test_another_request_is_refused(anywhere: Store) -> None:
    """What stands under the name is named together with what differs, and is not touched."""
    first = publish(anywhere, made(anywhere)).manifest
    other = replace(made(anywhere), asked=ASKED | {"no_header": True})
    for attempt in (publish, find_published):
        with pytest.raises(AlreadyPublished, match=r"already holds something else.*different no_header"):
            attempt(anywhere, other)
    assert read_manifest(anywhere, FOLDER) == first


@pytest.mark.parametrize("what", ["missing", "cut"])
@pytest.mark.parametrize("place", [0, 99])
def test_a_file_that_is_gone_stops_the_publication(anywhere: Store, what: str, place: int) -> None:
    """One that was reused may have been swept since: to be tried again, and nothing becomes visible."""
    manifest = made(anywhere, 100)
    key = manifest.key(manifest.files[place])
    if what == "missing":
        anywhere.storage.delete(key)
    else:
        anywhere.storage.put(key, b"")
    with pytest.raises(TryAgain, match=f"{key} has been removed"):
        publish(anywhere, manifest)
    assert find_manifest(anywhere, FOLDER) is None


@pytest.mark.parametrize("fault", ["lose_reply_of", "fail_after"])
def test_a_lost_reply_is_no_refusal(anywhere: Store, fault: str) -> None:
    """The put was done, and "already there" or an error came back: it is this call's publication."""
    store, _ = with_faults(anywhere, **{fault: once(is_manifest)})
    published = publish(store, made(store))
    assert published.created
    assert published.manifest == read_manifest(anywhere, FOLDER)


def test_a_lost_reply_to_a_loser_makes_no_winner(anywhere: Store) -> None:
    """Its put is sent again, and still refused."""
    first = publish(anywhere, made(anywhere)).manifest
    store, _ = with_faults(anywhere, lose_reply_of=is_manifest)
    published = publish(store, made(store, 3, "other "))
    assert (published.manifest, published.created) == (first, False)


def test_a_put_that_failed_publishes_nothing(anywhere: Store) -> None:
    """The error passes, as it may help to try again; then it does."""
    store, _ = with_faults(anywhere, fail_before=once(is_manifest))
    manifest = made(store)
    with pytest.raises(StorageFailed, match="on purpose"):
        publish(store, manifest)
    assert find_manifest(anywhere, FOLDER) is None
    assert publish(store, manifest).created


def test_an_upload_that_failed_publishes_nothing(anywhere: Store) -> None:
    """Also that of the list of files."""
    store, _ = with_faults(anywhere, fail_before=lambda verb, key: verb == "upload" and "/files-" in key)
    with pytest.raises(StorageFailed, match="on purpose"):
        publish(store, many(store))
    assert find_manifest(anywhere, FOLDER) is None


def test_an_object_of_ones_own_is_known_by_its_bytes(anywhere: Store) -> None:
    """`create`: True if these bytes stand there, whoever was told what."""
    assert create(anywhere, "a", b"mine")
    assert create(anywhere, "a", b"mine")
    assert not create(anywhere, "a", b"other")
    store, _ = with_faults(anywhere, fail_after=once(lambda verb, key: verb == "put_if_absent"))
    with pytest.raises(StorageFailed):
        create(store, "a", b"other")
    store, _ = with_faults(anywhere, fail_after=once(lambda verb, key: verb == "put_if_absent"))
    assert create(store, "b", b"mine")


def test_what_may_not_last_is_not_there(anywhere: Store) -> None:
    """A put that was done and failed may not be on the disk (fsync): it is asked again, and has to succeed."""
    store, faulty = with_faults(anywhere, fail_after=lambda verb, key: verb == "put_if_absent")
    with pytest.raises(StorageFailed):
        create(store, "a", b"mine")
    assert [verb for verb, _ in faulty.calls].count("put_if_absent") == 2


PUBLISH = """
import sys
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
store = Store.at(sys.argv[1])
with store.storage.scratch() as scratch:
    file = upload(store, "datasets/x", scratch.write("x", sys.argv[2].encode()), "shard-00000.parquet", rows=1)
sys.stdin.read()
done = publish(store, Manifest("dataset", "x", {"of": "x"}, (file,)))
print(done.created, done.manifest.files[0].sha256)
"""


def test_of_many_processes_one_publishes(store: Store) -> None:
    """Each made other bytes of the same request: one created the manifest, and all report its files."""
    command = [sys.executable, "-c", PUBLISH, store.url]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([*command, str(n)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(6)
    ]
    said = [process.communicate("")[0].split() for process in running]
    assert sorted(created for created, _ in said) == ["False"] * 5 + ["True"]
    assert {digest for _, digest in said} == {read_manifest(store, FOLDER).files[0].sha256}


def test_of_many_threads_one_publishes() -> None:
    """The same where the store is not a folder, sixteen at once, with every reply lost."""
    store, _ = with_faults(in_memory(), lose_reply_of=is_manifest)
    manifests = [made(store, 1, f"{n} ") for n in range(16)]
    barrier, created = threading.Barrier(16), []

    def attempt(manifest: Manifest) -> None:
        barrier.wait()
        if publish(store, manifest).created:
            created.append(manifest.digest)

    threads = [threading.Thread(target=attempt, args=(manifest,)) for manifest in manifests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert created == [read_manifest(store, FOLDER).digest]
