"""Checkpoints that can be trusted: written whole, their digest beside them, read without unpickling code.

Any checkpoint of a run resumes to the same end, since batches, distortions and dropout depend on seed and epoch alone.
Falling back to an older one therefore costs time, nothing else.
"""

import hashlib
import io
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from digitrec.catalog.store import Store
from digitrec.errors import Corrupt
from digitrec.store.commit import sha256_of, write_replacing

BEST, LAST = "best", "last"
MONITOR, MONITOR_ERROR = "val_loss", "val_loss_error"
"""What tells which epoch is best. On a few hundred rows accuracy moves in coarse steps; the loss does not."""
CHANCE = 2.0
SAVE_LAST_EVERY_S = 2.0
"""Epochs on small datasets take a tenth of a second; more would be lost to writing than a kill could cost."""


def checkpoint_path(folder: str, name: str) -> str:
    return f"{folder}/{name}.ckpt"


class DigestedCheckpointIO(TorchCheckpointIO):
    """Lightning's way to and from disk: atomic, synced, with `NAME.ckpt.sha256` beside the file."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(plain(checkpoint), buffer)
        relative = self.store.relative(path)
        # The digest goes first, beside the one it follows: whenever a kill comes, the file there is named.
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        accepted = [digest, *digests_beside(path)[:1]]
        write_replacing(self.store, f"{relative}.sha256", "\n".join(accepted).encode())
        write_replacing(self.store, relative, buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Raises `Corrupt` if the bytes are not those that were written. Never unpickles anything but plain data."""
        if not verifies(path):
            raise Corrupt(f"the checkpoint {path} is damaged or missing: its SHA-256 is not the one beside it")
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return checkpoint


def plain(value: Any) -> Any:
    """The same value with nothing shared inside but equal strings.

    Pickle notes which objects are one; a resumed training shares others than one left alone, and would be written in
    other bytes.
    """
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(entry) for entry in value)
    return sys.intern(value) if type(value) is str else value


def digests_beside(path: str) -> list[str]:
    beside = Path(f"{path}.sha256")
    return beside.read_text(errors="replace").split() if beside.is_file() else []


def verifies(path: str) -> bool:
    """Whether a checkpoint is there, byte for byte as it was written."""
    return Path(path).is_file() and sha256_of(path) in digests_beside(path)


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: the latest epoch whose validation loss is within `CHANCE` standard errors of the lowest.

    After Breiman's one-standard-error rule (Classification and Regression Trees, 1984). Among epochs that a few hundred
    rows cannot tell apart the later is better, since its rate was lower; the very lowest may be early luck.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder, BEST, monitor=MONITOR, save_on_train_epoch_end=True, enable_version_counter=False)
        self.lowest = math.inf

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        if current is None:
            return False
        self.lowest = min(self.lowest, float(current))
        return float(current) <= self.lowest + CHANCE * float(trainer.callback_metrics[MONITOR_ERROR])

    def state_dict(self) -> dict[str, Any]:
        """No folder in it, so that a store can be moved between kill and resume."""
        return {"lowest": self.lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lowest = state_dict["lowest"]


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`: the end of the newest epoch, give or take `SAVE_LAST_EVERY_S`, and the end of the training."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, LAST, save_on_train_epoch_end=True, enable_version_counter=False)
        self.saved_at_s = -SAVE_LAST_EVERY_S

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if time.monotonic() - self.saved_at_s >= SAVE_LAST_EVERY_S:
            super().on_train_epoch_end(trainer, pl_module)
            self.saved_at_s = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(checkpoint_path(str(self.dirpath), LAST))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore: the next epoch overwrites the file."""


@dataclass(frozen=True)
class ResumePoint:
    """Where a training goes on: a checkpoint's path (None: from the start), and what a person should know of it."""

    path: str | None
    warnings: tuple[str, ...] = ()


def resume_point(folder: str) -> ResumePoint:
    """The newest checkpoint that verifies. The best one must, since the weights that count may be in it."""
    best, last = (checkpoint_path(folder, name) for name in (BEST, LAST))
    if not Path(best).exists() and not Path(last).exists():
        return ResumePoint(None)
    if not verifies(best):
        return ResumePoint(None, (f"{best} is damaged or missing: training begins anew",))
    if not Path(last).exists():
        return ResumePoint(best)
    if not verifies(last):
        return ResumePoint(best, (f"{last} is damaged: going on from {BEST}.ckpt, which verifies",))
    return ResumePoint(last)
