"""Commits as the stages do them, to be disturbed by strace: each is run by a child process that waits to be traced."""

import sys
from multiprocessing.connection import Connection

from digitrec.catalog.champion import find_champion, promote
from digitrec.catalog.manifest import Kind, Manifest, check_file, find_manifest
from digitrec.catalog.pending import confirm_note, noted, put_note
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.errors import DigitrecError

DATA = b"pixels" * 5000
VERSION = "quick-00000000"


def dataset(store: Store) -> None:
    """Files under their digests, the note that it is to be scored, and the manifest."""
    put_note(store, "x")
    commit(store, "dataset", "x", "shard-00000.parquet")
    confirm_note(store, "x")


def model(store: Store) -> None:
    """A model version, and its promotion."""
    commit(store, "model", VERSION, "weights.safetensors")
    promote(store, VERSION, "for a test")


def commit(store: Store, kind: Kind, name: str, file: str) -> None:
    """The commit protocol with one data file."""
    draft = Manifest(kind, name, {"name": name}, (), facts={"labelled": False, "keyed": False})
    with store.storage.scratch() as scratch:
        staged = scratch.write(file, DATA)
        files = (upload(store, draft.folder, staged, file),)
    publish(store, Manifest(kind, name, draft.asked, files, facts=draft.facts))


COMMITS = {"dataset": dataset, "model": model}


def is_published(commit: str, store: Store) -> bool:
    """Whether the commit has shown all that it shows. Raises if any of that is torn, or names what is not there."""
    manifest = find_manifest(store, {"dataset": "datasets/x", "model": f"models/{VERSION}"}[commit])
    for file in manifest.files if manifest else ():
        check_file(store, manifest.key(file), file)
    if commit == "dataset":
        assert manifest is None or noted(store) == ["x"]
        return manifest is not None
    champion = find_champion(store)
    assert champion is None or (manifest is not None and champion.digest == manifest.digest)
    return champion is not None


def when_traced(commit: str, url: str, start: Connection) -> None:
    """Commit as soon as a word comes; end with the exit code that the command would have."""
    start.recv()
    try:
        COMMITS[commit](Store.at(url))
    except DigitrecError as error:
        sys.exit(error.exit_code)
