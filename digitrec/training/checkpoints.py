"""Lightning's checkpoints: what is in them, when they are made, and how they are read without unpickling code.

They are held in memory; `saving` puts them into the store. Any checkpoint of a training resumes to the same end, since
batches, distortions and dropout depend on seed and epoch alone.
"""

import io
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from digitrec.training.saving import Checkpoint

BEST, LAST = "best", "last"
LAST_PATH = f"{LAST}.ckpt"
"""What Lightning is told to go on from; plain "last" would be a word of its own."""
MONITOR, MONITOR_ERROR = "val_loss", "val_loss_error"
"""What tells which epoch is best. On a few hundred rows accuracy moves in coarse steps; the loss does not."""
CHANCE = 2.0
SAVE_LAST_EVERY_S = 2.0
"""Epochs on small datasets take a tenth of a second; more would be lost to writing than a kill could cost."""


class HeldCheckpoints(CheckpointIO):
    """Lightning's way to write and read checkpoints: the newest of each name (`best`, `last`) is held as bytes."""

    def __init__(self, start: Checkpoint | None) -> None:
        self._held = {BEST: start.best, LAST: start.last} if start else {}

    def take(self, epoch: int) -> Checkpoint:
        """Return what is held now, after so many epochs."""
        return Checkpoint(epoch, self._held[BEST], self._held[LAST])

    def read(self, name: str) -> dict[str, Any]:
        """Return a checkpoint by name. Never unpickles anything but plain data."""
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(self._held[name]), map_location="cpu", weights_only=True)
        return checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(plain(checkpoint), buffer)
        self._held[Path(path).stem] = buffer.getvalue()

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        return self.read(Path(path).stem)

    def remove_checkpoint(self, path: Any) -> None:
        """Nothing: there is one of each name."""


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


class BestCheckpoint(ModelCheckpoint):
    """`best`: the latest epoch whose validation loss is within `CHANCE` standard errors of the lowest.

    After Breiman's one-standard-error rule (Classification and Regression Trees, 1984). Among epochs that a few hundred
    rows cannot tell apart the later is better, since its rate was lower; the very lowest may be early luck.
    """

    def __init__(self) -> None:
        super().__init__(filename=BEST, monitor=MONITOR, save_on_train_epoch_end=True, enable_version_counter=False)
        self.lowest = math.inf

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        if current is None:
            return False
        self.lowest = min(self.lowest, float(current))
        return float(current) <= self.lowest + CHANCE * float(trainer.callback_metrics[MONITOR_ERROR])

    def state_dict(self) -> dict[str, Any]:
        """No folder in it: it goes on elsewhere."""
        return {"lowest": self.lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.lowest = state_dict["lowest"]


class LastCheckpoint(ModelCheckpoint):
    """`last`: the end of the newest epoch, give or take `SAVE_LAST_EVERY_S`, and the end of the training.

    `made` is told each time, with the number of epochs done; `best` is at least as new then as `last` needs it.
    """

    def __init__(self, made: Callable[[int], None]) -> None:
        super().__init__(filename=LAST, save_on_train_epoch_end=True, enable_version_counter=False)
        self.made = made
        self.made_at_s = -math.inf

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if time.monotonic() - self.made_at_s >= SAVE_LAST_EVERY_S:
            super().on_train_epoch_end(trainer, pl_module)
            self.made_at_s = time.monotonic()
            self.made(trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(LAST_PATH)
        self.made(trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore: the next epoch makes a new one."""
