"""Disks that refuse: exit 74, where, and what to do."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from digitrec.contract import KAGGLE_PIXELS
from tests.cli.conftest import Command, refused, write_csv


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that belongs to somebody else; modes count, because root's rights are put aside."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        write_csv(Path(folder) / "a.csv").chmod(0o644)
        monkeypatch.chdir(folder)
        if os.geteuid() == 0:
            os.seteuid(65534)
            yield Path(folder)
            os.seteuid(0)
        else:
            Path(folder).chmod(0o555)
            yield Path(folder)
            Path(folder).chmod(0o755)


def test_no_permission(digitrec: Command, as_nobody: Path) -> None:
    """Exit 74: where, and what to do."""
    refused(
        digitrec("--store", as_nobody / "store", "ingest", as_nobody / "a.csv"), 74, "store", "check the permissions"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with a few hundred KiB of room."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(digitrec: Command, tmp_path: Path, small_disk: Path) -> None:
    """Exit 74, what to do, and nothing half-written is visible or left behind."""
    (small_disk / "filler").write_bytes(bytes(200 * 1024))
    noise = tmp_path / "noise.csv"
    with noise.open("w") as file:
        file.write(",".join(KAGGLE_PIXELS) + "\n")
        file.writelines(",".join(str(byte) for byte in os.urandom(784)) + "\n" for _ in range(2000))
    refused(digitrec("--store", small_disk / "store", "ingest", noise), 74, "space")
    assert not list(small_disk.glob("store/datasets/*/manifest.json"))
    assert not list(small_disk.glob("store/**/shard-*"))


def test_a_read_only_store(digitrec: Command, tmp_path: Path, small_disk: Path) -> None:
    """Exit 74, and what to do."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(digitrec("--store", small_disk / "store", "ingest", write_csv(tmp_path / "a.csv")), 74, "read-only")
