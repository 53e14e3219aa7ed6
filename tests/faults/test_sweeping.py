"""Processes that publish, reuse and sweep in the same folders at random: nothing is lost, nothing named is missing."""

import json
import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec.catalog import sweep
from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.listing import published
from digitrec.catalog.manifest import File, Manifest, check_file
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.errors import TryAgain
from digitrec.storage.local import LocalStorage

GRACE_S = 2.0
"""Instead of seven days; an attempt that takes longer than a quarter of it is given up, as one of days would be."""
FILES = 3
NAMES = 12
GIVEN_UP = 0.6
PAUSE_S = 0.3
PROCESSES = 2
DELETE = LocalStorage.delete


def act(url: str, seed: int, seconds: float, log: Path) -> None:
    """Publish, reuse and sweep at random; write down what was published."""
    sweep.GRACE_S = GRACE_S
    LocalStorage.delete = delete_late  # type: ignore[method-assign]
    dice, store, end = random.Random(seed), Store.at(url), time.monotonic() + seconds
    done: dict[str, str] = {}
    while time.monotonic() < end:
        name = f"x{int(time.time() / (4 * GRACE_S))}-{dice.randrange(NAMES)}"  # names come and go
        if dice.random() < 0.3:
            sweep.sweep_store(store)
        elif (manifest := attempt(store, name, dice)) is not None:
            done[name] = manifest.digest
        time.sleep(dice.uniform(0, 0.2))
    log.write_text(json.dumps(done))


def attempt(store: Store, name: str, dice: random.Random) -> Manifest | None:
    """Publish a dataset, with files that an earlier attempt has left where there are any; or give up half-way."""
    began = time.monotonic()
    files = []
    for index in range(FILES):
        data = f"{name} {index}".encode() * 100
        with store.storage.scratch() as scratch:
            staged = scratch.write("file", data)
            stem = f"shard-{index:05d}"
            key = f"{dataset_folder(name)}/{stem}-{staged.sha256[:16]}.parquet"
            found = store.storage.stat(key)
            reused = found is not None and (sweep.keep_alive(store, key, found))
            if reused:
                files.append(File(key.rpartition("/")[2], 0, staged.bytes, staged.sha256))
            else:
                files.append(upload(store, dataset_folder(name), staged, f"{stem}.parquet"))
        time.sleep(dice.uniform(0, 0.02))
    if dice.random() < GIVEN_UP:
        return None  # killed, as far as anybody can see
    if time.monotonic() - began > GRACE_S / 4:
        return None
    manifest = Manifest("dataset", name, {"name": name}, tuple(files), facts={"labelled": True, "keyed": False})
    try:
        return publish(store, manifest).manifest
    except TryAgain:
        return None


def delete_late(storage: LocalStorage, key: str, *, state: str | None = None) -> bool:
    """`LocalStorage.delete` with a pause where it hurts most: between the sweep's look and its removal."""
    time.sleep(PAUSE_S)
    return DELETE(storage, key, state=state)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Store, dict[str, str]]]:
    """Let processes act at random for some seconds; the store, and what they have published."""

    def run_for(seconds: float) -> tuple[Store, dict[str, str]]:
        store = Store.at(tmp_path / "store")
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")  # noqa: T201  # shown if it fails
        context = multiprocessing.get_context("spawn")
        logs = [tmp_path / f"{number}.json" for number in range(PROCESSES)]
        processes = [
            context.Process(target=act, args=(store.url, seed + number, seconds, log))
            for number, log in enumerate(logs)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * PROCESSES
        done: dict[str, str] = {}
        for log in logs:
            for name, digest in json.loads(log.read_text()).items():
                assert done.setdefault(name, digest) == digest  # two that published one name, published one thing
        return store, done

    return run_for


def check(store: Store, done: dict[str, str]) -> None:
    """What was published is there, and every file that a manifest names."""
    there = published(store, "dataset")
    assert {manifest.name: manifest.digest for manifest in there} == done
    for manifest in there:
        for file in manifest.files:
            check_file(store, manifest.key(file), file)


def test_sweeping_never_takes_what_is_published(run: Callable[..., tuple[Store, dict[str, str]]]) -> None:
    """Two processes, twelve seconds: leftovers are reused while the other one removes what is old."""
    store, done = run(12)
    assert len(done) > 2
    check(store, done)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_sweeping_takes_nothing_in_ten_minutes(run: Callable[..., tuple[Store, dict[str, str]]]) -> None:
    """The same for ten minutes."""
    store, done = run(600)
    check(store, done)
