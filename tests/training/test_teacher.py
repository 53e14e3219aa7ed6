"""A convolutional network learns the labels first, and the perceptron learns its answers."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from digitrec.catalog.layout import training_folder
from digitrec.catalog.store import Store
from digitrec.network import Architecture, Perceptron
from digitrec.options import TrainOptions
from digitrec.progress import Step, silent
from digitrec.training import recipe
from digitrec.training.classifier import DigitClassifier
from digitrec.training.fitting import Course, fit, fit_network, own_torch_state
from digitrec.training.recipe import PRESETS, Distillation
from digitrec.training.rows import Rows
from digitrec.training.run import TrainReport
from digitrec.training.saving import find_start
from digitrec.training.split import Split, split_rows
from digitrec.training.teacher import Teacher, distillation_loss
from tests.places import full
from tests.training.conftest import TINY, Digits, contents, damage, file_of, interrupted, publish_rows, train

VERSION = "quick-00000001"
QUICK = TrainOptions(preset="quick")
TAUGHT = replace(TINY.recipe, distillation=Distillation(epochs=3, batch=64))


@pytest.fixture(autouse=True, scope="module")
def taught(tiny: None) -> Iterator[None]:
    """Quick trainings have a teacher here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "quick", replace(TINY, recipe=TAUGHT))
        patch.setattr(recipe, "TEACHER_EPOCHS_MAX", 3)
        yield


@pytest.fixture(scope="module")
def left_alone(taught: None, tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> tuple[Store, TrainReport]:
    """What an undisturbed training makes of the same rows."""
    store = Store.at(tmp_path_factory.mktemp("left-alone"))
    publish_rows(store, "sample", digits[0][:600], digits[1][:600])
    return store, train(store, QUICK)


@pytest.fixture
def store(tmp_path: Path, digits: Digits) -> Store:
    """With the same 600 labelled digits."""
    made = Store.at(tmp_path / "disturbed")
    publish_rows(made, "sample", digits[0][:600], digits[1][:600])
    return made


def first(digits: Digits) -> Digits:
    return digits[0][:1500], digits[1][:1500]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.floats(0.5, 8), st.integers(0, 99))
def test_the_loss_pulls_each_answer_to_the_teachers(rows: int, temperature: float, seed: int) -> None:
    """It is 0 where both agree, else positive; its gradient is the difference of the softened probabilities."""
    draw = torch.Generator().manual_seed(seed)
    taught, logits = (torch.randn(rows, 10, generator=draw, dtype=torch.float64) * 5 for _ in range(2))
    assert abs(distillation_loss(taught, taught, temperature)) < 1e-9
    logits.requires_grad_()
    loss = distillation_loss(logits, taught, temperature)
    (gradient,) = torch.autograd.grad(loss, logits)
    given, wanted = (torch.softmax(each / temperature, dim=1) for each in (logits, taught))
    assert loss > 0
    assert torch.allclose(gradient, (given - wanted) * temperature / rows)


def test_the_teacher_answers_instead_of_labels() -> None:
    """With a teacher labels change nothing; a teacher of the teacher's recipe there is none."""
    images, labels = torch.arange(5 * 784).view(5, 784) % 256, torch.arange(5)
    module = DigitClassifier(Perceptron(Architecture(TAUGHT.hidden)), TAUGHT, 0, 1, Teacher().eval())
    assert module.loss(images, labels) == module.loss(images, labels.flip(0))
    of_teacher = TAUGHT.of_teacher
    assert of_teacher is not None
    assert of_teacher.of_teacher is None
    learning = DigitClassifier(Teacher().eval(), of_teacher, 0, 1)
    assert learning.loss(images, labels) != learning.loss(images, labels.flip(0))


def course(folder: Path, split: Split) -> Course:
    return Course(Store.at(folder), VERSION, 1, 0, split, silent)


