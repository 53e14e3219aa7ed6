"""Bytes are whole and synced before they have a name, and a name is given once."""

import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from digitrec.store import commit

from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, StorageFailed
from tests.places import full


def files_in(store: Store) -> list[str]:
    return sorted(path.relative_to(store.url).as_posix() for path in Path(store.url).rglob("*") if path.is_file())


def test_put_if_absent_creates_once(store: Store) -> None:
    """The first writer wins; the second is told, and changes nothing; no temporary file stays."""
    assert commit.put_if_absent(store, "a/b.json", b"first")
    assert not commit.put_if_absent(store, "a/b.json", b"second")
    assert Path(full(store, "a/b.json")).read_bytes() == b"first"
    assert files_in(store) == ["a/b.json"]


def test_one_of_many_writers_wins(store: Store) -> None:
    """Sixteen threads put the same name at once, fifty times: exactly one is told that it created it."""
    for turn in range(50):
        barrier, wins, name = threading.Barrier(16), [], f"race/{turn}"

        def put(me: int, name: str = name, barrier: threading.Barrier = barrier, wins: list[int] = wins) -> None:
            barrier.wait()
            if commit.put_if_absent(store, name, str(me).encode()):
                wins.append(me)

        threads = [threading.Thread(target=put, args=(me,)) for me in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [str(me).encode() for me in wins] == [Path(full(store, f"race/{turn}")).read_bytes()]


def refuse(code: int) -> Callable[..., None]:
    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return link


def test_without_links_a_rename_that_does_not_replace_serves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links still publishes once."""
    monkeypatch.setattr(os, "link", refuse(errno.EOPNOTSUPP))
    assert commit.put_if_absent(store, "x", b"first")
    assert not commit.put_if_absent(store, "x", b"second")
    assert Path(full(store, "x")).read_bytes() == b"first"


def test_a_file_system_with_neither_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be published exactly once, nothing is: exit 78, and nothing is left behind."""

    class Libc:
        @staticmethod
        def renameat2(*_: object) -> int:
            return -1

    monkeypatch.setattr(os, "link", refuse(errno.EOPNOTSUPP))
    monkeypatch.setattr(commit.ctypes, "CDLL", lambda *_, **__: Libc)
    monkeypatch.setattr(commit.ctypes, "get_errno", lambda: errno.EINVAL)
    with pytest.raises(Misconfigured, match="neither link files nor rename"):
        commit.put_if_absent(store, "x", b"data")
    assert files_in(store) == []


def test_a_full_disk_is_one_line_that_says_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while syncing: a storage error with the reason and the remedy, and no temporary file stays."""
    Path(store.url).mkdir()
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(StorageFailed, match=r"cannot write.*No space left.*free some space"):
        commit.put_if_absent(store, "x", b"data")
    assert files_in(store) == []


def test_everything_is_synced_before_it_has_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power loss a name can only stand for bytes that reached the disk: fsync, then link, then the folder."""
    Path(store.url).mkdir()
    calls: list[str] = []
    fsync, link = os.fsync, os.link

    def watched_fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def watched_link(source: str, target: str) -> None:
        calls.append("name")
        link(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    commit.put_if_absent(store, "x", b"data")
    assert calls == ["file", "name", "folder"]


def staged(store: Store, data: bytes) -> str:
    path = "_staging/one/file"
    commit.write_replacing(store, path, data)
    return path


def test_settling_the_same_bytes_twice_is_harmless(store: Store) -> None:
    """Two attempts at one file: the second finds its work done and leaves the first one's inode alone."""
    digest = commit.sha256_of(full(store, staged(store, b"part")))
    commit.settle(store, "_staging/one/file", "p/part-00000-abc.parquet", digest)
    first = Path(full(store, "p/part-00000-abc.parquet")).stat().st_ino
    commit.settle(store, staged(store, b"part"), "p/part-00000-abc.parquet", digest)
    assert Path(full(store, "p/part-00000-abc.parquet")).stat().st_ino == first
    assert files_in(store) == ["p/part-00000-abc.parquet"]


def test_settling_repairs_a_damaged_file(store: Store) -> None:
    """A name promises its digest: bytes that do not have it give way to bytes that do."""
    digest = commit.sha256_of(full(store, staged(store, b"part")))
    commit.write_replacing(store, "p/part", b"pXrt")
    commit.settle(store, "_staging/one/file", "p/part", digest)
    assert Path(full(store, "p/part")).read_bytes() == b"part"


def test_a_folder_is_published_once(store: Store) -> None:
    """The second folder of the same name is refused and stays where it was staged; the first is untouched."""
    for attempt in ("one", "two"):
        commit.write_replacing(store, f"_staging/{attempt}/weights", attempt.encode())
    assert commit.settle_folder(store, "_staging/one", "models/m")
    assert not commit.settle_folder(store, "_staging/two", "models/m")
    assert files_in(store) == ["_staging/two/weights", "models/m/weights"]
    assert Path(full(store, "models/m/weights")).read_bytes() == b"one"


def test_sweeping_takes_only_what_is_old_and_unnamed(store: Store) -> None:
    """Leftovers go after the grace time; what is young, or kept, or holds something young, stays."""
    for path in ("w/old", "w/kept", "w/young", "w/folder/inner"):
        commit.write_replacing(store, path, b"")
    long_ago = time.time() - 10_000
    for path in ("w/old", "w/kept", "w/folder"):
        os.utime(full(store, path), (long_ago, long_ago))
    assert commit.sweep(store, "w", keep={"w/kept"}, grace_s=5_000) == ["w/old"]
    assert files_in(store) == ["w/folder/inner", "w/kept", "w/young"]


def test_sweeping_nothing_is_fine(store: Store) -> None:
    """A folder that was never made has nothing to sweep."""
    assert commit.sweep(store, "nowhere") == []


def test_what_vanishes_while_it_is_looked_at_is_alive(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which files come and go is somebody's work, however old it looks."""
    commit.write_replacing(store, "w/live/gone", b"")
    os.utime(full(store, "w/live"), (0, 0))
    walk = os.walk

    def walk_and_remove(top: Path) -> list[tuple[str, list[str], list[str]]]:
        found = list(walk(top))
        Path(full(store, "w/live/gone")).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "walk", walk_and_remove)
    assert commit.sweep(store, "w", grace_s=1) == []
