"""What other people have put into a storage: walked and opened without following a link, on every backend alike."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec.errors import Misconfigured, StorageFailed
from digitrec.storage import NotFound, Storage
from digitrec.storage.base import NotPlain
from digitrec.storage.faulty import FaultyStorage
from digitrec.storage.local import LocalStorage
from digitrec.storage.memory import MemoryStorage

FOLLOWED_NOT = "a link is not followed: copy the file"
NO_FILE = "it is a pipe, socket or device; expected a file"


def everywhere(name: str) -> bool:
    return True


def not_hidden(name: str) -> bool:
    return not name.startswith(".")


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "store"))


@pytest.fixture(params=["local", "memory", "faulty"])
def storage(request: pytest.FixtureRequest, local: LocalStorage) -> Storage:
    return {"local": local, "memory": MemoryStorage(), "faulty": FaultyStorage(local)}[request.param]


def problems(storage: Storage) -> dict[str, str]:
    return {found.key: found.problem for found in storage.walk("landing", everywhere) if found.problem}


def test_a_walk_finds_every_object_with_what_is_known_of_it(storage: Storage) -> None:
    """At any depth, below the prefix alone, in the state that `stat` tells."""
    for key in ("landing/a", "landing/day/b", "landing/day/night/c", "landings/d", "other/landing/e"):
        storage.put(key, key.encode())
    found = {found.key: found.stat for found in storage.walk("landing", everywhere)}
    assert found == {key: storage.stat(key) for key in ("landing/a", "landing/day/b", "landing/day/night/c")}


def test_a_walk_stays_out_of_what_it_is_not_to_enter(storage: Storage) -> None:
    """Such a folder is named once, whatever is in it; a file of such a name is a file."""
    for key in ("landing/.up/a", "landing/.up/b/c", "landing/day/.up/d", "landing/.e"):
        storage.put(key, b"")
    found = {found.key: found.stat is None for found in storage.walk("landing", not_hidden)}
    assert found == {"landing/.up/": True, "landing/day/.up/": True, "landing/.e": False}


def test_a_walk_where_nothing_is_finds_nothing(storage: Storage) -> None:
    assert storage.walk("landing", everywhere) == []
    storage.put("a", b"")
    assert storage.walk("landing", everywhere) == []


def test_an_opened_object_comes_with_its_state(storage: Storage) -> None:
    """The one that was opened, even if it is replaced before it is read."""
    storage.put("landing/a", b"first")
    before = storage.stat("landing/a")
    file, stat = storage.open_plain("landing/a")
    storage.put("landing/a", b"second")
    with file:
        assert (file.read(), stat) == (b"first", before)
        assert (file.seek(2), file.read(2)) == (2, b"rs")
    assert storage.stat("landing/a") != before


def test_what_is_not_there_is_said_not_to_be_there(storage: Storage) -> None:
    with pytest.raises(NotFound):
        storage.open_plain("landing/a")
    storage.put("landing/a", b"")
    with pytest.raises(NotFound):
        storage.open_plain("landing/a/b")


def symbolic(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "secret")


def dangling(place: Path, outside: Path) -> None:
    place.symlink_to("nowhere")


def looping(place: Path, outside: Path) -> None:
    place.symlink_to(place.name)


def folder(place: Path, outside: Path) -> None:
    place.symlink_to(outside)


def hard(place: Path, outside: Path) -> None:
    place.hardlink_to(outside / "secret")


def pipe(place: Path, outside: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize("make", [symbolic, dangling, looping, folder, hard, pipe])
def test_what_is_no_file_of_its_own_is_named_and_not_opened(
    make: Callable[[Path, Path], None], local: LocalStorage, tmp_path: Path
) -> None:
    """A link of any kind, a pipe that nobody writes to: found as a problem, and refused when it is opened after all."""
    local.put("landing/day/a", b"")
    outside = tmp_path / "home"
    outside.mkdir()
    (outside / "secret").write_bytes(b"5ec12e7")
    make(Path(local.url, "landing/day/x"), outside)
    problem = NO_FILE if make is pipe else FOLLOWED_NOT
    assert problems(local) == {"landing/day/x": problem}
    with pytest.raises(NotPlain) as told:
        local.open_plain("landing/day/x")
    assert told.value.problem == problem
    with pytest.raises((NotPlain, NotFound)):
        local.open_plain("landing/day/x/secret")


def test_a_folder_is_not_opened(local: LocalStorage) -> None:
    local.put("landing/day/a", b"")
    with pytest.raises(NotPlain, match="it is a folder"):
        local.open_plain("landing/day")


def test_the_folder_itself_may_be_a_link(local: LocalStorage, tmp_path: Path) -> None:
    """It is the operator's; but one that leads nowhere is a disk that is not mounted, and not an empty folder."""
    Path(local.url).mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a").write_bytes(b"a")
    Path(local.url, "landing").symlink_to(tmp_path / "disk")
    assert [found.key for found in local.walk("landing", everywhere)] == ["landing/a"]
    with local.open_plain("landing/a")[0] as file:
        assert file.read() == b"a"
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    with pytest.raises(Misconfigured, match="disk"):
        local.walk("landing", everywhere)


def test_a_name_that_is_no_key_is_a_problem(local: LocalStorage) -> None:
    """Not UTF-8, or longer than an object store takes."""
    local.put("landing/a", b"")
    long = "/".join(["d" * 200] * 6)
    bad = os.fsdecode(b"bad\xff")
    for name in (bad, long):
        path = Path(local.url, "landing", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    told = problems(local)
    assert told.pop(f"landing/{bad}") == "its name is not UTF-8 text; rename it"
    assert "expected at most 1024 bytes" in told.pop(f"landing/{long}")
    assert not told


def test_a_folder_that_cannot_be_read_is_a_problem_unless_it_is_the_first(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beside it is found; where nothing at all can be read, that is no empty folder."""
    local.put("landing/a", b"")
    local.put("landing/locked/b", b"")
    real, locked = os.scandir, {Path(local.url, "landing/locked").stat().st_ino}

    def refuse(folder: int) -> object:
        if os.fstat(folder).st_ino in locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert problems(local) == {"landing/locked": "Permission denied"}
    assert len(local.walk("landing", everywhere)) == 2
    locked.add(Path(local.url, "landing").stat().st_ino)
    with pytest.raises(StorageFailed, match="landing: Permission denied"):
        local.walk("landing", everywhere)


def test_a_state_says_from_when_on_it_can_be_trusted(local: LocalStorage) -> None:
    """A file system's clock may tick every two seconds: two changes within one tick may look the same."""
    local.put("landing/a", b"")
    os.utime(Path(local.url, "landing/a"), (0, 0))
    (found,) = local.walk("landing", everywhere)
    assert found.stat
    assert found.stat.modified_s == 0
    assert time.time() + 1 < found.stat.certain_s <= time.time() + 2
