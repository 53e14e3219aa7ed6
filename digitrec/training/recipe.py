"""What a preset means for a dataset of a given size, as plain numbers: they are part of the request and of the card."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from digitrec.contract import CLASSES, PIXELS
from digitrec.network import Architecture
from digitrec.options import Preset
from digitrec.training.augment import Distortion

STEPS_PER_EPOCH_MIN = 28
"""Small datasets are trained in smaller batches, so that an epoch is never fewer steps than this."""
BATCH_MIN = 16
TEACHER_IMAGES, TEACHER_EPOCHS_MIN, TEACHER_EPOCHS_MAX = 1_500_000, 5, 60
"""What the network that teaches is shown itself, first."""
RAMP_EPOCHS_MAX = 6
"""Distortions rise no longer than this: few rows, seen often, need them at full strength most of the time."""


PARALLEL_FROM = 150_000_000
"""Multiply-adds of one forward pass from which a second core pays. Below, threads wait for one another more than they
work, and on a busy machine ten times as long: torch's threads spin at every barrier until the last one has its turn."""


@dataclass(frozen=True)
class Distillation:
    """A convolutional network is trained before, with numbers of its own, and the perceptron learns its answers instead
    of labels, both softened by `temperature`: at one so high, nearly the squared difference of their logits (Ba and
    Caruana, "Do Deep Nets Really Need to be Deep?", NeurIPS 2014; Kim et al., IJCAI 2021, found it better, as here)."""

    epochs: int = 25
    batch: int = 256
    peak_lr: float = 12e-3
    peak_at: float = 0.2
    weight_decay: float = 0.05
    temperature: float = 20.0

    def fit_for(self, rows: int) -> "Distillation":
        """For a dataset of so many rows."""
        epochs = epochs_for(rows, TEACHER_IMAGES, TEACHER_EPOCHS_MIN, TEACHER_EPOCHS_MAX)
        return replace(in_batches_for(rows, self), epochs=epochs)


@dataclass(frozen=True)
class Recipe:
    """Every number that decides how the weights come out, apart from data and seed.

    `first_cycle` epochs have a cycle of the learning rate of their own (warm restart: Loshchilov and Hutter, 2017), so
    that there is something usable after seconds. `peak_at` is the share of a cycle over which the rate rises.
    `small_units`: hidden units of the small net that is distilled for `score --cascade`; 0: none.
    """

    hidden: tuple[int, ...]
    epochs: int
    batch: int
    patience_epochs: int = 5
    first_cycle: int = 0
    dropout: float = 0.0
    peak_lr: float = 2e-3
    peak_at: float = 0.3
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    clip_norm: float = 5.0
    small_units: int = 0
    distortion: Distortion = field(default_factory=Distortion)
    distillation: Distillation | None = None

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.hidden, self.dropout, batch_norm=True)

    @property
    def of_teacher(self) -> "Recipe | None":
        """That of the network that teaches first; its `hidden` means nothing."""
        how = self.distillation
        if how is None:
            return None
        numbers = {name: number for name, number in asdict(how).items() if name != "temperature"}
        return replace(self, **numbers, patience_epochs=how.epochs).untaught

    @property
    def untaught(self) -> "Recipe":
        """The same but to learn labels, which mixed images have none of."""
        return replace(self, distortion=replace(self.distortion, mixed=0.0), distillation=None)

    def threads(self, cores: int) -> int:
        """How many of `cores` to use. A small step is the work of one, so its result depends on no option either."""
        layers = zip((PIXELS, *self.hidden), (*self.hidden, CLASSES), strict=True)
        multiply_adds = self.batch * sum(wide * narrow for wide, narrow in layers)
        return cores if multiply_adds >= PARALLEL_FROM else 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"hidden": list(self.hidden)}

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> "Recipe":
        how = numbers["distillation"]
        fixed = {
            "hidden": tuple(numbers["hidden"]),
            "distortion": Distortion(**numbers["distortion"]),
            "distillation": None if how is None else Distillation(**how),
        }
        return cls(**{**numbers, **fixed})


@dataclass(frozen=True)
class Budget:
    """What a preset spends: `images` are shown in all, in no fewer epochs than given and no more than the recipe has.

    The recipe's batch is the largest, too.
    """

    images: int
    epochs_min: int
    recipe: Recipe


CALM = Distortion(shift_px=1.0, calm=0.3, end=0.3)
"""Distortions of the prototype, a smaller shift (digits come centred), and a calm end, which paid most of all:
bench/accuracy.py."""

LARGE = Recipe(
    (800, 800, 800),
    175,
    512,
    peak_lr=16e-3,
    weight_decay=0.04,
    small_units=128,
    distortion=replace(CALM, mixed=0.5),
    distillation=Distillation(),
)

LARGE_IMAGES = 6_640_000
"""110 epochs of MNIST's 60,000. Half as many again, with less of a rate, made as many mistakes in exams."""

N = TypeVar("N", Recipe, Distillation)

PRESETS: dict[Preset, Budget] = {
    "quick": Budget(
        900_000,
        16,
        Recipe(
            (512, 512),
            60,
            256,
            first_cycle=3,
            peak_lr=8e-3,
            peak_at=0.08,
            label_smoothing=0.1,
            distortion=replace(CALM, ramp=0.4),
        ),
    ),
    "default": Budget(LARGE_IMAGES, 20, LARGE),
    "best": Budget(LARGE_IMAGES, 20, replace(LARGE, hidden=(1600, 1600, 1600))),
}


def recipe_for(preset: Preset, rows: int) -> Recipe:
    """The recipe for datasets of `rows` rows in all. It needs no look at the rows themselves."""
    budget = PRESETS[preset]
    recipe, teacher = budget.recipe, budget.recipe.distillation
    epochs = epochs_for(rows, budget.images, budget.epochs_min, recipe.epochs)
    distortion = replace(recipe.distortion, ramp=min(recipe.distortion.ramp, RAMP_EPOCHS_MAX / epochs))
    # Most of the run: one-cycle learns most while the rate falls and distortions calm, so a plateau before says little.
    patience = max(3 * epochs // 4, 5)
    return replace(
        in_batches_for(rows, recipe),
        epochs=epochs,
        patience_epochs=patience,
        distortion=distortion,
        distillation=teacher and teacher.fit_for(rows),
    )


def in_batches_for(rows: int, numbers: N) -> N:
    """Smaller batches for few rows, at a rate that falls with the root of the batch (Malladi et al., "On the SDEs and
    Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022)."""
    batch = min(numbers.batch, max(rows // STEPS_PER_EPOCH_MIN, BATCH_MIN))
    return replace(numbers, batch=batch, peak_lr=numbers.peak_lr * math.sqrt(batch / numbers.batch))


def epochs_for(rows: int, images: int, least: int, most: int) -> int:
    """So many that `images` are shown in all, give or take, within bounds."""
    return min(max(images // max(rows, 1), least), most)
