"""Scratch folders of our own cluster: none stays, whatever has ended the run."""

import os
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured
from digitrec.scoring.cluster import connect
from digitrec.scoring.scratch import PREFIX, scratch_folder
from tests.scoring.making import settings_for

KILLED = (
    "import os, sys\nfrom digitrec.scoring.scratch import *\nwith scratch_folder(sys.argv[1]): os.kill(os.getpid(), 9)"
)


def test_what_a_killed_run_has_left_goes_with_the_next(tmp_path: Path) -> None:
    """And only that: not what a run is using, what has just been made, or what a link leads to."""
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    [left] = tmp_path.iterdir()
    (left / "spilled").write_text("rows")
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(tmp_path.parent, target_is_directory=True)
    with scratch_folder(str(tmp_path)) as used:
        for folder in (left, Path(used)):
            os.utime(folder, (0, 0))
        with scratch_folder(str(tmp_path)) as new, scratch_folder(str(tmp_path)):
            assert not left.exists()
            assert Path(used).exists()
            assert Path(new).exists()
    assert list(tmp_path.iterdir()) == [link]


def test_dasks_folder_is_made(store: Store, tmp_path: Path) -> None:
    """One that is not there yet is no error, and nothing is left in it."""
    there = tmp_path / "not" / "yet"
    with dask.config.set({"temporary-directory": str(there)}), connect(settings_for(store)):
        assert list(there.iterdir()) != []
    assert list(there.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(store: Store, tmp_path: Path) -> None:
    """A file in its place: exit 78, the setting and the path."""
    (tmp_path / "file").touch()
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "file" / "x")}),
        pytest.raises(Misconfigured, match=f"DASK_TEMPORARY_DIRECTORY.*{tmp_path}/file/x"),
        connect(settings_for(store)),
    ):
        pass
