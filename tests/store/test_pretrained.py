"""The model that comes along is put into a store that has no champion, once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digitrec.catalog import champion, pretrained
from digitrec.catalog import listing as catalog
from digitrec.catalog.bundled import ruling
from digitrec.catalog.layout import model_folder
from digitrec.catalog.manifest import Manifest, describe, publish, read_checked
from digitrec.catalog.store import Store
from digitrec.errors import NoInput
from tests.places import full

VERSION = "pretrained-0123abcd"


def publish_model(store: Store, version: str) -> None:
    """A model version of one file."""
    path = Path(full(store, f"{model_folder(version)}/weights.safetensors"))
    path.parent.mkdir(parents=True)
    path.write_bytes(version.encode())
    file = describe(store, store.relative(path))
    publish(store, model_folder(version), Manifest("model", version, {"of": version}, (file,)))


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled version, as the package carries one."""
    made = Store.at(tmp_path / "made")
    publish_model(made, VERSION)
    folder = Path(full(made, model_folder(VERSION)))
    monkeypatch.setattr(pretrained, "BUNDLE", folder)
    return folder


@pytest.mark.usefixtures("bundle")
def test_it_becomes_the_first_champion(store: Store) -> None:
    """Published with every byte checked, entry 1 of the log, and said aloud, the first time only."""
    first, second = ruling(store), ruling(store)
    assert (first.version, second.version) == (VERSION, VERSION)
    assert "comes with digitrec" in first.notes[0]
    assert second.notes == ()
    assert [(entry.number, entry.version) for entry in aliases.history(store)] == [(1, VERSION)]
    assert read_checked(store, catalog.model(store, VERSION).files[0]) == VERSION.encode()


@pytest.mark.usefixtures("bundle")
def test_a_champion_is_left_alone(store: Store) -> None:
    """Where one rules, nothing is put in."""
    publish_model(store, "quick-11112222")
    aliases.promote(store, "quick-11112222", "asked for")
    assert ruling(store).version == "quick-11112222"
    assert len(catalog.listing(store, "model")) == 1


@pytest.mark.usefixtures("bundle")
def test_many_at_once_agree(store: Store) -> None:
    """Eight processes that find no champion leave one entry and one version."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ruling(store).version, range(8)))
    assert set(found) == {VERSION}
    assert len(aliases.history(store)) == 1
    assert not any(Path(full(store, "_staging")).iterdir())


def test_its_copy_is_new_and_writable(store: Store, bundle: Path) -> None:
    """A package may be old and read-only; no sweep takes a copy in the making for debris, no listing calls it old."""
    for path in (*bundle.rglob("*"), bundle):
        os.utime(path, (0, 0))
        path.chmod(0o555 if path.is_dir() else 0o444)
    began = time.time() - 1
    folder = Path(full(store, model_folder(ruling(store).version)))
    assert all(path.stat().st_mtime > began and path.stat().st_mode & 0o200 for path in (folder, *folder.rglob("*")))
    assert catalog.listing(store, "model")[0].published_s > began


def test_without_either_the_next_step_is_named(store: Store) -> None:
    """No champion and nothing bundled: what to do."""
    with pytest.raises(NoInput, match="digitrec train"):
        ruling(store)
