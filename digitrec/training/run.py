"""Labelled datasets → a sealed model version, and champion if it is better. The same training twice is done once."""

import fcntl
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitrec import limits
from digitrec.catalog.layout import logs_folder, model_folder, training_folder
from digitrec.catalog.manifest import Manifest, canonical, find_manifest
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, Interrupted, NoInput, storage_errors
from digitrec.network import Perceptron
from digitrec.options import TrainOptions
from digitrec.progress import Progress, silent
from digitrec.store.commit import make_folder, put_if_absent, remove_folder, sweep
from digitrec.training.fitting import Course, Fitted, fit, own_torch_state
from digitrec.training.plan import Plan, asked_datasets, make_plan, planned_datasets
from digitrec.training.promotion import Verdict, settle_champion
from digitrec.training.runs import keep_run
from digitrec.training.sealing import seal
from digitrec.training.split import Split, missing_classes, read_split

LOG = logging.getLogger("digitrec.training")


@dataclass(frozen=True)
class TrainReport:
    """What came of a training. `folder` is the model version's full path; `accuracy` is on validation rows."""

    version: str
    folder: str
    datasets: tuple[str, ...]
    accuracy: float
    validation_rows: int
    training_rows: int
    epochs: int
    promoted: bool
    why: str
    already: bool
    seconds: float
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What a person reads at the end."""
        names = ", ".join(self.datasets)
        done = "was trained before" if self.already else f"trained in {self.seconds:.1f} s"
        return [
            f"{self.version} {done}: {self.epochs} epochs on {self.training_rows:,} rows of {names}",
            f"validation accuracy {self.accuracy:.2%} ({self.validation_rows:,} rows)",
            f"it is the champion now: {self.why}" if self.promoted else f"the champion stays: {self.why}",
            f"model: {self.folder}",
            *(f"warning: {warning}" for warning in self.warnings),
        ]


def train(
    store: Store, options: TrainOptions, *, threads: int | None = None, progress: Progress = silent
) -> TrainReport:
    """Train, seal and, if it is better, promote; what was begun before goes on from its last checkpoint.

    Runs in the calling thread, on `threads` cores. Raises `NoInput` (no labelled dataset, nothing to resume), `BadData`
    (no labels, too few rows, one class), `Interrupted`, `Corrupt` and `StorageFailed`.
    """
    began = time.monotonic()
    plan = plan_of(store, options)
    with sole_trainer(store, plan.version):
        manifest = find_manifest(store, model_folder(plan.version))
        already, warnings = manifest is not None, tuple[str, ...]()
        if manifest is None:
            manifest, warnings = train_and_seal(store, plan, threads, progress)
        verdict = settle_champion(store, plan.version, options.promote)
    return report_of(store, manifest, verdict, already, time.monotonic() - began, warnings)


def plan_of(store: Store, options: TrainOptions) -> Plan:
    """The plan that the options ask for; with `resume`, that of the training that was begun, or done, before."""
    if not options.resume:
        return make_plan(options.preset, options.seed, asked_datasets(store, options))
    sealed = find_manifest(store, model_folder(options.resume))
    return Plan.from_asked(sealed.asked if sealed else begun(store, options.resume))


def begun(store: Store, version: str) -> dict[str, Any]:
    """What an interrupted training was asked for. Raises `NoInput` if there is none of this name."""
    path = Path(store.full(request_path(version)))
    if not path.is_file():
        there = ", ".join(sorted(entry.parent.name for entry in path.parents[1].glob("*/request.json"))) or "none"
        raise NoInput(f"no interrupted training {version} in {store.url}; there: {there}")
    try:
        asked: dict[str, Any] = json.loads(path.read_bytes())["asked"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{path} is damaged: remove its folder and train anew") from error
    return asked


def request_path(version: str) -> str:
    return f"{training_folder(version)}/request.json"


@contextmanager
def sole_trainer(store: Store, version: str) -> Iterator[None]:
    """Let one process at a time train a version; another waits, and finds it done. The lock dies with its process."""
    path = f"{make_folder(store, training_folder(version))}/lock"
    with storage_errors("lock", path), open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.info("%s is being trained by another process: waiting for it", version)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if store.exists(model_folder(version)) or not store.exists(request_path(version)):
                remove_folder(store, training_folder(version))


def train_and_seal(
    store: Store, plan: Plan, threads: int | None, progress: Progress
) -> tuple[Manifest, tuple[str, ...]]:
    """The work itself. Checkpoints lie in the training's folder until the version is sealed."""
    sweep(store, "_staging")
    datasets = planned_datasets(store, plan)
    split = read_split(store, datasets)
    request = {"format": FORMAT, "version": plan.version, "asked": plan.asked}
    put_if_absent(store, request_path(plan.version), (canonical(request, indent=1) + "\n").encode())
    folder = f"{training_folder(plan.version)}/checkpoints"
    cores = plan.recipe.threads(threads or limits.cores())
    with own_torch_state(cores):
        fitted = fit_or_say_how(store, folder, plan, split, progress)
        manifest = seal(store, plan, datasets, split, fitted, folder)
    keep_run(store, plan.version, split, fitted, cores)
    return manifest, (*fitted.warnings, *class_warnings(split))


def fit_or_say_how(store: Store, folder: str, plan: Plan, split: Split, progress: Progress) -> Fitted[Perceptron]:
    """`fit`, and if it is interrupted, say how to go on."""
    LOG.info("training %s on %s rows, %s validate", plan.version, f"{len(split.training):,}", len(split.validation))
    try:
        return fit(Course(store, folder, logs_folder(plan.version), plan.seed, split, progress), plan.recipe)
    except Interrupted as error:
        raise Interrupted(f"{error}; go on with `digitrec train --resume {plan.version}`") from error


def class_warnings(split: Split) -> tuple[str, ...]:
    missing = missing_classes(split)
    if not missing:
        return ()
    return (f"no row is labelled {', '.join(map(str, missing))}: the model will never give that answer",)


def report_of(
    store: Store, manifest: Manifest, verdict: Verdict, already: bool, seconds: float, warnings: tuple[str, ...]
) -> TrainReport:
    facts = manifest.facts
    return TrainReport(
        version=manifest.name,
        folder=store.full(model_folder(manifest.name)),
        datasets=tuple(entry["name"] for entry in manifest.asked["datasets"]),
        accuracy=facts["accuracy"],
        validation_rows=facts["validation_rows"],
        training_rows=facts["training_rows"],
        epochs=facts["epochs"],
        promoted=verdict.promote,
        why=verdict.why,
        already=already,
        seconds=seconds,
        warnings=warnings,
    )
