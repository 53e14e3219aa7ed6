"""What a folder as storage promises beyond the contract: NFS, file systems without links, modes, links, errors."""

import ctypes
import errno
import mmap
import os
import pickle
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from digitrec.errors import DigitrecError, Misconfigured, StorageFailed
from digitrec.storage import Storage
from digitrec.storage.local import SCRATCH, LocalStorage
from digitrec.storage.testing import at_once
from tests.storage.operations import PROCESSES, VERBS, race, try_as_nobody, upload_data


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(str(tmp_path / "store"))


def files_in(storage: Storage) -> list[str]:
    """Every file below the root, whatever a listing shows."""
    return sorted(path.relative_to(storage.url).as_posix() for path in Path(storage.url).rglob("*") if path.is_file())


def refuse(code: int) -> Callable[..., Any]:
    """A system call that always fails."""

    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def then_refuse(call: Callable[..., Any], code: int) -> Callable[..., Any]:
    """A call whose reply was lost: NFS sends it again, and the second finds the work of the first."""

    def twice(*arguments: object) -> None:
        call(*arguments)
        raise OSError(code, os.strerror(code))

    return twice


NO_LINKS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV]


class Libc:
    """renameat2(2) of a file system where it ends like this."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rename: Callable[..., Any]) -> None:
        self.error, self.rename = 0, rename
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: self)
        monkeypatch.setattr(ctypes, "get_errno", lambda: self.error)

    def renameat2(self, _: int, source: bytes, __: int, target: bytes, ___: int) -> int:
        try:
            self.rename(source, target)
        except OSError as error:
            self.error = error.errno or 0
            return -1
        return 0


# Lost replies of NFS


def test_a_link_whose_reply_was_lost_is_ours(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "File exists" may mean our own file, which its inode tells."""
    monkeypatch.setattr(os, "link", then_refuse(os.link, errno.EEXIST))
    assert storage.put_if_absent("a/b", b"mine")
    assert not storage.put_if_absent("a/b", b"mine")
    assert storage.read("a/b") == b"mine"
    assert files_in(storage) == ["a/b"]


