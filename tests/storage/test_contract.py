"""Every backend keeps the contract, by itself and inside the wrapper that could fail but does not."""

from pathlib import Path

import pytest

from digitrec.storage import Storage, register
from digitrec.storage.faulty import FaultyStorage
from digitrec.storage.local import LocalStorage
from digitrec.storage.memory import MemoryStorage
from digitrec.storage.testing import StorageContract


class TestLocal(StorageContract):
    more_than_a_page = 100

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(str(tmp_path / "store"))


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return register(MemoryStorage())


class TestFaultyLocal(StorageContract):
    more_than_a_page = 100

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return register(FaultyStorage(LocalStorage(str(tmp_path / "store"))))


class TestFaultyMemory(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return register(FaultyStorage(MemoryStorage()))
