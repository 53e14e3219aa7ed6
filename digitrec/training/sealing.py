"""A training's outcome → a sealed model version, all its files at once; and a sealed one → a network again."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np

from digitrec import __version__
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, storage_errors
from digitrec.network import Architecture, Perceptron, load_network, save_network
from digitrec.store import catalog
from digitrec.store.commit import remove_folder, settle_folder, write_synced
from digitrec.store.layout import MANIFEST, Store, model_folder, staging_folder
from digitrec.store.manifest import Manifest, canonical, describe, read_checked, same_request
from digitrec.training import plots
from digitrec.training.checkpoints import BEST, LAST, checkpoint_path
from digitrec.training.fitting import Epoch, Fitted
from digitrec.training.plan import SPLIT, Plan
from digitrec.training.quality import Quality, fit_temperature, judge, logits_of, softmax
from digitrec.training.split import Split

WEIGHTS, CARD, ROWS = "weights.safetensors", "card.json", "rows.bin"
PACKAGES = ("torch", "pytorch-lightning", "numpy")


@dataclass(frozen=True)
class Judged:
    """A network with what was found about it on the validation rows."""

    network: Perceptron
    temperature: float
    quality: Quality
    probabilities: np.ndarray


def judge_network(network: Perceptron, split: Split) -> Judged:
    """Calibrate and measure a network on the validation rows."""
    logits = logits_of(network, split.validation.images)
    temperature = fit_temperature(logits, split.validation.labels)
    return Judged(
        network, temperature, judge(logits, split.validation.labels, temperature), softmax(logits / temperature)
    )


def seal(store: Store, plan: Plan, split: Split, fitted: Fitted, checkpoints: str) -> Manifest:
    """Publish a model version, all at once. Returns its manifest, or that of whoever sealed the same training first.

    `checkpoints` is the folder (store-relative) that holds best.ckpt and last.ckpt. Raises `AlreadyPublished` if
    another training stands under this name, `StorageFailed` if the disk refuses.
    """
    judged = judge_network(fitted.network, split)
    staged, folder = staging_folder(), model_folder(plan.version)
    try:
        contents = dict(contents_of(plan, split, fitted, judged))
        stage(store, staged, contents, checkpoints)
        manifest = manifest_of(store, plan, split, fitted, judged, staged)
        write_synced(store.full(f"{staged}/{MANIFEST}"), manifest.to_bytes())
        if not settle_folder(store, staged, folder):
            same_request(store, folder, manifest)
    finally:
        remove_folder(store, staged)
    return catalog.model(store, plan.version)


def contents_of(plan: Plan, split: Split, fitted: Fitted, judged: Judged) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file but the checkpoints. None depends on when, where or how fast it was made."""
    card = card_of(plan, split, fitted, judged)
    rows, quality = split.validation, judged.quality
    confidence, answers = judged.probabilities.max(axis=1), judged.probabilities.argmax(axis=1)
    yield WEIGHTS, save_network(judged.network)
    yield CARD, (canonical(card, indent=1) + "\n").encode()
    yield "card.md", markdown(card).encode()
    yield ROWS, packed(split.training.digests)
    yield "metrics.csv", metrics_csv(fitted.history).encode()
    yield "plots/learning-curves.png", plots.learning_curves(fitted.history)
    yield "plots/confusion.png", plots.confusion_matrix(quality.confusion)
    yield "plots/reliability.png", plots.reliability(confidence, answers == rows.labels)
    yield "plots/worst-mistakes.png", plots.worst_mistakes(rows.images, rows.labels, judged.probabilities)


def card_of(plan: Plan, split: Split, fitted: Fitted, judged: Judged) -> dict[str, Any]:
    """Everything a person or a program wants to know of a model version, as plain values."""
    asked = plan.asked
    return {
        "format": FORMAT,
        "version": plan.version,
        "preset": plan.preset,
        "seed": plan.seed,
        "architecture": plan.recipe.architecture.to_json(),
        "parameters": sum(parameter.numel() for parameter in judged.network.parameters()),
        "temperature": judged.temperature,
        "metrics": judged.quality.to_json(),
        "datasets": asked["datasets"],
        "hyperparameters": asked["recipe"],
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "rows": {"training": len(split.training), "validation": len(split.validation)},
        "split": SPLIT,
        "packages": {"digitrec": __version__} | {name: installed(name) for name in PACKAGES},
    }


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    metrics = card["metrics"]
    low, high = metrics["interval95"]
    layers = "-".join(str(width) for width in (784, *card["architecture"]["hidden"], 10))
    recalls = "".join(
        f"| {digit} | {'none seen' if recall is None else f'{recall:.2%}'} |\n"
        for digit, recall in enumerate(metrics["recall"])
    )
    return f"""# {card["version"]}

A perceptron {layers} ({card["parameters"]:,} parameters) for 28×28 grey images of single handwritten digits.

- Validation accuracy **{metrics["accuracy"]:.2%}** (95 % interval {low:.2%} to {high:.2%}, {metrics["rows"]:,} rows
  it was not trained on), loss {metrics["loss"]:.4f}, calibration error {metrics["calibration_error"]:.2%} at
  temperature {card["temperature"]:.3f}. The temperature was fitted on the same rows, and the epoch chosen by them.
- Trained on {card["rows"]["training"]:,} rows of {", ".join(entry["name"] for entry in card["datasets"])};
  preset {card["preset"]}, seed {card["seed"]}; epoch {card["best_epoch"]} of {card["epochs"]} is the one kept.
- Made with {", ".join(f"{name} {number}" for name, number in card["packages"].items())}.

| digit | recall |
| --- | --- |
{recalls}"""


def metrics_csv(history: tuple[Epoch, ...]) -> str:
    """A line an epoch."""
    names = [field.name for field in fields(Epoch)]
    lines = [",".join(repr(getattr(epoch, name)) for name in names) for epoch in history]
    return "\n".join([",".join(names), *lines]) + "\n"


def packed(digests: np.ndarray) -> bytes:
    """rows.bin: the digests of the training rows (`data.row_digests`), 8 big-endian bytes each, sorted."""
    return np.sort(digests).astype(">u8").tobytes()


def stage(store: Store, staged: str, contents: dict[str, bytes], checkpoints: str) -> None:
    base = Path(store.full(staged))
    with storage_errors("write"):
        for name, data in contents.items():
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_bytes(data)
        (base / "checkpoints").mkdir()
        for name in (BEST, LAST):
            shutil.copyfile(checkpoint_path(store.full(checkpoints), name), base / "checkpoints" / f"{name}.ckpt")


def manifest_of(store: Store, plan: Plan, split: Split, fitted: Fitted, judged: Judged, staged: str) -> Manifest:
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


@dataclass(frozen=True)
class Sealed:
    """A model version as read back, every byte checked: its network and the digests of its training rows."""

    version: str
    network: Perceptron
    trained_on: np.ndarray


def open_sealed(store: Store, version: str) -> Sealed:
    """Raises `NoInput` if there is no such version, `Corrupt` if its bytes are not the manifest's."""
    manifest = catalog.model(store, version)
    found = {name: read_checked(store, manifest.file(name)) for name in (CARD, WEIGHTS, ROWS)}
    try:
        architecture = Architecture.from_json(json.loads(found[CARD])["architecture"])
    except (ValueError, KeyError) as error:
        raise Corrupt(f"the card of model {version} holds no architecture") from error
    trained_on = np.frombuffer(found[ROWS], dtype=">u8").astype(np.uint64)
    return Sealed(version, load_network(architecture, found[WEIGHTS]), trained_on)
