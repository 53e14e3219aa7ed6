"""Sweeping removes what nothing names and nobody can want, and nothing else, whoever reuses it at the same time."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from digitrec.catalog.champion import promote
from digitrec.catalog.leases import hold
from digitrec.catalog.listing import listing
from digitrec.catalog.manifest import Manifest, RowGroup, find_manifest, read_manifest
from digitrec.catalog.publish import publish
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import GIVEN_UP_S, GRACE_S, keep_alive, sweep_folder, sweep_store, sweep_tree
from digitrec.errors import TryAgain
from digitrec.storage import Stat
from digitrec.storage.faulty import Verb, once
from tests.catalog.conftest import (
    DAY_S,
    in_memory,
    make_old,
    publish_bytes,
    publish_model,
    publish_predictions,
    put_file,
    with_faults,
)
from tests.places import full

OLD, YOUNG, ANCIENT = 8, 6, 31


def walk(store: Store, prefix: str = "") -> list[str]:
    """Every key, sorted."""
    keys = []
    for name in store.storage.list(prefix):
        key = f"{prefix}/{name}" if prefix else name
        keys += walk(store, key[:-1]) if name.endswith("/") else [key]
    return sorted(keys)


def age_all(store: Store, days: float) -> None:
    for key in walk(store):
        make_old(store, key, days)


def look(store: Store, key: str) -> Stat:
    found = store.storage.stat(key)
    assert found is not None
    return found


def many_groups(store: Store) -> Manifest:
    """A dataset whose list of files stands apart, with a file in a folder inside."""
    file = put_file(store, "datasets/x", "shard-00000.parquet", b"x", rows=1)
    groups = tuple(RowGroup(1, n, n, "0" * 64) for n in range(4_000))
    plot = put_file(store, "datasets/x", "plots/a.png", b"plot")
    return publish(
        store, Manifest("dataset", "x", {"of": "x"}, (replace(file, row_groups=groups), plot), facts={"labelled": True})
    ).manifest


def test_what_is_named_stays_however_old(anywhere: Store) -> None:
    """The manifest, its list of files, the files, also in folders inside, and what the caller keeps."""
    manifest = many_groups(anywhere)
    assert len(manifest.paths) == 4
    anywhere.storage.put("datasets/x/submission.csv", b"")
    age_all(anywhere, 800)
    before = walk(anywhere)
    assert sweep_folder(anywhere, "datasets/x", {"submission.csv"}) == []
    assert walk(anywhere) == before
    assert read_manifest(anywhere, "datasets/x") == manifest


def test_what_nothing_names_goes_when_it_is_old(anywhere: Store) -> None:
    """Strays, beside the manifest and in folders it names something in; a young one stays, as does what other folders
    hold."""
    many_groups(anywhere)
    named = walk(anywhere)
    strays = [f"datasets/x/{name}" for name in ("files-00.json", "plots/b.png", "shard-1.parquet")]
    for key in (*strays, "datasets/x/young", "datasets/x/runs/a.json", "datasets/xy/a"):
        anywhere.storage.put(key, b"")
    age_all(anywhere, OLD)
    make_old(anywhere, "datasets/x/young", YOUNG)
    assert sorted(sweep_folder(anywhere, "datasets/x")) == sorted(strays)
    assert walk(anywhere) == sorted([*named, "datasets/x/young", "datasets/x/runs/a.json", "datasets/xy/a"])


def test_a_folder_whose_manifest_cannot_be_read_is_left_alone(anywhere: Store) -> None:
    """What it names is not known."""
    for data in (b"{", b'{"format": 4}'):
        anywhere.storage.put("datasets/x/manifest.json", data)
        anywhere.storage.put("datasets/x/a", b"")
        age_all(anywhere, 800)
        assert sweep_folder(anywhere, "datasets/x") == []
        assert sweep_store(anywhere) == []
        assert walk(anywhere) == ["datasets/x/a", "datasets/x/manifest.json"]


def test_failing_to_clean_up_is_no_failure(anywhere: Store) -> None:
    """A sweep comes after the work; what cannot be listed, looked at or removed stays."""
    publish_bytes(anywhere, "x")
    anywhere.storage.put("datasets/x/stray", b"")
    age_all(anywhere, OLD)
    for verb in ("list", "stat", "delete", "read", "sweep_unfinished"):
        store, _ = with_faults(anywhere, fail_before=lambda called, key, verb=verb: called == verb)
        assert sweep_folder(store, "datasets/x") in ([], ["datasets/x/stray"])
        sweep_tree(store, "datasets/x", grace_s=1e12)
    assert find_manifest(anywhere, "datasets/x") is not None


def test_what_killed_processes_left_half_written_goes(store: Store) -> None:
    """Temporary files of a folder, and scratch, when they are old."""
    publish_bytes(store, "x")
    for path in ("datasets/x/.0123456789abcdef.tmp", "_staging/dead/shard"):
        Path(full(store, path)).parent.mkdir(parents=True, exist_ok=True)
        Path(full(store, path)).touch()
    for path in ("datasets/x/.0123456789abcdef.tmp", "_staging/dead/shard", "_staging/dead"):
        make_old(store, path, OLD)
    sweep_folder(store, "datasets/x")
    assert list(Path(store.url).rglob("*.tmp")) == list(Path(full(store, "_staging")).iterdir()) == []


# Reuse


@pytest.mark.parametrize(("days", "touched"), [(0, False), (3, False), (3.6, True), (800, True)])
def test_reuse_makes_young_what_would_be_swept_soon(anywhere: Store, days: float, touched: bool) -> None:
    """Older than half the grace: younger ones cost nothing."""
    anywhere.storage.put("a", b"data")
    make_old(anywhere, "a", days)
    found = look(anywhere, "a")
    assert keep_alive(anywhere, "a", found)
    assert (look(anywhere, "a") != found) is touched
    assert time.time() - look(anywhere, "a").modified_s < GRACE_S / 2 + 60
    assert anywhere.storage.read("a") == b"data"


def test_what_is_gone_cannot_be_reused(anywhere: Store) -> None:
    """Swept since it was looked at: it is made anew."""
    anywhere.storage.put("a", b"data")
    make_old(anywhere, "a", OLD)
    found = look(anywhere, "a")
    anywhere.storage.delete("a")
    assert not keep_alive(anywhere, "a", found)


def reuse(store: Store) -> Manifest:
    """An interrupted run goes on: the files of its dataset are there and old. It keeps them, and publishes."""
    file = put_file(store, "datasets/x", "shard-00000.parquet", b"x", rows=1)
    make_old(store, f"datasets/x/{file.path}", OLD)
    return Manifest("dataset", "x", {"of": "x"}, (file,), facts={"labelled": True, "keyed": False})


def at_call(store: Store, when: Callable[[Verb, str], bool], do: Callable[[], object]) -> Store:
    """The store, with something else happening immediately before the first call for which `when` is true."""
    done: list[bool] = []

    def before(verb: Verb, key: str) -> bool:
        if not done and when(verb, key):
            done.append(True)
            do()
        return False

    return with_faults(store, fail_before=before)[0]


def test_reuse_while_a_sweep_looks_is_safe(anywhere: Store) -> None:
    """The sweep has looked at an old file; then it is reused; then the sweep would remove it, and sees that it was
    touched."""
    manifest = reuse(anywhere)
    key = manifest.key(manifest.files[0])
    sweeping = at_call(
        anywhere, lambda verb, _: verb == "delete", lambda: keep_alive(anywhere, key, look(anywhere, key))
    )
    assert sweep_folder(sweeping, "datasets/x") == []
    assert publish(anywhere, manifest).created


def test_a_sweep_between_looking_and_reuse_is_noticed(anywhere: Store) -> None:
    """Reuse has looked at an old file; then a sweep removes it: it cannot be kept alive. And whoever has not asked is
    told by the publication, which shows nothing; the next try makes it anew."""
    manifest = reuse(anywhere)
    key = manifest.key(manifest.files[0])
    reusing = at_call(anywhere, lambda verb, _: verb == "touch", lambda: sweep_store(anywhere))
    assert not keep_alive(reusing, key, look(anywhere, key))
    with pytest.raises(TryAgain, match="has been removed"):
        publish(anywhere, manifest)
    assert find_manifest(anywhere, "datasets/x") is None
    assert publish(anywhere, replace(manifest, files=(reuse(anywhere).files[0],))).created


def test_a_sweep_after_reuse_finds_it_young() -> None:
    """Between keeping a file alive and naming it, a whole sweep changes nothing."""
    store = in_memory()
    manifest = reuse(store)
    key = manifest.key(manifest.files[0])
    assert keep_alive(store, key, look(store, key))
    publishing = at_call(store, lambda verb, _: verb == "put_if_absent", lambda: sweep_store(store))
    assert publish(publishing, manifest).created
    assert store.storage.read(key) == b"x"


def test_a_sweep_meets_a_publication_in_the_middle() -> None:
    """What is published while a folder is swept was young when it was put, and stays, with all that it names."""
    store = in_memory()
    manifest = reuse(store)
    key = manifest.key(manifest.files[0])

    def publish_now() -> None:
        keep_alive(store, key, look(store, key))
        publish(store, manifest)

    for verb in ("read", "list", "stat"):
        sweeping = at_call(store, lambda called, _, verb=verb: called == verb, publish_now)
        assert sweep_store(sweeping) == []
        assert store.storage.read(key) == b"x"
        store.storage.delete("datasets/x/manifest.json")
        make_old(store, key, OLD)


# The whole store


def test_the_whole_store_is_swept(anywhere: Store) -> None:
    """F36: strays of all kinds, and what was given up; what is published, kept, young, other people's or replaced
    stays."""
    dataset = publish_bytes(anywhere, "x")
    publish_model(anywhere, "m-1")
    promote(anywhere, "m-1", "first")
    publish_predictions(anywhere, "x", dataset.digest)
    published = walk(anywhere)
    stay = [
        "models/m-1/runs/a.json",
        "predictions/x/m-1.fp32/runs/a.json",
        "predictions/x/m-1.fp32/submission.csv",
        "landing/old.csv",
        f"landed/{'0' * 64}.json",
        "pending/x",
        "_replaced/predictions/x/m-0.fp32/0/manifest.json",
        "other people's/file",
    ]
    go = [
        "datasets/x/shard-1.parquet",
        "datasets/never/shard-1.parquet",
        "models/m-1/weights-0.safetensors",
        "models/never/weights-0.safetensors",
        "models/never/plots/a.png",
        "predictions/x/m-1.fp32/part-1.parquet",
        "predictions/x/m-1.fp32/_attempts/00000-0.json",
        "predictions/never/m-1.fp32/part-1.parquet",
        "predictions/never/m-1.fp32/_attempts/00000-0.json",
        "_training/m-9/checkpoints/00001.ckpt",
        "logs/m-9/1/events",
        "_leases/training/m-9/00000001.json",
        "_leases/training/m-9/00000002.json",
    ]
    for key in (*stay, *go):
        anywhere.storage.put(key, b"")
    age_all(anywhere, ANCIENT)
    assert sorted(sweep_store(anywhere, {"submission.csv"})) == sorted(go)
    assert walk(anywhere) == sorted([*published, *stay])
    assert all(entry.manifest for kind in ("dataset", "model", "predictions") for entry in listing(anywhere, kind))
    assert sweep_store(anywhere, {"submission.csv"}) == []


def test_a_listing_that_fails_once_removes_nothing_published(anywhere: Store) -> None:
    """Predictions whose folder cannot be listed for a moment are not taken for a folder without a manifest."""
    publish_predictions(anywhere, "x", publish_bytes(anywhere, "x").digest)
    age_all(anywhere, ANCIENT)
    before = walk(anywhere)
    failing, _ = with_faults(anywhere, fail_before=once(lambda verb, key: (verb, key) == ("list", "predictions/x")))
    assert sweep_store(failing) == []
    assert walk(anywhere) == before


def test_a_copy_of_a_published_folder_stays(anywhere: Store) -> None:
    """`cp -r datasets/x datasets/kept/x`: there is no manifest in `datasets/kept`, and yet nobody has given it up."""
    dataset = publish_bytes(anywhere, "x")
    for path in dataset.paths:
        anywhere.storage.copy(f"{dataset.folder}/{path}", f"datasets/kept/x/{path}")
    age_all(anywhere, ANCIENT)
    assert sweep_store(anywhere) == []


@pytest.mark.parametrize(
    ("young", "old"),
    [
        ("datasets/never/shard-2.parquet", "datasets/never/shard-1.parquet"),
        ("predictions/never/m-1.fp32/_attempts/00001-0.json", "predictions/never/m-1.fp32/part-1.parquet"),
        ("_training/m-9/checkpoints/00002.ckpt", "_training/m-9/checkpoints/00001.ckpt"),
        ("logs/m-9/2/events", "logs/m-9/1/events"),
    ],
)
def test_work_that_may_go_on_stays_whole(anywhere: Store, young: str, old: str) -> None:
    """One young object is a sign of life for all that lies with it."""
    for key in (young, old):
        anywhere.storage.put(key, b"")
    make_old(anywhere, old, 800)
    assert sweep_store(anywhere) == []
    assert walk(anywhere) == sorted([young, old])


def test_an_unfinished_training_can_be_resumed_for_a_month(anywhere: Store) -> None:
    """A week is not enough."""
    anywhere.storage.put("_training/m-9/checkpoints/00001.ckpt", b"")
    for days, removed in ((OLD, []), (29, []), (ANCIENT, ["_training/m-9/checkpoints/00001.ckpt"])):
        make_old(anywhere, "_training/m-9/checkpoints/00001.ckpt", days)
        assert sweep_store(anywhere) == removed
    assert GIVEN_UP_S == 30 * DAY_S


def test_a_lease_that_is_held_stays(anywhere: Store) -> None:
    """With all its generations, whose numbers have no gap; of one that is swept, the last goes first."""
    for number in (1, 2, 3):
        with hold(anywhere, "training/m-1") as lease:
            lease.renew()
            if number == 3:
                make_old(anywhere, "_leases/training/m-1/00000001.json", 800)
                assert sweep_store(anywhere) == []
    assert len(walk(anywhere)) == 9
    age_all(anywhere, ANCIENT)
    store, faulty = with_faults(anywhere)
    sweep_store(store)
    deleted = [key for verb, key in faulty.calls if verb == "delete"]
    assert deleted == sorted(deleted, reverse=True)
    assert walk(anywhere) == []
