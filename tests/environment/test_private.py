"""Folders whose content is run: nobody else may be able to change it, or what stands above it."""

import os
from pathlib import Path

import pytest

from digitrec.caches import FOLDERS, gather_caches
from digitrec.private import make_private


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "above" / "cache"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
@pytest.mark.parametrize("levels", [0, 1])
def test_a_folder_that_others_may_write_is_not_believed(folder: Path, mode: int, levels: int) -> None:
    """Neither is one below it: whoever may write above can put another folder in its place."""
    assert make_private(folder) == folder
    place = (folder, *folder.parents)[levels]
    place.chmod(mode)
    assert make_private(folder) is None
    place.chmod(0o755)
    assert make_private(folder) == folder


def test_a_sticky_folder_above_is_no_danger(folder: Path) -> None:
    """In /tmp only the owner of an entry may replace it."""
    folder.parent.chmod(0o1777)
    assert make_private(folder) == folder
    folder.chmod(0o1777)
    assert make_private(folder) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folder needs root")
@pytest.mark.parametrize("levels", [0, 1])
def test_a_folder_of_another_user_is_not_believed(folder: Path, levels: int) -> None:
    """At any level."""
    os.chown((folder, *folder.parents)[levels], 12345, 12345)
    assert make_private(folder) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's entry needs root")
def test_an_entry_of_another_user_in_a_sticky_folder_is_not_believed(folder: Path) -> None:
    """Its owner may replace it, though the folder above is sticky."""
    folder.parent.chmod(0o1777)
    os.chown(folder, 12345, 12345)
    assert make_private(folder / "deeper") is None


def test_a_link_is_followed_once(folder: Path, tmp_path: Path) -> None:
    """What is given back is where it led when it was looked at."""
    (tmp_path / "link").symlink_to(folder)
    assert make_private(tmp_path / "link") == folder
    folder.chmod(0o777)
    assert make_private(tmp_path / "link") is None


def test_what_cannot_be_made_is_none(tmp_path: Path) -> None:
    """A file stands in the way."""
    (tmp_path / "file").touch()
    assert make_private(tmp_path / "file" / "cache") is None


def test_what_is_missing_above_is_private_too(tmp_path: Path) -> None:
    """Under a umask that lets the group write, what is made now is believed now and later."""
    before = os.umask(0o002)
    try:
        assert make_private(tmp_path / "home" / "cache" / "deep") == tmp_path / "home" / "cache" / "deep"
    finally:
        os.umask(before)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_caches_are_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that the group may write is not used: Torch runs what it finds in its own."""
    for name in FOLDERS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o770)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gather_caches()
    assert not any(os.environ[name].startswith(str(tmp_path)) for name in FOLDERS)
