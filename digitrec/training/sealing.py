"""A training's outcome → a published model version, all its files at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from digitrec.catalog.layout import model_folder
from digitrec.catalog.manifest import Manifest, canonical
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import sweep_folder
from digitrec.engines import INT8_FILE
from digitrec.network import Perceptron, save_network
from digitrec.training import plots
from digitrec.training.card import card_of, markdown
from digitrec.training.cascade import Large, derive_cascade
from digitrec.training.deriving import derive
from digitrec.training.fitting import Epoch, Fitted
from digitrec.training.plan import Plan
from digitrec.training.quality import Calibration, Quality, calibrate, judge, logits_of, softmax
from digitrec.training.rows import Rows
from digitrec.training.sealed import CARD, CARD_FOR_PEOPLE, ROWS, WEIGHTS, packed
from digitrec.training.split import Split

PLOTS = "plots"


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


def seal(store: Store, plan: Plan, datasets: Sequence[Manifest], split: Split, fitted: Fitted[Perceptron]) -> Manifest:
    """Publish a model version. Return the manifest that stands there: that of whoever published the same training
    first, if another process did.

    `datasets` are the plan's. Raises `AlreadyPublished` if another training stands under this name, `StorageFailed`.
    """
    judged = judge_network(fitted.network, split.validation)
    folder = model_folder(plan.version)
    with store.storage.scratch() as scratch:
        files = tuple(
            upload(store, folder, scratch.write(name.replace("/", "-"), data), name)
            for name, data in sorted(contents_of(plan, datasets, split, fitted, judged))
        )
    facts = {
        "accuracy": judged.quality.accuracy,
        "validation_rows": len(split.validation),
        "training_rows": len(split.training),
        "epochs": len(fitted.history),
    }
    there = publish(store, Manifest("model", plan.version, plan.asked, files, facts=facts)).manifest
    sweep_folder(store, folder)
    return there


def contents_of(
    plan: Plan, datasets: Sequence[Manifest], split: Split, fitted: Fitted[Perceptron], judged: Judged
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file. None depends on when, where or how fast it was made."""
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
    yield f"{PLOTS}/learning-curves.png", plots.learning_curves(fitted.history, fitted.best_epoch, taught)
    yield f"{PLOTS}/confusion.png", plots.confusion_matrix(judged.quality)
    yield f"{PLOTS}/reliability.png", plots.reliability(judged.quality)
    yield f"{PLOTS}/worst-mistakes.png", plots.worst_mistakes(rows.images, rows.labels, judged.probabilities)


def images_of(split: Split) -> np.ndarray:
    """Images to calibrate engines on, uint8 [n, 784]: the training rows, or what of a streamed dataset is in memory."""
    return split.training.images if isinstance(split.training, Rows) else split.validation.images


def metrics_csv(history: tuple[Epoch, ...]) -> str:
    """A line an epoch."""
    names = [field.name for field in fields(Epoch)]
    lines = [",".join(repr(getattr(epoch, name)) for name in names) for epoch in history]
    return "\n".join([",".join(names), *lines]) + "\n"
