"""Commits as the stages do them, to be disturbed by strace: each is run by a child process that waits to be traced."""

import os
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from digitrec.store.commit import make_folder, put_if_absent, settle, settle_folder

from digitrec.catalog.layout import digest_name
from digitrec.catalog.manifest import Manifest, check_file, describe, find_manifest, publish
from digitrec.catalog.store import Store
from digitrec.errors import DigitrecError, storage_errors
from tests.places import full

DATA = b"pixels" * 5000
ENTRY = b'{"entry": 1}\n'


def dataset(store: Store) -> None:
    """A staged file gets the name that carries its digest, and a manifest names it: datasets and predictions."""
    staged = Path(make_folder(store, "_staging/x"), "0.parquet")
    write(staged, DATA)
    digest = describe(store, store.relative(staged)).sha256
    path = f"datasets/x/{digest_name('shard', 0, digest)}"
    settle(store, store.relative(staged), path, digest)
    publish(store, "datasets/x", Manifest("dataset", "x", {"sources": []}, (describe(store, path),)))


def model(store: Store) -> None:
    """A whole folder is published by one rename: model versions."""
    staging = make_folder(store, "_staging/quick-00000000")
    write(Path(staging, "weights"), DATA)
    weights = replace(describe(store, "_staging/quick-00000000/weights"), path="models/quick-00000000/weights")
    manifest = Manifest("model", "quick-00000000", {"seed": 0}, (weights,))
    write(Path(staging, "manifest.json"), manifest.to_bytes())
    settle_folder(store, "_staging/quick-00000000", "models/quick-00000000")


def entry(store: Store) -> None:
    """One small file, put if absent: the champion's log, the ledger of landing/."""
    put_if_absent(store, "models/champion/00001.json", ENTRY)


def write(path: Path, data: bytes) -> None:
    """What each stage does in its own way."""
    with storage_errors("write"), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


COMMITS = {"dataset": dataset, "model": model, "entry": entry}


def is_published(commit: str, store: Store) -> bool:
    """Whether the commit has shown anything. Raises if what it shows is torn."""
    if commit == "entry":
        path = Path(full(store, "models/champion/00001.json"))
        assert not path.exists() or path.read_bytes() == ENTRY
        return path.exists()
    manifest = find_manifest(store, {"dataset": "datasets/x", "model": "models/quick-00000000"}[commit])
    for file in manifest.files if manifest else ():
        check_file(store, file)
    return manifest is not None


def when_traced(commit: str, url: str, start: Connection) -> None:
    """Commit as soon as a word comes; end with the exit code that the command would have."""
    start.recv()
    try:
        COMMITS[commit](Store.at(url))
    except DigitrecError as error:
        sys.exit(error.exit_code)
