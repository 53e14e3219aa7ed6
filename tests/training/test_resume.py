"""A training that is killed or interrupted goes on, and ends as if nothing had happened."""

import copy
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitrec import storage
from digitrec.catalog import listing as catalog
from digitrec.catalog.layout import MANIFEST, training_folder
from digitrec.catalog.manifest import read_file
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, Interrupted, NoInput, UsageError
from digitrec.options import TrainOptions
from digitrec.progress import Step
from digitrec.storage.memory import MemoryStorage
from digitrec.training import plan, run, saving
from digitrec.training.plan import asked_datasets, make_plan
from digitrec.training.run import TrainReport
from digitrec.training.saving import Checkpoint
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
    assert catalog.listing(store, "model") == []
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


@pytest.fixture
def one_checkpoint_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No epoch goes by while a checkpoint is being saved."""

    def offer(saver: saving._Saver, checkpoint: Checkpoint) -> None:
        saver._save(checkpoint)

    monkeypatch.setattr(saving._Saver, "offer", offer)


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
    assert catalog.listing(store, "model") == []
    assert differing(contents(train(store, QUICK).folder), left_alone) == set()


def checkpoint_files(store: Store, version: str) -> list[Path]:
    """Where the checkpoints of a training lie, oldest first."""
    found = Path(full(store, training_folder(version))).glob("*/train/*.ckpt")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def test_a_damaged_checkpoint_is_not_used(
    new_store: Callable[[str], Store], left_alone: dict[str, bytes], one_checkpoint_an_epoch: None
) -> None:
    """It is named, the one before, which verifies, is used, and the end is the same."""
    store = new_store("damaged")
    version = interrupted(store, 5)
    newest = checkpoint_files(store, version)[-1]
    damage(newest)
    steps: list[Step] = []
    report = train(store, TrainOptions(resume=version), progress=steps.append)
    assert re.search(
        rf"{newest.name} is damaged: .*; going on from an older checkpoint, of epoch 3$", report.lines()[-1]
    )
    assert [step.done for step in steps] == [4, 5]
    assert differing(contents(report.folder), left_alone) == set()


def test_if_all_are_damaged_it_begins_anew(new_store: Callable[[str], Store], left_alone: dict[str, bytes]) -> None:
    """Each is named once; the end is the same."""
    store = new_store("damaged")
    version = interrupted(store, 4)
    paths = checkpoint_files(store, version)
    for path in paths:
        damage(path)
    report = train(store, TrainOptions(resume=version))
    for path in paths:
        assert sum(path.name in line and line.endswith("; training begins anew") for line in report.lines()) == 1
    assert differing(contents(report.folder), left_alone) == set()


def test_resuming_what_is_done_or_unknown(new_store: Callable[[str], Store]) -> None:
    """A finished version is already done; an unknown one is NoInput and names those that can be resumed."""
    store = new_store("store")
    version = interrupted(store, 2)
    store.storage.put("_training/no-request/00000001/train/00001.json", b"")
    with pytest.raises(NoInput, match=f"no interrupted training quick-00000000 .*there: {version}$"):
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
    request = json.dumps({"format": FORMAT, "asked": asked}).encode()
    store.storage.put(f"{training_folder(version)}/request.json", request)
    with pytest.raises(UsageError, match=r"begun by another digitrec, .*: train anew"):
        train(store, TrainOptions(resume=version))
    assert store.storage.list("_training") == [f"{version}/"]


def test_killed_after_it_stopped_early(new_store: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of patience, but not yet published: the next run publishes the same, without one epoch more."""
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
    for damaged in (b"{", b'{"format": 3}', b'{"format": 3, "asked": "quick"}'):
        store.storage.put(f"{training_folder(version)}/request.json", damaged)
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


def test_another_machine_goes_on(
    left_alone: dict[str, bytes], digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine nothing is needed but the store: with another folder for temporary files, and nothing of the first
    one left, the rest of the epochs ends at the same bytes."""
    storage.register(memory := MemoryStorage())
    store = Store.at(memory.url)
    publish_rows(store, "sample", digits[0][:600], digits[1][:600])
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "first"))
    version = interrupted(store, 4)
    assert list((tmp_path / "first").iterdir()) == []
    (tmp_path / "first").rmdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "second"))
    steps: list[Step] = []
    report = train(store, TrainOptions(resume=version), progress=steps.append)
    assert [step.done for step in steps] == [4, 5]
    assert memory.list("_training") == []
    manifest = catalog.model(store, report.version)
    assert {file.path: read_file(store, manifest, file.name) for file in manifest.files} == {
        path: data for path, data in left_alone.items() if path != MANIFEST
    }


def test_training_runs_in_any_thread(new_store: Callable[[str], Store], left_alone: dict[str, bytes]) -> None:
    """Prefect may run a flow off the main thread, where no signal handler can be set."""
    reports: list[TrainReport] = []
    store = new_store("threaded")
    thread = threading.Thread(target=lambda: reports.append(train(store, QUICK)))
    thread.start()
    thread.join()
    assert differing(contents(reports[0].folder), left_alone) == set()
