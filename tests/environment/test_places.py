"""Folders that are gone, links that lead nowhere, a disk that is full, no home: every message names the place."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from tests.cli.conftest import write_csv
from tests.environment.conftest import COMMAND, Run, clean, finish

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and other users need root")


def test_a_store_that_is_a_link_to_nowhere(run: Run, tmp_path: Path) -> None:
    """A disk that is not mounted: exit 78, the link and its target."""
    (tmp_path / "store").symlink_to(tmp_path / "not-mounted")
    write_csv(tmp_path / "a.csv")
    ended = run("ingest", "a.csv")
    assert ended.code == 78, ended.lines
    assert f"{tmp_path}/store: it is a link to {tmp_path}/not-mounted" in ended.error


def test_a_working_directory_that_was_removed(tmp_path: Path) -> None:
    """Exit 78 where a path is relative; where all are absolute, nothing is missing."""
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    shell = ["sh", "-c", script, "sh", *COMMAND]
    ended = finish([*shell, "list", "datasets"], tmp_path, clean())
    assert ended.code == 78, ended.lines
    assert "the working directory has been removed" in ended.error
    assert finish([*shell, "--store", tmp_path / "s", "list", "datasets"], tmp_path, clean()).code == 0


@root_only
def test_a_full_disk_is_named(ready: Store, run: Run, tmp_path: Path) -> None:
    """A write that fails says in which file, wherever in the run it happens; nothing is half-visible."""
    disk = tmp_path / "disk"
    disk.mkdir()
    codes: list[int] = []
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        shutil.copytree(ready.url, disk / "store")
        for pages in range(0, 9, 2):  # a write at a time succeeds more
            filler = disk / "filler"
            filler.write_bytes(b"")
            filler.write_bytes(b"x" * (os.statvfs(disk).f_bavail - pages) * 4096)
            ended = run("--store", disk / "store", "score", "--dataset", "night", "--precision", "int8")
            if ended.code:
                assert ended.code == 74, ended.lines
                assert str(disk / "store") in ended.error
            codes.append(ended.code)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert codes[0] == 74


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; pytest's own are closed, and closed again by the next start of pytest."""
    with tempfile.TemporaryDirectory(prefix="digitrec-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@root_only
def test_a_user_without_a_name_or_a_home(ready: Store, open_folder: Path) -> None:
    """An arbitrary user id, as containers get: CSV is read, by a kernel that is kept in a private temporary folder."""
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin") or sys.executable
    if subprocess.run(["setpriv", "--reuid", "12345", python, "-c", ""], check=False).returncode:
        pytest.skip("no Python that another user can start")
    store = shutil.copytree(ready.url, open_folder / "store")
    temporary = open_folder / "tmp"
    temporary.mkdir()
    for path in (temporary, store, *store.rglob("*")):
        os.chown(path, 12345, 12345)
    places = os.pathsep.join(filter(None, sys.path))
    code = f"import sys; sys.path[:0] = {places.split(os.pathsep)!r}; from digitrec.cli import main; main()"
    environment = {name: value for name, value in clean().items() if name not in {"HOME", "LOGNAME", "USER"}}
    drop = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
    command = [*drop, python, "-c", code, "--store", store, "ingest", write_csv(open_folder / "a.csv")]
    ended = finish(command, open_folder, environment | {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"})
    assert ended.code == 0, ended.lines
    assert list(temporary.glob("digitrec-12345/**/*.nbi"))


@pytest.mark.parametrize("module", ["matplotlib", "numba", "prefect"])
def test_libraries_find_a_home(module: str, tmp_path: Path) -> None:
    """With a home provided, each library that asks for one at import is content."""
    code = (
        "import os, pwd, getpass; os.environ.pop('HOME')\n"
        "def unknown(*_): raise KeyError('getpwuid(): uid not found')\n"
        "pwd.getpwuid = unknown\n"
        f"from digitrec.private import provide_home; provide_home(); import {module}\n"
        "print(os.environ['HOME']); print(getpass.getuser())"
    )
    environment = {name: value for name, value in clean().items() if name not in {"LOGNAME", "USER", "LNAME"}}
    ended = finish([sys.executable, "-c", code], tmp_path, environment | {"TMPDIR": str(tmp_path)})
    assert ended.code == 0, ended.lines
    home, name = ended.out.split()
    assert Path(home).parent == tmp_path
    assert Path(home).stat().st_mode & 0o077 == 0
    assert name == f"uid-{os.getuid()}"


@root_only
def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """Prefect, which writes there when it is imported, is given another; the home stays what it is."""
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    code = "from digitrec.private import provide_home; provide_home(); import prefect, os; print(os.environ['HOME'])"
    drop = ("setpriv", "--bounding-set", "-dac_override")
    ended = finish([*drop, sys.executable, "-c", code], tmp_path, clean(HOME=str(home), TMPDIR=str(tmp_path)))
    assert (ended.code, ended.out) == (0, f"{home}\n"), ended.lines
    assert (tmp_path / f"digitrec-{os.getuid()}" / "prefect").is_dir()


@root_only
def test_no_folder_for_temporary_files(tmp_path: Path) -> None:
    """Exit 78 and the variable, where one is needed before anything else is."""
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir(mode=0o555)
    script = 'for each in /var/tmp /usr/tmp /tmp; do [ ! -d $each ] || mount --bind "$0" $each; done; exec "$@"'
    drop = ("setpriv", "--bounding-set", "-dac_override")
    environment = clean(HOME="/nonexistent", TMPDIR="")
    ended = finish(["unshare", "--mount", "sh", "-c", script, nowhere, *drop, *COMMAND, "doctor"], nowhere, environment)
    assert ended.code == 78, ended.lines
    assert "set TMPDIR" in ended.error