def test_who_teaches_does_not_change(tmp_path: Path, digits: Digits) -> None:
    """After the perceptron's training the teacher is, batch norm included, the one of its best checkpoint."""
    with own_torch_state(1):
        teacher = fit(course(tmp_path, split_rows(Rows.of(*first(digits)))), TAUGHT).teacher
    assert teacher is not None
    checkpoint = find_start(Store.at(tmp_path), training_folder(VERSION), "teach").checkpoint
    assert checkpoint is not None
    kept = torch.load(io.BytesIO(checkpoint.best), weights_only=True)["state_dict"]
    state = {f"network.{name}": tensor for name, tensor in teacher.network.state_dict().items()}
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_the_perceptron_follows_its_teacher_even_where_that_one_is_wrong(tmp_path: Path, digits: Digits) -> None:
    """Taught by a network that learned 9 - label, it answers so on images that neither saw, whatever the labels."""
    images, labels = first(digits)
    right, upside_down = split_rows(Rows.of(images, labels)), split_rows(Rows.of(images, 9 - labels))
    of_teacher = replace(TAUGHT, epochs=8, distillation=None)
    of_pupil = replace(TAUGHT, epochs=20, first_cycle=0)
    with own_torch_state(1):
        teacher = fit_network(course(tmp_path / "teacher", upside_down), of_teacher, Teacher, None).network
        # The epoch that is kept is chosen by validation labels.
        misled = course(tmp_path / "pupil", Split(right.training, upside_down.validation))
        pupil = fit_network(misled, of_pupil, lambda: Perceptron(of_pupil.architecture), teacher).network
    with torch.inference_mode():
        answers = pupil(torch.from_numpy(digits[0][1500:])).argmax(1).numpy()
    assert (answers == 9 - digits[1][1500:]).mean() > 0.7


def test_a_version_keeps_the_perceptron_alone_and_says_who_taught_it(left_alone: tuple[Store, TrainReport]) -> None:
    """Weights are the perceptron's; the card tells of the teacher, and counts what it cost."""
    store, report = left_alone
    assert not [
        name for name, array in load(file_of(store, report.version, "weights.safetensors")).items() if array.ndim == 4
    ]
    card, page = (file_of(store, report.version, name).decode() for name in ("card.json", "card.md"))
    card = json.loads(card)
    assert card["teacher"]["epochs"] == 3
    assert card["teacher"]["parameters"] == sum(each.numel() for each in Teacher().parameters())
    perceptron, teacher = 784 * 32 + 32 * 10, 4_093_760
    asked = card["hyperparameters"]
    shown, studied = (
        epochs * (card["rows"]["training"] // batch) * batch
        for epochs, batch in ((5, asked["batch"]), (3, asked["distillation"]["batch"]))
    )
    assert card["cost"]["images_shown"] == shown
    assert card["cost"]["multiply_adds"] == 3 * shown * perceptron + (3 * studied + shown) * teacher
    assert "convolutional network" in " ".join(page.split())
    (run,) = (json.loads(path.read_text()) for path in Path(report.folder).glob("runs/*.json"))
    assert run["epochs_run"] == 3 + 5


@pytest.mark.parametrize(("stage", "epoch"), [("teach", 1), ("teach", 3), ("train", 4)])
def test_interrupted_in_either_training_and_resumed_equals_left_alone(
    store: Store, left_alone: tuple[Store, TrainReport], stage: str, epoch: int
) -> None:
    """Every byte of the model version is the same, and what was done is not done again."""
    interrupted(store, epoch, stage=stage)
    steps: list[Step] = []
    report = train(store, QUICK, progress=steps.append)
    again = {(step.stage, step.done) for step in steps}
    assert stage == "teach" or "teach" not in dict(again)
    assert len(again) < 3 + 5 or (stage, epoch) == ("teach", 1)
    assert contents(report.folder) == contents(left_alone[1].folder)


def test_a_damaged_teacher_is_trained_anew(store: Store, left_alone: tuple[Store, TrainReport]) -> None:
    """Its checkpoints are named; the end is the same."""
    version = interrupted(store, 2)
    for path in Path(full(store, training_folder(version))).glob("*/teach/*.ckpt"):
        damage(path)
    report = train(store, QUICK)
    assert re.search(r"teach/checkpoint-.*\.ckpt is damaged: .*; training begins anew", report.lines()[-1])
    assert contents(report.folder) == contents(left_alone[1].folder)


def test_white_and_black_images_are_answered() -> None:
    """uint8 and float inputs give the same finite logits."""
    images = np.repeat(np.array([[0], [255]], np.uint8), 784, axis=1)
    teacher = Teacher().eval()
    with torch.inference_mode():
        logits = teacher(torch.from_numpy(images))
        assert torch.equal(logits, teacher(torch.from_numpy(images.astype(np.float32))))
    assert torch.isfinite(logits).all()
