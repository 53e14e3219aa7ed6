"""Which storage a location names."""

import os
from pathlib import Path

import pytest

from digitrec.errors import Misconfigured
from digitrec.storage import at, register
from digitrec.storage.local import LocalStorage
from digitrec.storage.memory import MemoryStorage


@pytest.mark.parametrize(
    ("location", "folder"),
    [
        ("/data/store", "/data/store"),
        ("/data/store/", "/data/store"),
        ("/data/with space?#%41", "/data/with space?#%41"),
        ("file:///data/store", "/data/store"),
        ("FILE://localhost/data/store/", "/data/store"),
        ("file:///data/with%20space?#", "/data/with space?#"),
        (Path("/data/store"), "/data/store"),
    ],
)
def test_a_folder_by_path_or_url(location: str | Path, folder: str) -> None:
    """Both name the same one; in a path no character means anything."""
    assert at(location) == LocalStorage(folder)


def test_a_relative_folder_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken from the working directory of now, whatever becomes of that; `~` is the home."""
    here = Path.cwd()
    storage = at("store")
    os.chdir(tmp_path.parent)
    assert storage == LocalStorage(str(here / "store"))
    monkeypatch.setenv("HOME", "/home/me")
    assert at("~/store") == LocalStorage("/home/me/store")


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("s3://bucket/store", "s3 stores are not supported yet"),
        ("memory://never-registered", "memory stores are not supported yet"),
        ("file://host/data", "needs an absolute path"),
        ("file://data", "needs an absolute path"),
        ("file://", "needs an absolute path"),
    ],
)
def test_what_names_no_storage(location: str, told: str) -> None:
    """A URL of another kind is never a folder of that name."""
    with pytest.raises(Misconfigured, match=f"--store {location}: .*{told}"):
        at(location)


def test_a_registered_storage_is_found_by_its_url() -> None:
    """Itself, not another one of the same name."""
    storage = register(MemoryStorage())
    assert at(storage.url) is storage
