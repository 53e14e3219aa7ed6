"""What every room's tests share: an empty store, and an environment that is not the developer's."""

import logging
import os
from pathlib import Path

import pytest

from digitrec.store import pretrained
from digitrec.store.layout import Store


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `DIGITREC_*` variable and no `.env` of the developer's reaches a test, and no handler of the test before."""
    for name in [name for name in os.environ if name.startswith("DIGITREC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    log = logging.getLogger("digitrec")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)


@pytest.fixture(autouse=True)
def nothing_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store without a champion has none: the model that comes along is put in only by the tests that are about it."""
    monkeypatch.setattr(pretrained, "BUNDLE", tmp_path / "nothing-bundled")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a fresh folder."""
    return Store.at(tmp_path / "store")
