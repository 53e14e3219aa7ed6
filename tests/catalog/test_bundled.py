"""The bundled model is published in a store that has no champion: whole, verified, once."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from digitrec.catalog import bundled
from digitrec.catalog import listing as catalog
from digitrec.catalog.bundled import provide_champion, publish_bundled, read_bundled
from digitrec.catalog.champion import promote, read_champion, read_log
from digitrec.catalog.layout import MANIFEST, model_folder
from digitrec.catalog.manifest import Manifest, check_file, find_manifest, read_file
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt
from tests.places import full

REAL = Path(bundled.__file__).parents[1] / "pretrained"
VERSION = "pretrained-0123456789abcdef"


def publish_model(store: Store, version: str) -> Manifest:
    """A model version of one file."""
    with store.storage.scratch() as scratch:
        staged = scratch.write("weights", version.encode())
        file = upload(store, model_folder(version), staged, "weights.safetensors")
    return publish(store, Manifest("model", version, {"of": version}, (file,))).manifest


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small bundled version, as the package carries one."""
    made = Store.at(tmp_path / "made")
    publish_model(made, VERSION)
    monkeypatch.setattr(bundled, "BUNDLE", Path(full(made, model_folder(VERSION))))
    return bundled.BUNDLE


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the real one, to be damaged."""
    monkeypatch.setattr(bundled, "BUNDLE", shutil.copytree(REAL, tmp_path / "installed"))
    return bundled.BUNDLE


@pytest.mark.usefixtures("bundle")
def test_it_becomes_the_first_champion(store: Store) -> None:
    """Entry 1 of the log; that it was made is returned the first time only."""
    (first, made), (second, made_again) = provide_champion(store), provide_champion(store)
    assert first is not None
    assert (first, made, made_again) == (second, True, False)
    assert [(entry.number, entry.version) for entry in read_log(store)] == [(1, VERSION)]
    assert read_file(store, catalog.model(store, VERSION), "weights.safetensors") == VERSION.encode()


@pytest.mark.usefixtures("bundle")
def test_a_champion_is_left_alone(store: Store) -> None:
    """Where there is one, nothing is published."""
    publish_model(store, "quick-11112222")
    promote(store, "quick-11112222", "asked for")
    champion, made = provide_champion(store)
    assert champion is not None
    assert (champion.name, made) == ("quick-11112222", False)
    assert len(catalog.listing(store, "model")) == 1


@pytest.mark.usefixtures("bundle")
def test_asking_who_is_champion_publishes_nothing(store: Store) -> None:
    """A query leaves an empty store empty."""
    assert read_champion(store) is None
    assert read_bundled() is not None
    assert not Path(store.url).exists()


def test_its_copy_is_new_and_writable(store: Store, bundle: Path) -> None:
    """A package may be old and read-only; the published copy is neither, so that no sweep takes it."""
    for path in (*bundle.rglob("*"), bundle):
        os.utime(path, (0, 0))
        path.chmod(0o555 if path.is_dir() else 0o444)
    began = time.time() - 1
    champion, _ = provide_champion(store)
    assert champion is not None
    folder = Path(full(store, champion.folder))
    assert all(path.stat().st_mtime > began and path.stat().st_mode & 0o200 for path in (folder, *folder.rglob("*")))
    (entry,) = catalog.listing(store, "model")
    assert entry.published > "2025"


def test_without_either_there_is_none(store: Store) -> None:
    """No champion and nothing bundled."""
    assert provide_champion(store) == (None, False)


PROVIDE = """
import sys
from digitrec.catalog.bundled import provide_champion
from digitrec.catalog.store import Store
champion, made = provide_champion(Store.at(sys.argv[1]))
print(champion.name, champion.digest, made)
"""


def test_of_eight_processes_at_once_one_makes_it_champion(store: Store) -> None:
    """The real bundle: each gets the same version, one entry stands in the log, every byte is the manifest's, and
    nothing else is left."""
    command = [sys.executable, "-c", PROVIDE, store.url]
    root = Path(__file__).parents[2]
    running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    said = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 8
    (name,), (digest,) = ({words[place] for words in said} for place in (0, 1))
    assert sorted(words[2] for words in said) == ["False"] * 7 + ["True"]
    manifest = catalog.model(store, name)
    assert (manifest.digest, [entry.number for entry in read_log(store)]) == (digest, [1])
    for file in manifest.files:
        check_file(store, manifest.key(file), file)
    folder = Path(full(store, manifest.folder))
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {file.path for file in manifest.files} | {MANIFEST}
    assert not any(Path(full(store, "_staging")).iterdir())


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json", "cascade-int8.onnx", MANIFEST])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_installation_is_said(store: Store, installed: Path, name: str, how: str) -> None:
    """Exit code 74, the file and the remedy; packed or not; nothing becomes visible in the store."""
    manifest = read_bundled()
    assert manifest is not None
    stem = name if name == MANIFEST else manifest.file(name).path
    (path,) = installed.glob(f"{stem}*")
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    with pytest.raises(Corrupt, match=f"{stem}.* of this installation is damaged or missing: install digitrec") as said:
        provide_champion(store)
    assert (said.value.exit_code, said.value.transient) == (74, False)
    assert find_manifest(store, manifest.folder) is None
    assert read_log(store) == []


def test_its_recipe_makes_it_again_from_a_store(
    store: Store, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the version that it was published as: the same name and weights, and what is written can be published."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import pretrained

    published = publish_bundled(store)
    assert published is not None
    made = pretrained.bundle(store, published.name, tmp_path / "again")
    assert made.name == published.name
    assert [file for file in made.files if not file.name.startswith("card.")] == [
        file for file in published.files if not file.name.startswith("card.")
    ]
    monkeypatch.setattr(bundled, "BUNDLE", tmp_path / "again")
    assert publish_bundled(Store.at(tmp_path / "other")) is not None
