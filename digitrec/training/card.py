"""The card of a model version: everything a person or a program wants to know of it, as plain values and as a page.

None of it depends on when, where or how fast the model was made: that is in runs/*.json beside the card.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version as installed
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from digitrec import __version__
from digitrec.catalog.manifest import Manifest
from digitrec.contract import CLASSES, FORMAT, PIXELS
from digitrec.network import Perceptron
from digitrec.training.fitting import Fitted
from digitrec.training.plan import SPLIT, Plan
from digitrec.training.quality import Calibration, Quality
from digitrec.training.recipe import Recipe
from digitrec.training.split import Split

PACKAGES = ("torch", "pytorch-lightning", "numpy")
PASSES = 3
"""Multiply-adds of a training step in those of a forward pass: one forward, two backward (to weights and to inputs)."""


def card_of(
    plan: Plan,
    datasets: Sequence[Manifest],
    split: Split,
    fitted: Fitted[Perceptron],
    calibration: Calibration,
    quality: Quality,
) -> dict[str, Any]:
    """The card as plain values, as `card.json` keeps it."""
    return {
        "format": FORMAT,
        "version": plan.version,
        "preset": plan.preset,
        "seed": plan.seed,
        "architecture": plan.recipe.architecture.to_json(),
        "parameters": parameters(fitted.network),
        "temperature": calibration.temperature,
        "metrics": asdict(quality),
        "calibration": asdict(calibration),
        "datasets": [{"name": data.name, "digest": data.digest, "rows": data.rows} for data in datasets],
        "hyperparameters": plan.asked["recipe"],
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "teacher": teacher_of(fitted),
        "rows": {"training": len(split.training), "validation": len(split.validation)},
        "split": SPLIT,
        "cost": cost_of(plan, split, fitted),
        "python": platform.python_version(),
        "packages": {"digitrec": __version__} | {name: installed(name) for name in PACKAGES},
    }


def teacher_of(fitted: Fitted[Perceptron]) -> dict[str, Any] | None:
    """How good the network was whose answers were learned; None where labels were."""
    teacher = fitted.teacher
    if teacher is None:
        return None
    kept = teacher.history[teacher.best_epoch - 1]
    return {
        "parameters": parameters(teacher.network),
        "epochs": len(teacher.history),
        "best_epoch": teacher.best_epoch,
        "accuracy": kept.val_accuracy,
    }


def cost_of(plan: Plan, split: Split, fitted: Fitted[Perceptron]) -> dict[str, int]:
    """What the training took, in numbers that are the same wherever it runs: images shown to the perceptron, and
    multiply-adds, the teacher's training and its answers included."""
    images = images_shown(fitted, plan.recipe, split)
    work = PASSES * images * multiply_adds(fitted.network)
    if fitted.teacher and plan.recipe.of_teacher:
        studied = PASSES * images_shown(fitted.teacher, plan.recipe.of_teacher, split)
        work += (studied + images) * multiply_adds(fitted.teacher.network)
    return {"images_shown": images, "multiply_adds": work}


