"""A folder as storage, seen from the system calls it makes (strace(1)): their order, and a fault at each of them."""

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from digitrec.storage.local import SCRATCH, LocalStorage
from tests.storage.operations import KEY, NEW, OLD, OPERATIONS, PROCESSES, run_when_told
from tests.tracing import trace

CALLS = "write,pwrite64,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,chmod"
KILLED, STORAGE_FAILED = -9, 74
FAULTS = {
    "SIGKILL": ("signal=SIGKILL", {KILLED}),
    "ENOSPC": ("error=ENOSPC", {STORAGE_FAILED, 0}),
    "EIO": ("error=EIO", {STORAGE_FAILED, 0}),
}

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def trace_operation(operation: str, storage: LocalStorage, log: Path, *inject: str) -> int | None:
    """Run an operation in a process under strace; return its exit code."""
    options = ("-y", "-s", "300", "-e", f"trace={CALLS}", "-o", str(log))
    return trace(PROCESSES, run_when_told, operation, storage.url, *options, *inject)


# Order: what a power loss may leave


@dataclass(frozen=True)
class Call:
    """A system call, and the paths in its arguments."""

    name: str
    paths: tuple[Path, ...]


def calls_in(log: Path, below: Path) -> list[Call]:
    """The calls that have succeeded on paths below a folder."""
    found = []
    for name, arguments in re.findall(r"^\d+ +(\w+)\((.*)\) += \d+$", log.read_text(), re.MULTILINE):
        named = re.match(r"\d+<(.+?)>", arguments)
        paths = [named[1]] if named else re.findall(r'"([^"]*)"', arguments)
        if paths and Path(paths[-1]).is_relative_to(below):
            found.append(Call(name, tuple(map(Path, paths))))
    return found


def assert_durable(calls: list[Call], storage: LocalStorage) -> None:
    """Replay the calls: a name is only given to a file whose bytes and mode are synced, in a folder whose own name and
    those above it are synced; and the new name is synced in the end."""
    root, target = Path(storage.url), Path(storage.url, KEY)
    unsynced: set[Path] = set()
    synced_names: set[Path] = set()
    named = False
    for call in calls:
        if call.name in {"write", "pwrite64", "chmod"}:
            unsynced.add(call.paths[0])
        elif call.name == "mkdir":
            synced_names.discard(call.paths[0].parent)
        elif call.name == "fsync":
            unsynced.discard(call.paths[0])
            synced_names.add(call.paths[0])
        elif call.name in {"link", "rename"}:
            source, name = call.paths
            assert name == target
            assert source not in unsynced, "a name was given to bytes that are not synced"
            made = {made.paths[0] for made in calls if made.name == "mkdir"}
            above = {folder for folder in target.parents if folder == root or root in folder.parents or folder in made}
            assert {folder.parent for folder in above} <= synced_names, "a folder's own name was not synced"
            synced_names.discard(name.parent)
            named = True
    assert named
    assert target.parent in synced_names, "the name was not synced"


@pytest.mark.parametrize("folders", ["new", "made by another process", "new, and those above the root"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_everything_is_synced_before_it_is_relied_on(operation: str, folders: str, tmp_path: Path) -> None:
    """After a power loss a name stands for bytes that reached the disk, and what was said to be there is there.

    The process that made a folder may have died before it synced the folder's name: the next one does.
    """
    storage = LocalStorage(str(tmp_path / ("above/store" if "above" in folders else "store")))
    if operation == "copy":
        storage.put("source", NEW)
    if folders == "made by another process":
        Path(storage.url, KEY).parent.mkdir(parents=True)
    assert trace_operation(operation, storage, tmp_path / "log") == 0
    assert storage.read(KEY) == NEW
    assert_durable(calls_in(tmp_path / "log", tmp_path), storage)


# Faults


def calls_of(operation: str, folder: Path, old: bytes | None) -> list[tuple[str, int]]:
    """Each changing call of an undisturbed operation: its name, and which of that name it is (from 1)."""
    log = folder / "calls"
    assert trace_operation(operation, prepared(folder / "undisturbed", old), log) == 0
    counts: Counter[str] = Counter()
    calls = []
    for name in re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE):
        counts[name] += 1
        calls.append((name, counts[name]))
    return calls


def prepared(root: Path, old: bytes | None) -> LocalStorage:
    """A storage with the source of copies, and an object that is to be replaced."""
    storage = LocalStorage(str(root))
    storage.put("source", NEW)
    if old is not None:
        storage.put(KEY, old)
    return storage


def content(storage: LocalStorage) -> bytes | None:
    return storage.read(KEY) if storage.exists(KEY) else None


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("operation", "old"), [("put_if_absent", None), ("put", OLD), ("upload", None), ("upload", OLD), ("copy", OLD)]
)
def test_any_call_may_fail(operation: str, old: bytes | None, fault: str, tmp_path: Path) -> None:
    """The old object or the new one, never a torn one; said with exit 74 unless the new one is there; a rerun
    converges; what a killed process leaves is in no listing, and is swept."""
    how, codes = FAULTS[fault]
    calls = calls_of(operation, tmp_path, old)
    assert {"write", "fsync"} <= {name for name, _ in calls}
    for name, number in calls:
        storage = prepared(tmp_path / f"{name}-{number}", old)
        code = trace_operation(operation, storage, tmp_path / "log", "-e", f"inject={name}:{how}:when={number}")
        assert code in codes, (name, number)
        assert content(storage) in ({old, NEW} if code else {NEW}), (name, number)
        assert storage.list("new/folder") == ([] if content(storage) is None else ["object"]), (name, number)
        OPERATIONS[operation](storage)
        assert content(storage) == NEW, (name, number)
        storage.sweep_unfinished("new/folder", 0)
        files = {path for path in Path(storage.url).rglob("*") if path.is_file()}
        assert files == {Path(storage.url, key) for key in ("source", KEY)}, (name, number)
        assert [*Path(storage.url, SCRATCH).glob("*")] == [], (name, number)
