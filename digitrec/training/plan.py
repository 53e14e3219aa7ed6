"""What a training is asked for, and the version's name that follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from digitrec.catalog import listing as catalog
from digitrec.catalog.layout import name_from
from digitrec.catalog.manifest import Manifest, digest_of
from digitrec.catalog.store import Store
from digitrec.errors import BadData, UsageError
from digitrec.options import Preset, TrainOptions
from digitrec.training.recipe import Recipe, recipe_for
from digitrec.training.rows import SALT, VALIDATION_SHARE

SPLIT: dict[str, Any] = {"digest": "SHA-256(salt + image)", "salt": SALT.decode(), "validation_share": VALIDATION_SHARE}


@dataclass(frozen=True)
class Plan:
    """A request for training. `datasets` are (name, digest of the manifest), sorted by name.

    Versions of packages are not part of it: nobody asks for them, and an upgrade must not make every model anew. They
    are on the card.
    """

    preset: str
    seed: int
    datasets: tuple[tuple[str, str], ...]
    recipe: Recipe

    @property
    def asked(self) -> dict[str, Any]:
        return {
            "preset": self.preset,
            "seed": self.seed,
            "datasets": [{"name": name, "digest": digest} for name, digest in self.datasets],
            "recipe": self.recipe.to_json(),
            "split": SPLIT,
        }

    @property
    def version(self) -> str:
        return name_from(self.preset, digest_of(self.asked))

    @classmethod
    def from_asked(cls, asked: dict[str, Any]) -> "Plan":
        """Rebuild a plan. Raises `UsageError` if it does not come out as it was: another digitrec's numbers, completed
        or cut to ours, would be another training, under another name."""
        try:
            datasets = tuple((entry["name"], entry["digest"]) for entry in asked["datasets"])
            plan = cls(asked["preset"], asked["seed"], datasets, Recipe.from_json(asked["recipe"]))
            if plan.asked == asked:
                return plan
        except (KeyError, TypeError, ValueError):
            pass
        raise UsageError(
            "this training was begun by another digitrec, with another recipe or validation split: train anew"
        )


def make_plan(preset: Preset, seed: int, datasets: Sequence[Manifest]) -> Plan:
    """The plan for training on these datasets, in whichever order they are named."""
    named = tuple(sorted((manifest.name, manifest.digest) for manifest in datasets))
    return Plan(preset, seed, named, recipe_for(preset, sum(manifest.rows for manifest in datasets)))


def asked_datasets(store: Store, options: TrainOptions) -> list[Manifest]:
    """The labelled datasets named, each once, or the newest. Raises `NoInput`, or `BadData` if one has no labels."""
    if not options.dataset:
        return [catalog.newest_labelled(store)]
    found = [catalog.dataset(store, name) for name in sorted(set(options.dataset))]
    for manifest in found:
        if not manifest.facts["labelled"]:
            raise BadData(f"dataset {manifest.name} has no labels: expected one made from a CSV with a label column")
    return found


def planned_datasets(store: Store, plan: Plan) -> list[Manifest]:
    """The datasets of a plan. Raises `NoInput` if one is gone, `BadData` if another stands under its name now."""
    found = [catalog.dataset(store, name) for name, _ in plan.datasets]
    for manifest, (name, digest) in zip(found, plan.datasets, strict=True):
        if manifest.digest != digest:
            raise BadData(f"dataset {name} is not the one that {plan.version} was begun with: train anew")
    return found
