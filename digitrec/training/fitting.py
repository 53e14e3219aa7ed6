"""One run of Lightning's Trainer: set up quietly, resumed exactly, ended by the user in an orderly way."""

import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from digitrec.errors import ComputationFailed, Interrupted
from digitrec.network import Perceptron
from digitrec.progress import Progress, Step
from digitrec.store.layout import Store
from digitrec.training.checkpoints import (
    BEST,
    MONITOR,
    BestCheckpoint,
    DigestedCheckpointIO,
    LastCheckpoint,
    checkpoint_path,
    resume_point,
)
from digitrec.training.classifier import DigitClassifier
from digitrec.training.data import DigitsDataModule
from digitrec.training.recipe import Recipe
from digitrec.training.split import Split

LOG = logging.getLogger("digitrec.training")
MEASURED = ("train_loss", "val_loss", "val_loss_error", "val_accuracy")
NOISY = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")


@dataclass(frozen=True)
class Epoch:
    """One line of metrics.csv. `epoch` counts from 1."""

    epoch: int
    train_loss: float
    val_loss: float
    val_loss_error: float
    val_accuracy: float
    lr: float


@dataclass(frozen=True)
class Fitted:
    """The network of the best epoch, in evaluation mode on the CPU, and the whole history.

    `epochs_run` and `seconds` are this process's share; the history holds the epochs of earlier ones too.
    """

    network: Perceptron
    best_epoch: int
    history: tuple[Epoch, ...]
    epochs_run: int
    seconds: float
    warnings: tuple[str, ...]


class Recorder(Callback):
    """Keeps the history (in every checkpoint too), logs a line an epoch, and moves the progress."""

    def __init__(self, epochs: int, progress: Progress) -> None:
        self.epochs, self.progress = epochs, progress
        self.history: list[Epoch] = []
        self.epochs_run = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        found = {name: float(trainer.callback_metrics[name]) for name in MEASURED}
        epoch = Epoch(trainer.current_epoch + 1, lr=lr, **found)
        if not math.isfinite(epoch.train_loss + epoch.val_loss):
            raise ComputationFailed(f"training diverged in epoch {epoch.epoch}: the loss is not a finite number")
        self.history.append(epoch)
        self.epochs_run += 1
        self.tell(epoch)

    def tell(self, epoch: Epoch) -> None:
        facts = {"validation accuracy": f"{epoch.val_accuracy:.2%}", "loss": f"{epoch.val_loss:.4f}"}
        said = ", ".join(f"{name} {value}" for name, value in facts.items())
        LOG.info("epoch %d of %d: %s, training loss %.4f", epoch.epoch, self.epochs, said, epoch.train_loss)
        self.progress(Step("train", epoch.epoch, self.epochs, "epochs", facts, logged=True))

    def state_dict(self) -> dict[str, Any]:
        return {"history": [vars(epoch) for epoch in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = [Epoch(**epoch) for epoch in state_dict["history"]]


class Patience(EarlyStopping):
    """Early stopping that holds over a kill.

    The last checkpoint is written before training ends; from there Lightning, which keeps the count but not the
    decision, would go on for an epoch that a training left alone never had.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def fit(store: Store, folder: str, logs: str, recipe: Recipe, seed: int, split: Split, progress: Progress) -> Fitted:
    """Train to the end, from the newest good checkpoint in `folder` (store-relative, as is `logs`) if there is one.

    Raises `Interrupted` on SIGINT or SIGTERM, `ComputationFailed` if the loss diverges, `StorageFailed` if a
    checkpoint cannot be written.
    """
    began, checkpoints = time.monotonic(), store.full(folder)
    start = resume_point(checkpoints)
    with quiet_lightning():
        torch.manual_seed(seed)
        data = DigitsDataModule(split, batch=recipe.batch, seed=seed, distortion=recipe.distortion)
        module = DigitClassifier(recipe, seed, data.steps_per_epoch)
        recorder = Recorder(recipe.epochs, progress)
        trainer = make_trainer(store, checkpoints, recipe, recorder, loggers(store.full(logs)))
        for warning in start.warnings:
            LOG.warning(warning)
        if start.path:
            LOG.info("going on from %s", start.path)
        run_to_end(trainer, module, data, start.path)
        best = DigestedCheckpointIO(store).load_checkpoint(checkpoint_path(checkpoints, BEST))
    module.load_state_dict(best["state_dict"])
    network, seconds = module.network.cpu().eval(), time.monotonic() - began
    return Fitted(network, best["epoch"] + 1, tuple(recorder.history), recorder.epochs_run, seconds, start.warnings)


def loggers(folder: str) -> list[Logger]:
    """Lightning's own, for whoever watches a training: CSV, and TensorBoard where it is installed."""
    csv = CSVLogger(folder, name="csv")
    return [csv, TensorBoardLogger(folder, name="tensorboard")] if find_spec("tensorboard") else [csv]


def make_trainer(store: Store, checkpoints: str, recipe: Recipe, recorder: Recorder, loggers: list[Logger]) -> Trainer:
    patience = Patience(MONITOR, patience=recipe.patience_epochs, check_on_train_epoch_end=True)
    return Trainer(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=1,
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip_norm,
        deterministic=True,
        callbacks=[
            recorder,
            patience,
            LearningRateMonitor("epoch"),
            BestCheckpoint(checkpoints),
            LastCheckpoint(checkpoints),
        ],
        plugins=[DigestedCheckpointIO(store)],
        default_root_dir=checkpoints,
        logger=loggers,
        log_every_n_steps=1,  # nothing is logged by step, and a small dataset has fewer than the default of 50
        # The command shows the progress.
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def run_to_end(trainer: Trainer, module: DigitClassifier, data: DigitsDataModule, checkpoint: str | None) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as exit_asked:
        # Lightning answers SIGINT and SIGTERM by leaving the process; whether to leave is not the library's to decide.
        raise Interrupted("training was interrupted") from exit_asked


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning tells everybody: devices, tips, why it stopped, that a resumed folder is not empty."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        # Lightning 2.6.6 asks torch 2.13 in a way that torch will drop.
        warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)` is deprecated")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def own_torch_state(threads: int) -> Iterator[None]:
    """Give training its own threads, random state and determinism, and the caller his back."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