def test_a_rename_whose_reply_was_lost_is_ours(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "No such file" may mean that it has its new name already."""
    monkeypatch.setattr(os, "replace", then_refuse(os.replace, errno.ENOENT))
    storage.put("a/put", b"put")
    upload_data(storage, "a/uploaded", b"uploaded")
    storage.copy("a/put", "a/copied")
    assert [storage.read(f"a/{name}") for name in ("put", "uploaded", "copied")] == [b"put", b"uploaded", b"put"]


@pytest.mark.parametrize("code", [errno.EEXIST, errno.ENOENT])
def test_a_rename_without_replacing_whose_reply_was_lost_is_ours(
    storage: LocalStorage, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no links: the second attempt finds the target taken, or its source gone."""
    monkeypatch.setattr(os, "link", refuse(errno.EOPNOTSUPP))
    Libc(monkeypatch, then_refuse(os.rename, code))
    assert storage.put_if_absent("a/b", b"mine")
    assert files_in(storage) == ["a/b"]


def test_a_rename_that_was_not_done_is_no_success(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same reply, but the object is another one's, or is not there."""
    monkeypatch.setattr(os, "replace", refuse(errno.ENOENT))
    for write in (storage.put, lambda key, data: upload_data(storage, key, data)):
        with pytest.raises(StorageFailed, match="No such file"):
            write("a/b", b"mine")
    storage.put_if_absent("a/b", b"another's")
    with pytest.raises(StorageFailed, match="No such file"):
        storage.put("a/b", b"mine")
    assert storage.read("a/b") == b"another's"


# File systems without links


@pytest.mark.parametrize("code", NO_LINKS)
def test_without_links_a_rename_that_does_not_replace_serves(
    storage: LocalStorage, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without hard links still creates once, also in a race."""
    monkeypatch.setattr(os, "link", refuse(code))
    created: list[int] = []

    def put(me: int) -> None:
        if storage.put_if_absent("a/b", b"%d" % me):
            created.append(me)

    at_once(put, 8)
    assert [b"%d" % me for me in created] == [storage.read("a/b")]
    assert files_in(storage) == ["a/b"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_with_neither_is_refused(
    storage: LocalStorage, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be created exactly once, nothing is: exit 78, and nothing is left behind."""
    monkeypatch.setattr(os, "link", refuse(errno.EOPNOTSUPP))
    Libc(monkeypatch, refuse(code))
    with pytest.raises(Misconfigured, match="neither link files nor rename"):
        storage.put_if_absent("x", b"data")
    assert files_in(storage) == []


def test_another_failure_of_a_link_is_no_reason_to_rename(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is said as such."""
    monkeypatch.setattr(os, "link", refuse(errno.ENOSPC))
    with pytest.raises(StorageFailed, match=r"cannot write .*/store/a/b: No space left on device; free some space"):
        storage.put_if_absent("a/b", b"data")
    assert files_in(storage) == []


# Several processes


def test_one_of_many_processes_creates(storage: LocalStorage) -> None:
    """Sixteen processes make one new folder and put the same key in it at once: exactly one created the object."""
    rounds, barrier, created = 10, PROCESSES.Barrier(16), PROCESSES.Queue()
    processes = [PROCESSES.Process(target=race, args=(storage, barrier, rounds, created)) for _ in range(16)]
    for process in processes:
        process.start()
    found = sorted(created.get(timeout=60) for _ in range(rounds))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 16
    assert created.empty()
    assert found == [(turn, int(storage.read(f"new-{turn}/folder/object"))) for turn in range(rounds)]


def test_it_travels(storage: LocalStorage) -> None:
    """A worker that gets it, or its URL, has the same one."""
    assert pickle.loads(pickle.dumps(storage)) == storage == LocalStorage(storage.url)


@pytest.mark.parametrize("removed", ["a/b", "a", "."])
def test_a_folder_that_was_removed_is_made_again(storage: LocalStorage, removed: str) -> None:
    """By whichever verb, though this process knows that it has made the folder; also the root."""
    for write in (storage.put, storage.put_if_absent, lambda key, data: upload_data(storage, key, data)):
        write("a/b/c", b"before")
        shutil.rmtree(Path(storage.url, removed))
        write("a/b/c", b"after")
        assert storage.read("a/b/c") == b"after"
        shutil.rmtree(storage.url)


# Modes: who may read what is in a store is said by its root folder


@pytest.fixture(params=[0o077, 0o000, 0o027])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Whoever writes here has a umask of their own."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write_by_all_verbs(storage: LocalStorage) -> None:
    storage.put_if_absent("models/champion/00001.json", b"{}")
    storage.put("landed/cache.json", b"{}")
    upload_data(storage, "predictions/x/y.z/part-0", b"part")
    storage.copy("predictions/x/y.z/part-0", "copies/part-0")


def modes(storage: LocalStorage) -> tuple[set[int], set[int]]:
    """Modes of all folders and of all files below the root."""
    paths = list(Path(storage.url).rglob("*"))
    found = [{path.stat().st_mode & 0o7777 for path in paths if path.is_dir() is folder} for folder in (True, False)]
    return found[0], found[1]


@pytest.mark.parametrize(
    ("root", "folders", "files"),
    [(0o755, 0o755, 0o644), (0o700, 0o700, 0o600), (0o2770, 0o2770, 0o640), (0o1777, 0o1777, 0o644)],
)
@pytest.mark.usefixtures("umask")
def test_modes_follow_the_root(storage: LocalStorage, root: int, folders: int, files: int) -> None:
    """Folders get its mode; files may be read by whoever may read it, and written by their owner alone."""
    Path(storage.url).mkdir()
    Path(storage.url).chmod(root)
    write_by_all_verbs(storage)
    assert modes(storage) == ({folders}, {files})


def test_a_new_storage_is_as_private_as_its_maker_wants(storage: LocalStorage, umask: int) -> None:
    """The first write makes the root folder by the maker's umask, and what is in it follows."""
    write_by_all_verbs(storage)
    root = Path(storage.url).stat().st_mode & 0o777
    assert root == 0o777 & ~umask
    assert modes(storage) == ({root}, {0o200 | root & 0o444})


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_modes_is_written(
    storage: LocalStorage, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may read there is said elsewhere; any other refusal is told."""
    monkeypatch.setattr(os, "chmod", refuse(code))
    write_by_all_verbs(storage)
    monkeypatch.setattr(os, "chmod", refuse(errno.EIO))
    with pytest.raises(StorageFailed, match="Input/output error"):
        storage.put("x", b"")


@pytest.mark.usefixtures("umask")
def test_scratch_is_private(storage: LocalStorage) -> None:
    """Nobody else can change a file between its digest and its upload."""
    with storage.scratch() as scratch:
        assert stat.S_IMODE(scratch.folder.stat().st_mode) == 0o700


@pytest.mark.usefixtures("umask")
def test_folders_above_the_root_are_left_alone(tmp_path: Path) -> None:
    """What is there keeps its mode."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o711)
    LocalStorage(str(tmp_path / "there/new/store")).put("a/b", b"")
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o711


# Links, and other file systems


def test_upload_to_another_file_system(storage: LocalStorage, small_disk: Path) -> None:
    """A folder may be a link to another disk: the file is copied there, then renamed, with the root's mode."""
    Path(storage.url).mkdir(mode=0o750)
    Path(storage.url, "elsewhere").symlink_to(small_disk)
    for data in (b"first" * 50_000, b"second" * 50_000):
        upload_data(storage, "elsewhere/object", data)
        assert storage.read("elsewhere/object") == data
        assert [path.name for path in small_disk.iterdir()] == ["object"]
    assert stat.S_IMODE((small_disk / "object").stat().st_mode) == 0o640
    assert storage.put_if_absent("elsewhere/once", b"")
    assert storage.list("elsewhere") == ["object", "once"]
    assert storage.list("") == ["elsewhere/"]


def test_an_upload_that_does_not_fit_shows_nothing(storage: LocalStorage, small_disk: Path) -> None:
    """The other disk is full: what was there stays, the local file too, and nothing half-written."""
    Path(storage.url).mkdir()
    Path(storage.url, "elsewhere").symlink_to(small_disk)
    storage.put("elsewhere/object", b"kept")
    with storage.scratch() as scratch:
        staged = scratch.write("file", bytes(3_000_000))
        with pytest.raises(StorageFailed, match=r"elsewhere/object: No space left on device; free some space"):
            storage.upload(staged.path, "elsewhere/object")
        assert staged.path.exists()
    assert storage.read("elsewhere/object") == b"kept"
    assert [path.name for path in small_disk.iterdir()] == ["object"]


@pytest.mark.parametrize(
    ("key", "verb"),
    [
        *(("unmounted", verb) for verb in sorted(VERBS.keys() - {"put", "upload", "copy to", "delete"})),
        *(("unmounted/object", verb) for verb in sorted(VERBS.keys() - {"delete"})),
        *(("unmounted/deeper/object", verb) for verb in sorted(VERBS.keys() - {"delete"})),
    ],
)
def test_a_link_that_leads_nowhere_is_no_absence(storage: LocalStorage, key: str, verb: str) -> None:
    """A disk that is not mounted has not lost its objects: the link is named."""
    storage.put("source", b"")
    Path(storage.url, "unmounted").symlink_to("/nowhere/at-all")
    with pytest.raises(Misconfigured, match=r"unmounted: it is a link to /nowhere/at-all, which is not there"):
        VERBS[verb](storage, key)


def test_a_root_that_leads_nowhere_is_no_empty_store(tmp_path: Path) -> None:
    """The same for the root, and for a folder above it."""
    (tmp_path / "link").symlink_to("/nowhere/at-all")
    for storage in (LocalStorage(str(tmp_path / "link")), LocalStorage(str(tmp_path / "link/store"))):
        for look in (lambda storage=storage: storage.list(""), lambda storage=storage: storage.stat("a/b")):
            with pytest.raises(Misconfigured, match="is a link to /nowhere/at-all"):
                look()


# Errors are errors, not absence, and name the object


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_that_cannot_be_looked_at(storage: LocalStorage, verb: str) -> None:
    """Links in a circle: no verb says that there is nothing."""
    storage.put("source", b"")
    Path(storage.url, "circle").symlink_to("circle")
    with pytest.raises(DigitrecError, match=r"circle.*(Too many levels of symbolic links|it is a link to circle)"):
        VERBS[verb](storage, "circle/object")


def test_what_may_not_be_looked_at(storage: LocalStorage) -> None:
    """A folder that this user may not enter: `StorageFailed` from every verb, with the remedy."""
    storage.put("locked/object", b"")
    storage.put("source", b"")
    Path(storage.url, "locked").chmod(0)
    told = PROCESSES.Queue()
    process = PROCESSES.Process(target=try_as_nobody, args=(storage, told))
    process.start()
    outcomes = [told.get(timeout=60) for _ in VERBS]
    process.join()
    Path(storage.url, "locked").chmod(0o700)
    for verb, kind, message in outcomes:
        assert kind == "StorageFailed", (verb, kind, message)
        assert "Permission denied; check the permissions" in message
        assert ".tmp" not in message


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("verb", ["put", "put_if_absent", "copy to", "upload"])
def test_an_error_names_the_object(
    storage: LocalStorage, verb: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the temporary file beside it, nor the local one; and none of these stays."""
    storage.put("source", b"")
    monkeypatch.setattr(os, "replace", refuse(code))
    monkeypatch.setattr(os, "link", refuse(code))
    with pytest.raises(StorageFailed, match=rf"^cannot write {storage.url}/a/b: {os.strerror(code)}"):
        VERBS[verb](storage, "a/b")
    assert files_in(storage) == ["source"]


@pytest.mark.parametrize("verb", ["put", "put_if_absent", "copy to", "upload"])
def test_a_disk_that_fails_while_syncing(storage: LocalStorage, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC that comes as late as fsync(2): one line, and no object."""
    storage.put("source", b"")
    storage.put("a/other", b"")
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(StorageFailed, match=r"^cannot .* No space left on device; free some space"):
        VERBS[verb](storage, "a/b")
    assert files_in(storage) == ["a/other", "source"]


def test_a_folder_in_an_objects_place(storage: LocalStorage) -> None:
    """Nothing can be created there, and no call says that another one has."""
    storage.put("a/b/c", b"")
    for verb in ("put", "put_if_absent", "upload"):
        with pytest.raises(StorageFailed, match=rf"cannot write {storage.url}/a/b: "):
            VERBS[verb](storage, "a/b")
    assert files_in(storage) == ["a/b/c"]


def test_an_error_while_an_open_object_is_read(storage: LocalStorage) -> None:
    """A disk that fails later on: `StorageFailed` from the read, as from `read` itself."""
    Path(storage.url).mkdir()
    Path(storage.url, "broken").symlink_to("/proc/self/mem")  # address 0 is mapped nowhere: EIO
    with storage.open("broken") as file:
        for read in (file.read, lambda: file.read(1)):
            with pytest.raises(StorageFailed, match=rf"cannot read {storage.url}/broken: Input/output error"):
                read()
    with pytest.raises(StorageFailed, match=r"broken: Input/output error"):
        storage.read("broken")


def test_failing_to_clean_up_is_no_failure(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is there, whatever becomes of the temporary name."""
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse(errno.EIO))
        assert storage.put_if_absent("a/b", b"data")
    assert storage.list("a") == ["b"]
    storage.sweep_unfinished("a", 0)
    assert files_in(storage) == ["a/b"]


def test_another_users_object_is_touched_by_a_copy(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shared store only the owner of a file may set its time: the object is made anew, with the same content."""
    storage.put("a", b"data")
    os.utime(Path(storage.url, "a"), (0, 0))
    monkeypatch.setattr(os, "utime", refuse(errno.EPERM))
    storage.touch("a")
    found = storage.stat("a")
    assert found is not None
    assert found.modified_s > time.time() - 60
    assert storage.read("a") == b"data"


# State, listing, sweeping, local files


def test_damage_in_place_is_another_state(storage: LocalStorage) -> None:
    """Also if its size and its modification time are as before: nobody can set a change time."""
    storage.put("a", b"data")
    before, path = storage.stat("a"), Path(storage.url, "a")
    found = path.stat()
    time.sleep(0.02)
    path.write_bytes(b"d4ta")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    after = storage.stat("a")
    assert before is not None
    assert after is not None
    assert (after.size, after.modified_s) == (before.size, before.modified_s)
    assert after.state != before.state


def test_two_versions_within_a_tick_are_two_states(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock of the file system is coarse, the inode tells them apart."""
    real = Path.stat

    def stat_of_a_coarse_clock(path: Path) -> os.stat_result:
        found = real(path)
        return os.stat_result((*found[:7], 0, 0, 0), {"st_mtime_ns": 0, "st_ctime_ns": 0})

    storage.put("a", b"data")
    monkeypatch.setattr(Path, "stat", stat_of_a_coarse_clock)
    before = storage.stat("a")
    storage.put("a", b"d4ta")
    after = storage.stat("a")
    assert before is not None
    assert after is not None
    assert (after.size, after.modified_s) == (before.size, before.modified_s)
    assert after.state != before.state


def test_other_peoples_names_are_no_objects(storage: LocalStorage) -> None:
    """A name that is not UTF-8 can be no key, so it is in no listing."""
    storage.put("a/b", b"")
    Path(os.fsdecode(os.fsencode(storage.url) + b"/a/\xff")).touch()
    assert storage.list("a") == ["b"]


def test_a_broken_link_stops_no_listing(storage: LocalStorage) -> None:
    """It is named, as whoever asks about it gets an error; the others are listed."""
    storage.put("a/b", b"")
    Path(storage.url, "a/circle").symlink_to("circle")
    Path(storage.url, "a/unmounted").symlink_to("/nowhere/at-all")
    assert storage.list("a") == ["b", "circle", "unmounted"]
    with pytest.raises(StorageFailed, match="Too many levels of symbolic links"):
        storage.stat("a/circle")


def age(path: Path, seconds: float = 10_000) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_sweeping_takes_what_is_old_and_unfinished(storage: LocalStorage) -> None:
    """Temporary files directly below the prefix and scratch folders, if nothing in them is younger."""
    storage.put("w/object", b"")
    storage.put("w/deeper/object", b"")
    root = Path(storage.url)
    for name in ("w/.old.tmp", "w/.young.tmp", "w/deeper/.old.tmp", ".old.tmp"):
        (root / name).touch()
    for name in ("old/folder", "young/folder", "live"):
        (root / SCRATCH / name).mkdir(parents=True)
    (root / SCRATCH / "old/file").touch()
    (root / SCRATCH / "live/file").touch()
    old = ["w/object", "w/.old.tmp", "w/deeper/.old.tmp", ".old.tmp"]
    for name in [*old, *(f"{SCRATCH}/{name}" for name in ("old/folder", "old/file", "old", "young", "live"))]:
        age(root / name)
    storage.sweep_unfinished("w", 5_000)
    left = [".old.tmp", f"{SCRATCH}/live/file", "w/.young.tmp", "w/deeper/.old.tmp", "w/deeper/object", "w/object"]
    assert files_in(storage) == left
    assert sorted(path.name for path in (root / SCRATCH).iterdir()) == ["live", "young"]
    storage.sweep_unfinished("", 5_000)
    assert files_in(storage) == left[1:]


def test_sweeping_follows_no_links(storage: LocalStorage, tmp_path: Path) -> None:
    """A link in a temporary file's place is removed, not what it leads to."""
    storage.put("w/object", b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").touch()
    Path(storage.url, "w/.x.tmp").symlink_to(tmp_path / "elsewhere")
    storage.sweep_unfinished("w", 0)
    assert (tmp_path / "elsewhere/file").exists()
    assert [path.name for path in Path(storage.url, "w").iterdir()] == ["object"]


def test_what_vanishes_while_it_is_looked_at_is_alive(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which files come and go is somebody's work, however old it looks."""
    live = Path(storage.url, SCRATCH, "live")
    live.mkdir(parents=True)
    (live / "gone").touch()
    age(live)
    walk = os.walk

    def walk_and_remove(top: Path) -> list[tuple[str, list[str], list[str]]]:
        found = list(walk(top))
        (live / "gone").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "walk", walk_and_remove)
    storage.sweep_unfinished("", 1)
    assert live.exists()


def test_an_object_is_a_local_file(storage: LocalStorage) -> None:
    """It can be mapped, and what is mapped stays the same when the object is replaced or deleted."""
    storage.put("a", b"first")
    with storage.local_path("a").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        storage.put("a", b"second")
        upload_data(storage, "a", b"third")
        storage.delete("a")
        assert mapped[:] == b"first"


def test_free_bytes_are_the_file_systems(small_disk: Path) -> None:
    """Also of a root that is not made yet."""
    for root in (small_disk, small_disk / "not/yet"):
        assert LocalStorage(str(root)).free_bytes() == pytest.approx(2 << 20, rel=0.05)
