"""A training that is killed or interrupted goes on, and ends as if nothing had happened."""

import copy
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest


from digitrec.catalog.layout import training_folder
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, Interrupted, NoInput, UsageError
from digitrec.options import TrainOptions
from digitrec.progress import Step
from digitrec.training import plan, run
from digitrec.training.plan import asked_datasets, make_plan
from digitrec.training.run import TrainReport
from tests.places import full
from tests.training.conftest import TINY, contents, damage, interrupted, publish_rows, train

QUICK = TrainOptions(preset="quick")
Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def new_store(tmp_path: Path, digits: Digits) -> Callable[[str], Store]:
    """A store with 600 labelled digits, as many times as needed."""

    def make(name: str) -> Store:
        made = Store.at(tmp_path / name)
        publish_rows(made, "sample", digits[0][:600], digits[1][:600])
        return made

    return make


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> dict[str, bytes]:
    """Every byte of the model version that an undisturbed training makes."""
    store = Store.at(tmp_path_factory.mktemp("left-alone"))
    publish_rows(store, "sample", digits[0][:600], digits[1][:600])
    return contents(train(store, QUICK).folder)


def differing(a: dict[str, bytes], b: dict[str, bytes]) -> set[str]:
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("epoch", [1, 4])
def test_interrupted_and_resumed_equals_left_alone(
    new_store: Callable[[str], Store], left_alone: dict[str, bytes], epoch: int, number: int
) -> None:
    """Every byte of the model version is the same; the signal's handler is the caller's again."""
    store, handler = new_store("disturbed"), signal.getsignal(number)
    version = interrupted(store, epoch, number)
    assert signal.getsignal(number) is handler
    assert not store.exists(f"models/{version}")
    steps: list[Step] = []
    report = train(store, TrainOptions(resume=version), progress=steps.append)
    assert report.version == version
    assert len(steps) < 5 or epoch == 1
    assert differing(contents(report.folder), left_alone) == set()


def test_the_same_command_goes_on_too(new_store: Callable[[str], Store], left_alone: dict[str, bytes]) -> None:
    """Without --resume, the same request finds its checkpoints."""
    store = new_store("disturbed")
    interrupted(store, 3)
    steps: list[Step] = []
    report = train(store, QUICK, progress=steps.append)
    assert len(steps) < 5
    assert differing(contents(report.folder), left_alone) == set()


KILLED = """
import os, signal, sys
from digitrec.options import TrainOptions
from digitrec.catalog.store import Store
from digitrec.training import checkpoints
from digitrec.training.recipe import PRESETS
from tests.training.conftest import TINY, train
PRESETS["quick"], checkpoints.SAVE_LAST_EVERY_S = TINY, 0.0
train(Store.at(sys.argv[1]), TrainOptions(preset="quick"),
      progress=lambda step: step.done == 3 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_killed_and_asked_again_equals_left_alone(
    new_store: Callable[[str], Store], left_alone: dict[str, bytes]
) -> None:
    """kill -9 leaves nothing visible, and the next run ends at the same bytes."""
    store = new_store("killed")
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, store.url], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not store.exists("models")
    assert differing(contents(train(store, QUICK).folder), left_alone) == set()


@pytest.mark.parametrize(("name", "said"), [("last", "going on from best.ckpt"), ("best", "training begins anew")])
def test_a_damaged_checkpoint_is_not_used(
    new_store: Callable[[str], Store], left_alone: dict[str, bytes], name: str, said: str
) -> None:
    """It is named, an older one that verifies is used, and the end is the same."""
    store = new_store("damaged")
    version = interrupted(store, 4)
    damage(Path(full(store, training_folder(version))) / "checkpoints" / f"{name}.ckpt")
    report = train(store, TrainOptions(resume=version))
    assert said in report.lines()[-1]
    assert differing(contents(report.folder), left_alone) == set()


def test_resuming_what_is_done_or_unknown(new_store: Callable[[str], Store]) -> None:
    """A finished version is already done; an unknown one is NoInput and names those that can be resumed."""
    store = new_store("store")
    version = interrupted(store, 2)
    with pytest.raises(NoInput, match=f"no interrupted training quick-00000000 .*there: {version}"):
        train(store, TrainOptions(resume="quick-00000000"))
    assert not train(store, TrainOptions(resume=version)).already
    assert train(store, TrainOptions(resume=version)).already


def killed(*_: object) -> None:
    raise Interrupted("killed")


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: asked["recipe"].pop("label_smoothing"),
        lambda asked: asked["recipe"]["distortion"].pop("grid"),
        lambda asked: asked["recipe"].update(from_the_future=1),
        lambda asked: asked["split"].update(salt="another"),
        lambda asked: asked.pop("seed"),
    ],
)
def test_a_training_of_another_digitrec_is_refused(
    new_store: Callable[[str], Store], change: Callable[[dict[str, Any]], object]
) -> None:
    """Its numbers, completed with ours, would silently be another training under another name."""
    store, version = new_store("store"), "quick-0123abcd"
    asked = copy.deepcopy(make_plan("quick", 0, asked_datasets(store, QUICK)).asked)
    change(asked)
    put_if_absent(store, f"{training_folder(version)}/request.json", json.dumps({"asked": asked}).encode())
    with pytest.raises(UsageError, match=r"begun by another digitrec, .*: train anew"):
        train(store, TrainOptions(resume=version))
    assert [path.name for path in Path(full(store, "_training")).iterdir()] == [version]


def test_killed_after_it_stopped_early(new_store: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of patience, but not yet sealed: the next run seals the same, without one epoch more."""
    impatient = replace(TINY.recipe, epochs=40, patience_epochs=1)
    monkeypatch.setattr(plan, "recipe_for", lambda preset, rows: impatient)
    store, undisturbed = new_store("killed"), new_store("left-alone")
    with monkeypatch.context() as patch:
        patch.setattr(run, "seal", killed)
        with pytest.raises(Interrupted):
            train(store, QUICK)
    steps: list[Step] = []
    report = train(store, QUICK, progress=steps.append)
    assert steps == []
    assert report.epochs < 40
    assert differing(contents(report.folder), contents(train(undisturbed, QUICK).folder)) == set()


def test_a_damaged_request_is_named(new_store: Callable[[str], Store]) -> None:
    """What was asked for cannot be guessed."""
    store = new_store("store")
    version = interrupted(store, 2)
    Path(full(store, training_folder(version)), "request.json").write_text("{")
    with pytest.raises(Corrupt, match=r"request\.json is damaged"):
        train(store, TrainOptions(resume=version))


def test_a_store_can_be_moved_between_kill_and_resume(
    new_store: Callable[[str], Store], left_alone: dict[str, bytes], tmp_path: Path
) -> None:
    """Checkpoints name no folder."""
    version = interrupted(new_store("here"), 4)
    (tmp_path / "here").rename(tmp_path / "there")
    report = train(Store.at(tmp_path / "there"), TrainOptions(resume=version))
    assert differing(contents(report.folder), left_alone) == set()


def test_training_runs_in_any_thread(new_store: Callable[[str], Store], left_alone: dict[str, bytes]) -> None:
    """Prefect may run a flow off the main thread, where no signal handler can be set."""
    reports: list[TrainReport] = []
    store = new_store("threaded")
    thread = threading.Thread(target=lambda: reports.append(train(store, QUICK)))
    thread.start()
    thread.join()
    assert differing(contents(reports[0].folder), left_alone) == set()
