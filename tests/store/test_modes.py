"""Who may read what is in a store: the mode of its root folder decides, not the umask of whoever writes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from digitrec.store import commit

from digitrec.catalog.store import Store
from tests.places import full


@pytest.fixture(autouse=True, params=[0o077, 0o000, 0o027])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whoever writes here has a umask of their own."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(store: Store) -> tuple[set[int], set[int]]:
    """Modes of all folders and of all files below the root."""
    paths = list(Path(store.url).rglob("*"))
    found = [{path.stat().st_mode & 0o7777 for path in paths if path.is_dir() is folder} for folder in (True, False)]
    return found[0], found[1]


def write_all_kinds(store: Store) -> None:
    """A name that is given once, one that is replaced, a settled file, a settled folder."""
    commit.put_if_absent(store, "models/champion/00001.json", b"{}")
    commit.write_replacing(store, "landed/cache.json", b"{}")
    commit.make_folder(store, "_staging/one/plots")
    Path(full(store, "_staging/one/part")).write_bytes(b"part")
    commit.settle(
        store, "_staging/one/part", "predictions/x/y.z/part-0", commit.sha256_of(full(store, "_staging/one/part"))
    )
    Path(full(store, "_staging/one/weights")).write_bytes(b"w")
    Path(full(store, "_staging/one/plots")).chmod(0o700)
    Path(full(store, "_staging/one/plots/a.png")).write_bytes(b"p")
    commit.settle_folder(store, "_staging/one", "models/m")


@pytest.mark.parametrize(
    ("root", "folders", "files"),
    [(0o755, 0o755, 0o644), (0o700, 0o700, 0o600), (0o2770, 0o2770, 0o640), (0o1777, 0o1777, 0o644)],
)
def test_everything_follows_the_root_folder(store: Store, root: int, folders: int, files: int) -> None:
    """Folders get its mode; files may be read by whoever may read it, and written by their owner alone."""
    Path(store.url).mkdir()
    Path(store.url).chmod(root)
    write_all_kinds(store)
    assert modes(store) == ({folders}, {files})


def test_a_new_store_is_as_private_as_its_maker_wants(store: Store) -> None:
    """The first write makes the root folder by the maker's umask, and what is in it follows."""
    write_all_kinds(store)
    root = Path(store.url).stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    assert root == 0o777 & ~umask
    assert modes(store) == ({root}, {0o200 | root & 0o444})


def test_folders_above_the_store_are_left_alone(tmp_path: Path) -> None:
    """What is made on the way to the root is the maker's own."""
    (tmp_path / "there").mkdir(mode=0o755)
    (tmp_path / "there").chmod(0o711)
    commit.put_if_absent(Store.at(tmp_path / "there/new/store"), "a/b", b"")
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o711
