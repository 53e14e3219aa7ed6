"""A training's outcome → a sealed model version, all its files at once."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from digitrec.catalog import listing as catalog
from digitrec.catalog.layout import MANIFEST, model_folder, staging_folder
from digitrec.catalog.manifest import Manifest, canonical, describe, same_request
from digitrec.catalog.store import Store
from digitrec.engines import INT8_FILE
from digitrec.errors import storage_errors
from digitrec.network import Perceptron, save_network
from digitrec.store.commit import remove_folder, settle_folder, write_synced
from digitrec.training import plots
from digitrec.training.card import card_of, markdown
from digitrec.training.cascade import Large, derive_cascade
from digitrec.training.checkpoints import BEST, LAST, checkpoint_path
from digitrec.training.deriving import derive
from digitrec.training.fitting import Epoch, Fitted
from digitrec.training.plan import Plan
from digitrec.training.quality import Calibration, Quality, calibrate, judge, logits_of, softmax
from digitrec.training.rows import Rows
from digitrec.training.sealed import CARD, CARD_FOR_PEOPLE, ROWS, WEIGHTS, packed
from digitrec.training.split import Split


@dataclass(frozen=True)
class Judged:
    """What was found about a network on the validation rows. `probabilities`: float [n, 10], calibrated."""

    calibration: Calibration
    quality: Quality
    probabilities: np.ndarray


def judge_network(network: Perceptron, rows: Rows) -> Judged:
    """Calibrate and measure a network on validation rows."""
    logits = logits_of(network, rows.images)
    calibration = calibrate(logits, rows.labels)
    quality = judge(logits, rows.labels, calibration.temperature)
    return Judged(calibration, quality, softmax(logits / calibration.temperature))


def seal(
    store: Store, plan: Plan, datasets: Sequence[Manifest], split: Split, fitted: Fitted[Perceptron], checkpoints: str
) -> Manifest:
    """Publish a model version, all at once. Returns its manifest, or that of whoever sealed the same training first.

    `datasets` are the plan's; `checkpoints` is the folder (store-relative) that holds best.ckpt and last.ckpt. Raises
    `AlreadyPublished` if another training stands under this name, `StorageFailed` if the disk refuses.
    """
    judged = judge_network(fitted.network, split.validation)
    staged, folder = staging_folder(), model_folder(plan.version)
    try:
        contents = dict(contents_of(plan, datasets, split, fitted, judged))
        stage(store, staged, contents, checkpoints)
        manifest = manifest_of(store, plan, split, fitted, judged, staged)
        write_synced(store.full(f"{staged}/{MANIFEST}"), manifest.to_bytes())
        if not settle_folder(store, staged, folder):
            same_request(store, folder, manifest)
    finally:
        remove_folder(store, staged)
    return catalog.model(store, plan.version)


def contents_of(
    plan: Plan, datasets: Sequence[Manifest], split: Split, fitted: Fitted[Perceptron], judged: Judged
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file but the checkpoints. None depends on when, where or how fast it was made."""
    card = card_of(plan, datasets, split, fitted, judged.calibration, judged.quality)
    rows = split.validation
    derived = derive(fitted.network, images_of(split))
    large = Large(fitted.network, derived.files[INT8_FILE], judged.calibration.temperature)
    cascade = derive_cascade(large, split, plan.recipe.small_units)
    card |= {"engines": derived.facts, "cascade": cascade.facts}
    yield WEIGHTS, save_network(fitted.network)
    yield from (derived.files | cascade.files).items()
    yield CARD, (canonical(card, indent=1) + "\n").encode()
    yield CARD_FOR_PEOPLE, markdown(card).encode()
    yield ROWS, packed(split.training.digests)
    yield "metrics.csv", metrics_csv(fitted.history).encode()
    taught = card["teacher"]["accuracy"] if card["teacher"] else None
    yield "plots/learning-curves.png", plots.learning_curves(fitted.history, fitted.best_epoch, taught)
    yield "plots/confusion.png", plots.confusion_matrix(judged.quality)
    yield "plots/reliability.png", plots.reliability(judged.quality)
    yield "plots/worst-mistakes.png", plots.worst_mistakes(rows.images, rows.labels, judged.probabilities)


def images_of(split: Split) -> np.ndarray:
    """Images to calibrate engines on, uint8 [n, 784]: the training rows, or what of a streamed dataset is in memory."""
    return split.training.images if isinstance(split.training, Rows) else split.validation.images


def metrics_csv(history: tuple[Epoch, ...]) -> str:
    """A line an epoch."""
    names = [field.name for field in fields(Epoch)]
    lines = [",".join(repr(getattr(epoch, name)) for name in names) for epoch in history]
    return "\n".join([",".join(names), *lines]) + "\n"


def stage(store: Store, staged: str, contents: dict[str, bytes], checkpoints: str) -> None:
    base = Path(store.full(staged))
    with storage_errors("write", base):
        for name, data in contents.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_bytes(data)
        (base / "checkpoints").mkdir()
        for name in (BEST, LAST):
            shutil.copyfile(checkpoint_path(store.full(checkpoints), name), base / "checkpoints" / f"{name}.ckpt")


def manifest_of(
    store: Store, plan: Plan, split: Split, fitted: Fitted[Perceptron], judged: Judged, staged: str
) -> Manifest:
    base, folder = Path(store.full(staged)), model_folder(plan.version)
    names = sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    files = tuple(replace(describe(store, f"{staged}/{name}"), path=f"{folder}/{name}") for name in names)
    facts = {
        "accuracy": judged.quality.accuracy,
        "validation_rows": len(split.validation),
        "training_rows": len(split.training),
        "epochs": len(fitted.history),
    }
    return Manifest("model", plan.version, plan.asked, files, facts=facts)
