"""A preset becomes plain numbers that fit the data's size. (`quick` is something tiny in these tests.)"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digitrec.training.recipe import Recipe, recipe_for


@given(st.integers(0, 10_000_000), st.sampled_from(["default", "best"]))
def test_every_size_has_a_recipe_that_can_be_kept(rows: int, preset: str) -> None:
    """It survives JSON, and a batch is never larger than the rows that are trained on."""
    recipe = recipe_for(preset, rows)  # type: ignore[arg-type]  # drawn from the literal's values
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.epochs >= 1
    assert rows < 100 or recipe.batch <= rows * 0.5


@pytest.mark.parametrize("preset", ["default", "best"])
def test_more_data_is_seen_less_often(preset: str) -> None:
    """Epochs fall with the size, down to the least that the preset allows."""
    epochs = [recipe_for(preset, rows).epochs for rows in (1_000, 60_000, 5_000_000)]  # type: ignore[arg-type]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] >= 20


def test_small_steps_are_the_work_of_one_thread() -> None:
    """On a few thousand rows a step is too small to share; on sixty thousand it is not."""
    small, large = Recipe((512, 512), 60, 142), Recipe((1024, 1024), 50, 512)
    assert (small.threads(8), large.threads(8)) == (1, 8)


def test_smaller_batches_are_learned_from_at_a_lower_rate() -> None:
    """A quarter of the batch, half of the rate: for the perceptron and for its teacher."""
    few, many = recipe_for("default", 128 * 28), recipe_for("default", 60_000)
    assert (few.batch, many.batch) == (128, 512)
    assert few.peak_lr == many.peak_lr / 2
    assert few.distillation
    assert many.distillation
    assert few.distillation.batch == many.distillation.batch / 2
    assert few.distillation.peak_lr == pytest.approx(many.distillation.peak_lr / 2**0.5)