def images_shown(fitted: Fitted[Any], recipe: Recipe, split: Split) -> int:
    """Full batches only."""
    return len(fitted.history) * (len(split.training) // recipe.batch) * recipe.batch


def parameters(network: nn.Module) -> int:
    """Numbers that were learned."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module) -> int:
    """Those of one image's forward pass in linear layers and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, PIXELS))
    return int(counter.get_total_flops() // 2)


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    layers = "-".join(str(width) for width in (PIXELS, *card["architecture"]["hidden"], CLASSES))
    return f"""# {card["version"]}

A perceptron {layers} ({card["parameters"]:,} parameters) for 28×28 grey images of single handwritten digits.

{quality_page(card["metrics"], card["rows"]["validation"])}
{calibration_page(card)}
{cascade_page(card.get("cascade"))}{training_page(card)}"""


def quality_page(metrics: dict[str, Any], rows: int) -> str:
    pairs = zip(metrics["recall"], metrics["recall_interval95"], metrics["confusion"], strict=True)
    recalls = "\n".join(
        f"| {digit} | {sum(answers):,} | {'–' if recall is None else f'{recall:.2%}'} | {between(interval)} |"
        for digit, (recall, interval, answers) in enumerate(pairs)
    )
    return f"""## How good it is

Validation accuracy **{metrics["accuracy"]:.2%}** (95 % interval {between(metrics["interval95"])}), loss
{metrics["loss"]:.4f}, on {rows:,} rows that it was not trained on. The epoch that was kept was chosen by the same rows,
so expect a little less elsewhere.

| digit | rows | recall | 95 % interval |
| --- | --- | --- | --- |
{recalls}
"""


def calibration_page(card: dict[str, Any]) -> str:
    found = card["calibration"]
    bins = "\n".join(
        f"| {bin_['confidence']:.1%} | {bin_['right']:.1%} | {bin_['rows']:,} |"
        for bin_ in card["metrics"]["reliability"]
    )
    return f"""## How far its confidence can be trusted

Confidences are softmax(logits / {found["temperature"]:.3f}); the temperature was fitted on the validation rows.
Expected calibration error: {found["error_uncalibrated"]:.2%} without it, {found["error_fitted"]:.2%} with it, and
{found["error_cross_fitted"]:.2%} where each half of the rows has the temperature that the other half asks for.

| mean confidence | right | rows |
| --- | --- | --- |
{bins}
"""


def cascade_page(found: dict[str, Any] | None) -> str:
    """Of the small net, or why there is none; nothing where an older digitrec made the version."""
    if found is None:
        return ""
    if "none" in found:
        return f"## `score --cascade`\n\nThere is no small net: {found['none']}.\n\n"
    layers = "-".join(str(width) for width in (PIXELS, *found["hidden"], CLASSES))
    return f"""## `score --cascade`

A small net {layers} was taught the answers of the large one. Alone it has {found["accuracy"]:.2%} of the
validation rows right. Its answer stands where its confidence, softmax(logits / {found["temperature"]:.3f}), is at least
{found["threshold"]:.4f}: for {found["answered"]:.1%} of {found["rows"]:,} rows that did not teach it.
The large net answers the rest. On {found["losses"]} of these rows the small net's answer stands and is wrong where the
large one is right: at most {found["upper_bound"]:.4%} of all answers are lost (one-sided 95 % bound; no more than
{found["loss_max"]:.2%} may be, and what is gained elsewhere is not set off).

"""


def training_page(card: dict[str, Any]) -> str:
    datasets = "\n".join(
        f"| {entry['name']} | {entry['rows']:,} | {entry['digest'][:12]} |" for entry in card["datasets"]
    )
    packages = ", ".join(f"{name} {number}" for name, number in card["packages"].items())
    cost = card["cost"]
    learned = taught(card["teacher"]) if card.get("teacher") else ""
    return f"""## How it was made

Preset {card["preset"]}, seed {card["seed"]}, {card["rows"]["training"]:,} training rows, {card["epochs"]} epochs; epoch
{card["best_epoch"]} was kept. It was shown {cost["images_shown"]:,} images, which took about
{cost["multiply_adds"] / 1e12:,.2f} × 10¹² multiply-adds. Seconds, rates and the processor are in
`runs/*.json`, one file a run.{learned}

| dataset | rows | digest |
| --- | --- | --- |
{datasets}

Made with Python {card["python"]}, {packages}.
"""


def taught(teacher: dict[str, Any]) -> str:
    size, share = f"{teacher['parameters']:,} parameters", f"{teacher['accuracy']:.2%} of the validation rows right"
    return f""" It learned the answers of a convolutional network
({size}, {teacher["epochs"]} epochs; {share}) that was trained on the same
rows before, and is not kept."""


def between(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}" if interval else "–"
