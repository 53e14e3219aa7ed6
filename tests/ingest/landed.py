"""Files in `landing/` for the tests, as other people leave them there, and what a run says of them."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from digitrec.catalog.store import Store
from digitrec.ingest.landing import LandingReport
from digitrec.storage import Stat, files
from tests.places import full

from .files import csv_of, write

LONG_AGO = time.time() - 3600
CORRECTED = csv_of().replace(b"\n0,", b"\n6,", 1)
"""`csv_of()` with another label in its first row: a correction of the same size."""


def land(store: Store, name: str, data: bytes, modified: float = LONG_AGO) -> Path:
    """A file as `write` makes it, under its path in landing/."""
    path = place(store, name)
    write(path, data)
    os.utime(path, (modified, modified))
    return path


def place(store: Store, name: str) -> Path:
    """A path in landing/ whose folder is there."""
    path = Path(full(store, "landing")) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def records(store: Store) -> list[Path]:
    """The landing records."""
    return sorted(path for path in Path(full(store, "landed")).iterdir() if path.name != "cache.json")


def stated_otherwise(monkeypatch: pytest.MonkeyPatch, **others: int) -> None:
    """From now on the system says something else of every file."""
    real = files.stat_of
    names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_size", "st_mtime_ns", "st_ctime_ns")

    def stat_of(status: os.stat_result) -> Stat:
        return real(SimpleNamespace(**{name: getattr(status, name) for name in names} | others))  # type: ignore[arg-type]  # has what it needs

    monkeypatch.setattr(files, "stat_of", stat_of)


def refused(report: LandingReport) -> dict[str, str]:
    return {entry.path: entry.reason for entry in report.refused}


def waiting(report: LandingReport) -> dict[str, str]:
    return {entry.path: entry.reason for entry in report.waiting}
