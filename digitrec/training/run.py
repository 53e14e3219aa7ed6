"""Labelled datasets → a published model version, and champion if it is better. The same training twice is done once."""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from digitrec import limits
from digitrec.catalog import leases
from digitrec.catalog.layout import LOGS, TRAININGS, champion_folder, model_folder, training_folder
from digitrec.catalog.listing import folder_names
from digitrec.catalog.manifest import Manifest, canonical, find_manifest, parse_json
from digitrec.catalog.marker import check_format
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import GIVEN_UP_S, GRACE_S, remove_tree, sweep_tree
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, DigitrecError, Interrupted, NoInput, StorageFailed
from digitrec.network import Perceptron
from digitrec.options import TrainOptions
from digitrec.progress import Progress, silent
from digitrec.storage import NotFound
from digitrec.training.fitting import Course, Fitted, fit, own_torch_state
from digitrec.training.plan import Plan, asked_datasets, make_plan, planned_datasets
from digitrec.training.promotion import Verdict, settle_champion
from digitrec.training.runs import keep_run
from digitrec.training.sealing import seal
from digitrec.training.split import Split, missing_classes, read_split

LOG = logging.getLogger("digitrec.training")


@dataclass(frozen=True)
class TrainReport:
    """What came of a training. `folder` is the model version's address; `accuracy` is on validation rows."""

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
    """Train, publish and, if it is better, promote; what was begun before goes on from its last checkpoint.

    One process at a time trains a version: others wait for it, and find it done. Runs in the calling thread, on
    `threads` cores. Raises `NoInput` (no labelled dataset, nothing to resume), `BadData` (no labels, too few rows, one
    class), `Interrupted`, `Corrupt` and `StorageFailed`.
    """
    began = time.monotonic()
    check_format(store)
    plan = plan_of(store, options)

    def say_whom(holder: str) -> None:
        LOG.info("%s is being trained by %s: waiting for it", plan.version, holder)

    with leases.hold(store, lease_name(plan.version), on_wait=say_whom) as lease:
        generation = lease.number
        manifest = find_manifest(store, model_folder(plan.version))
        already, warnings = manifest is not None, tuple[str, ...]()
        if manifest is None:
            manifest, warnings = train_and_publish(store, plan, generation, threads, progress)
        remove_tree(store, training_folder(plan.version))
        verdict = settle_champion(store, plan.version, options.promote)
    return report_of(store, manifest, verdict, already, time.monotonic() - began, warnings)


def lease_name(version: str) -> str:
    return f"training/{version}"


def plan_of(store: Store, options: TrainOptions) -> Plan:
    """The plan that the options ask for; with `resume`, that of the training that was begun, or done, before."""
    if not options.resume:
        return make_plan(options.preset, options.seed, asked_datasets(store, options))
    published = find_manifest(store, model_folder(options.resume))
    return Plan.from_asked(published.asked if published else read_request(store, options.resume))


def read_request(store: Store, version: str) -> dict[str, Any]:
    """Return what an interrupted training was asked for. Raises `NoInput` if there is none of this name, `Corrupt`."""
    key = request_key(version)
    try:
        data = store.storage.read(key)
    except NotFound:
        begun = [name for name in folder_names(store, TRAININGS) if store.storage.exists(request_key(name))]
        raise NoInput(
            f"no interrupted training {version} in {store.url}; there: {', '.join(begun) or 'none'}"
        ) from None
    damaged = f"{store.address(key)} is damaged: remove its folder and train anew"
    asked = parse_json(data, store.address(key), damaged).get("asked")
    if not isinstance(asked, dict):
        raise Corrupt(damaged)
    return asked


def request_key(version: str) -> str:
    return f"{training_folder(version)}/request.json"


def train_and_publish(
    store: Store, plan: Plan, generation: int, threads: int | None, progress: Progress
) -> tuple[Manifest, tuple[str, ...]]:
    """Do the work itself, as the holder of a generation of the lease."""
    sweep_given_up(store)
    datasets = planned_datasets(store, plan)
    split = read_split(store, datasets)
    request = {"format": FORMAT, "version": plan.version, "asked": plan.asked}
    # Also if it is there: its time keeps the checkpoints from being swept until there is a new one.
    store.storage.put(request_key(plan.version), (canonical(request, indent=1) + "\n").encode())
    cores = plan.recipe.threads(threads or limits.cores())
    with own_torch_state(cores):
        fitted = fit_or_say_how(Course(store, plan.version, generation, plan.seed, split, progress), plan)
        manifest = seal(store, plan, datasets, split, fitted)
    warnings = (*fitted.warnings, *class_warnings(split))
    try:
        keep_run(store, plan.version, split, fitted, cores)
    except StorageFailed as error:  # the version is published, whatever becomes of a note on its making
        warnings = (*warnings, f"the note on this run could not be written: {error}")
    return manifest, warnings


def sweep_given_up(store: Store) -> None:
    """Remove checkpoints of trainings that were given up, old logs, and what killed processes have left half-written.

    What a live training needs is spared. Failing to clean up is no failure.
    """
    with suppress(DigitrecError):
        for version in folder_names(store, TRAININGS):
            with suppress(DigitrecError):  # of a lease that cannot be read
                if not leases.is_live(store, lease_name(version)):
                    sweep_tree(store, f"{TRAININGS}/{version}", grace_s=GIVEN_UP_S)
        for version in folder_names(store, LOGS):
            sweep_tree(store, f"{LOGS}/{version}", grace_s=GIVEN_UP_S)
        store.storage.sweep_unfinished(champion_folder(), GRACE_S)


def fit_or_say_how(course: Course, plan: Plan) -> Fitted[Perceptron]:
    """`fit`, and if it is interrupted, say how to go on."""
    rows, validating = len(course.split.training), len(course.split.validation)
    LOG.info("training %s on %s rows, %s validate", plan.version, f"{rows:,}", validating)
    try:
        return fit(course, plan.recipe)
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
        folder=store.address(manifest.folder),
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
