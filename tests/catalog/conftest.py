"""Stores in a folder and in memory, with faults and with old objects in them."""

import itertools
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from digitrec import storage
from digitrec.catalog.manifest import File, Manifest
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.storage.faulty import FaultyStorage
from digitrec.storage.memory import MemoryStorage
from tests.places import full

DAY_S = 86_400.0
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What this machine remembers of a champion's log is remembered for this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["folder", "memory"])
def anywhere(request: pytest.FixtureRequest, store: Store) -> Store:
    """An empty store of each kind."""
    return store if request.param == "folder" else in_memory()


def in_memory() -> Store:
    return Store(storage.register(MemoryStorage(f"test-{next(_numbers)}")).url)


def with_faults(store: Store, **faults: object) -> tuple[Store, FaultyStorage]:
    """The same store seen through a storage that fails, and notes each call."""
    faulty = FaultyStorage(store.storage, **faults)
    storage.register(faulty)
    return Store(faulty.url), faulty


def make_old(store: Store, key: str, days: float) -> None:
    """Let an object be last changed so many days ago."""
    then = time.time() - days * DAY_S
    if isinstance(store.storage, MemoryStorage):
        data, found = store.storage._objects[key]
        store.storage._objects[key] = data, replace(found, modified_s=then)
    else:
        os.utime(full(store, key), (then, then))


def put_file(store: Store, folder: str, name: str, data: bytes, rows: int = 0) -> File:
    with store.storage.scratch() as scratch:
        return upload(store, folder, scratch.write("staged", data), name, rows=rows)


def publish_model(store: Store, version: str, weights: bytes = b"weights", seed: int = 0) -> Manifest:
    """A model version of one file; its request is the version and the seed."""
    file = put_file(store, f"models/{version}", "weights.safetensors", weights)
    return publish(store, Manifest("model", version, {"version": version, "seed": seed}, (file,))).manifest


def publish_bytes(store: Store, name: str, *, labelled: bool = False) -> Manifest:
    """A dataset whose only shard is no Parquet: for what does not read it."""
    file = put_file(store, f"datasets/{name}", "shard-00000.parquet", name.encode(), rows=3)
    facts = {"labelled": labelled, "keyed": False, "rejects": {}}
    return publish(store, Manifest("dataset", name, {"of": name}, (file,), facts=facts)).manifest


def publish_predictions(store: Store, dataset: str, digest: str, version: str = "m-1") -> Manifest:
    """Predictions without rows of a dataset in the state of this digest."""
    asked = {"dataset": dataset, "dataset_digest": digest, "model": version, "variant": "fp32"}
    manifest = Manifest(
        "predictions", f"{dataset}/{version}.fp32", asked, (), facts={"keyed": False, "confidences": {}}
    )
    return publish(store, manifest).manifest
