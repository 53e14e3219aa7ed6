"""Bytes by key: the backends under a store, and what all of them promise.

`base.Storage` is the protocol; `local` a folder, `memory` a dict for tests, `faulty` a wrapper that fails on purpose.
`at(url)` finds the backend of a store.
"""

from digitrec.storage.base import NotFound, Scratch, StagedFile, Stat, Storage
from digitrec.storage.locate import at, is_relative, register

__all__ = ["NotFound", "Scratch", "StagedFile", "Stat", "Storage", "at", "is_relative", "register"]
