"""A crash or a refusal at any system call of a commit leaves the old state or the new one, and a rerun converges.

Every call that changes the file system is hit once, in turn, by SIGKILL, ENOSPC and EIO (strace(1), `inject`).
"""

import multiprocessing
import re
import shutil
from collections import Counter
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from tests.faults.committing import COMMITS, is_published, when_traced
from tests.tracing import trace

CALLS = "write,pwrite64,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat"
KILLED, STORAGE_FAILED = -9, 74
FAULTS = {
    "SIGKILL": ("signal=SIGKILL", {KILLED}),
    "ENOSPC": ("error=ENOSPC", {STORAGE_FAILED, 0}),
    "EIO": ("error=EIO", {STORAGE_FAILED, 0}),
}

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


@pytest.fixture(scope="module")
def forking() -> ForkServerContext:
    """Processes forked from one in which digitrec is imported, so that a case takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.committing"])
    return context


def trace_commit(forking: ForkServerContext, commit: str, store: Store, log: Path, *inject: str) -> int | None:
    """Run a commit in a process under strace; its exit code."""
    return trace(forking, when_traced, commit, store.url, "-e", f"trace={CALLS}", "-o", str(log), *inject)


def calls_of(forking: ForkServerContext, commit: str, folder: Path) -> list[tuple[str, int]]:
    """Each changing call of an undisturbed commit: its name, and which of that name it is (from 1)."""
    log = folder / "calls"
    assert trace_commit(forking, commit, Store.at(folder / "undisturbed"), log) == 0
    counts: Counter[str] = Counter()
    calls = []
    for name in re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE):
        counts[name] += 1
        calls.append((name, counts[name]))
    return calls


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("commit", COMMITS)
def test_any_call_of_a_commit_may_fail(commit: str, fault: str, forking: ForkServerContext, tmp_path: Path) -> None:
    """The old state or the new one, never a torn one; said with exit 74 unless nothing was lost; a rerun converges."""
    how, codes = FAULTS[fault]
    calls = calls_of(forking, commit, tmp_path)
    assert {"write", "fsync", "mkdir"} <= {name for name, _ in calls}
    for name, number in calls:
        store = Store.at(tmp_path / f"{name}-{number}")
        code = trace_commit(forking, commit, store, tmp_path / "log", "-e", f"inject={name}:{how}:when={number}")
        assert code in codes, (name, number)
        assert is_published(commit, store) or code, (name, number)
        COMMITS[commit](store)
        assert is_published(commit, store), (name, number)
