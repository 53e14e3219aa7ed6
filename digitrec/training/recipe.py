"""What a preset means for a dataset of a given size, as plain numbers: they are part of the request and of the card."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from digitrec.contract import CLASSES, PIXELS
from digitrec.network import Architecture
from digitrec.options import Preset
from digitrec.training.augment import Distortion

STEPS_PER_EPOCH_MIN = 28
"""Small datasets are trained in smaller batches, so that an epoch is never fewer steps than this."""
BATCH_MIN = 16


PARALLEL_FROM = 400_000_000
"""Multiply-adds of one forward pass from which a second core pays. Below, threads wait for one another more than they
work, and on a busy machine ten times as long: torch's threads spin at every barrier until the last one has its turn."""


@dataclass(frozen=True)
class Recipe:
    """Every number that decides how the weights come out, apart from data and seed."""

    hidden: tuple[int, ...]
    dropout: float
    epochs: int
    batch: int
    patience_epochs: int
    peak_lr: float = 2e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    clip_norm: float = 5.0
    distortion: Distortion = field(default_factory=Distortion)

    @property
    def architecture(self) -> Architecture:
        return Architecture(self.hidden, self.dropout, batch_norm=True)

    def threads(self, cores: int) -> int:
        """How many of `cores` to use. A small step is the work of one, so its result depends on no option either."""
        layers = zip((PIXELS, *self.hidden), (*self.hidden, CLASSES), strict=True)
        multiply_adds = self.batch * sum(wide * narrow for wide, narrow in layers)
        return cores if multiply_adds >= PARALLEL_FROM else 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"hidden": list(self.hidden)}

    @classmethod
    def from_json(cls, numbers: Mapping[str, Any]) -> "Recipe":
        fixed = {"hidden": tuple(numbers["hidden"]), "distortion": Distortion(**numbers["distortion"])}
        return cls(**{**numbers, **fixed})


@dataclass(frozen=True)
class Budget:
    """What a preset spends: `images` are shown in all, in no fewer and no more epochs than given."""

    hidden: tuple[int, ...]
    dropout: float
    batch: int
    images: int
    epochs_min: int
    epochs_max: int


PRESETS: dict[Preset, Budget] = {
    "quick": Budget((512, 512), 0.0, batch=256, images=300_000, epochs_min=8, epochs_max=60),
    "default": Budget((1024, 1024), 0.1, batch=512, images=3_000_000, epochs_min=50, epochs_max=120),
    "best": Budget((1024, 1024), 0.1, batch=512, images=9_000_000, epochs_min=150, epochs_max=300),
}


def recipe_for(preset: Preset, rows: int) -> Recipe:
    """The recipe for datasets of `rows` rows in all. It needs no look at the rows themselves."""
    budget = PRESETS[preset]
    epochs = min(max(budget.images // max(rows, 1), budget.epochs_min), budget.epochs_max)
    batch = min(budget.batch, max(rows // STEPS_PER_EPOCH_MIN, BATCH_MIN))
    # Half the run: one-cycle learns most while the rate falls, so an early plateau says little.
    return Recipe(budget.hidden, budget.dropout, epochs, batch, patience_epochs=max(epochs // 2, 5))
