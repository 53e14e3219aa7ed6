"""Runs of Lightning's Trainer, the teacher's and the perceptron's: quiet, resumed exactly, ended in an orderly way."""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import nn

from digitrec.catalog.layout import logs_folder, training_folder
from digitrec.catalog.store import Store
from digitrec.engines.floating import on_cores
from digitrec.errors import ComputationFailed, Interrupted
from digitrec.network import Perceptron
from digitrec.progress import Progress, Step
from digitrec.training.checkpoints import BEST, LAST_PATH, MONITOR, BestCheckpoint, HeldCheckpoints, LastCheckpoint
from digitrec.training.classifier import DigitClassifier
from digitrec.training.data import DigitsDataModule
from digitrec.training.recipe import Recipe
from digitrec.training.saving import find_start, generation_folder, put_files, saving
from digitrec.training.split import Split
from digitrec.training.teacher import Teacher

LOG = logging.getLogger("digitrec.training")
MEASURED = ("train_loss", "val_loss", "val_loss_error", "val_accuracy")
N = TypeVar("N", bound=nn.Module)
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
class Fitted(Generic[N]):
    """The network of the best epoch, in evaluation mode on the CPU, the whole history, and who taught it.

    `epochs_run` and `seconds` are this process's share; the history holds the epochs of earlier ones too.
    """

    network: N
    best_epoch: int
    history: tuple[Epoch, ...]
    epochs_run: int
    seconds: float
    warnings: tuple[str, ...]
    teacher: "Fitted[Teacher] | None" = None


@dataclass(frozen=True)
class Course:
    """What the teacher's training and the perceptron's have in common.

    `generation`: of the lease under which `version` is trained, checkpoints and logs go below it; `stage` is its name
    there, in messages and in progress.
    """

    store: Store
    version: str
    generation: int
    seed: int
    split: Split
    progress: Progress
    stage: str = "train"

    @property
    def of_teacher(self) -> "Course":
        return replace(self, stage="teach")


class Recorder(Callback):
    """Keeps the history (in every checkpoint too), logs a line an epoch, and moves the progress."""

    def __init__(self, stage: str, epochs: int, progress: Progress) -> None:
        self.stage, self.epochs, self.progress = stage, epochs, progress
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
        count = f"{self.stage}: epoch {epoch.epoch} of {self.epochs}"
        LOG.info("%s: %s, training loss %.4f", count, said, epoch.train_loss)
        self.progress(Step(self.stage, epoch.epoch, self.epochs, "epochs", facts, logged=True))

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


def fit(course: Course, recipe: Recipe) -> Fitted[Perceptron]:
    """Train to the end: the teacher first, if the recipe has one. Each goes on from its newest sound checkpoint, if
    there is one.

    Raises `Interrupted` on SIGINT or SIGTERM, `ComputationFailed` if the loss diverges, `StorageFailed` if a
    checkpoint that is there cannot be read.
    """
    of_teacher = recipe.of_teacher
    teacher = fit_network(course.of_teacher, of_teacher, Teacher, None) if of_teacher else None
    fitted = fit_network(course, recipe, lambda: Perceptron(recipe.architecture), teacher.network if teacher else None)
    warnings = (*(teacher.warnings if teacher else ()), *fitted.warnings)
    return replace(fitted, teacher=teacher, warnings=warnings)


def fit_network(course: Course, recipe: Recipe, make: Callable[[], N], teacher: Teacher | None) -> Fitted[N]:
    """One network that `make` initialises, under a recipe of its own."""
    began, store = time.monotonic(), course.store
    training, logs = training_folder(course.version), logs_folder(course.version)
    start = find_start(store, training, course.stage)
    for warning in start.warnings:
        LOG.warning(warning)
    if start.checkpoint:
        LOG.info("%s: going on from epoch %s", course.stage, start.checkpoint.epoch)
    held = HeldCheckpoints(start.checkpoint)
    with quiet_lightning(), store.storage.scratch() as scratch:
        torch.manual_seed(course.seed)
        network = make()
        data = DigitsDataModule(course.split, batch=recipe.batch, seed=course.seed, distortion=recipe.distortion)
        module = DigitClassifier(network, recipe, course.seed, data.steps_per_epoch, teacher)
        recorder = Recorder(course.stage, recipe.epochs, course.progress)

        def put_logs() -> None:
            put_files(store, scratch.folder, generation_folder(logs, course.generation, course.stage))

        saved = generation_folder(training, course.generation, course.stage)
        with saving(store, saved, start.pointers, put_logs) as save:
            last = LastCheckpoint(lambda epoch: save(held.take(epoch)))
            trainer = make_trainer(scratch.folder, recipe, recorder, held, last)
            run_to_end(trainer, module, data, LAST_PATH if start.checkpoint else None)
    best = held.read(BEST)
    module.load_state_dict(best["state_dict"])
    network.cpu().eval()
    seconds = time.monotonic() - began
    return Fitted(network, best["epoch"] + 1, tuple(recorder.history), recorder.epochs_run, seconds, start.warnings)


def make_trainer(
    folder: Path, recipe: Recipe, recorder: Recorder, held: HeldCheckpoints, last: LastCheckpoint
) -> Trainer:
    """`folder` is local; loggers write there."""
    patience = Patience(MONITOR, patience=recipe.patience_epochs, check_on_train_epoch_end=True)
    return Trainer(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=1,
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip_norm,
        deterministic=True,
        callbacks=[recorder, patience, LearningRateMonitor("epoch"), BestCheckpoint(), last],
        plugins=[held],
        default_root_dir=folder,
        logger=loggers(folder),
        log_every_n_steps=1,  # nothing is logged by step, and a small dataset has fewer than the default of 50
        # The command shows the progress.
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def loggers(folder: Path) -> list[Logger]:
    """Lightning's own, for whoever watches a training: CSV, and TensorBoard where it is installed."""
    csv = CSVLogger(folder, name="csv", version="")
    return [csv, TensorBoardLogger(folder, name="tensorboard", version="")] if find_spec("tensorboard") else [csv]


def run_to_end(trainer: Trainer, module: DigitClassifier, data: DigitsDataModule, checkpoint: str | None) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as exit_asked:
        # Lightning answers SIGINT and SIGTERM by leaving the process; whether to leave is not the library's to decide.
        raise Interrupted("training was interrupted") from exit_asked


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning tells everybody: devices, tips, why it stopped."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
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
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with on_cores(threads), torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
