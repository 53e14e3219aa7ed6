"""One entry of a store that cannot be read stops no other, and is named, whatever the command."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

import digitrec.ingest.landing  # imported as ourselves: somebody else may not read our home folder
import digitrec.scoring.run
import digitrec.training.run  # noqa: F401
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from tests.cli.conftest import Command
from tests.places import full
from tests.scoring.making import make_dataset, make_images, make_model

NOBODY = 65534


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that everybody may use, with a champion and datasets `good` and `train`; we are one of many users."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        store = Store.at(f"{folder}/store")
        Path(store.url).mkdir()
        Path(store.url).chmod(0o777)
        make_model(store)
        make_dataset(store, "good", make_images(5))
        make_dataset(store, "train", make_images(8), labels=np.arange(8, dtype=np.uint8))
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HOME", folder)
        yield store
        if os.geteuid() == NOBODY:
            os.seteuid(0)


def become_somebody_else() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    os.seteuid(NOBODY)


def spoil(store: Store, how: str) -> str:
    """Make an entry `bad` of a kind that cannot be read; the word that names it."""
    folder = Path(full(store, "datasets/bad"))
    make_dataset(store, "bad", make_images(3), labels=np.zeros(3, np.uint8) if how == "labelled" else None)
    manifest = folder / "manifest.json"
    if how == "private folder":
        folder.chmod(0o700)
    elif how == "private manifest":
        manifest.chmod(0o600)
    elif how == "damaged":
        manifest.write_text("{}")
    elif how == "newer":
        manifest.write_text(manifest.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}'))
    elif how == "a loop":
        manifest.unlink()
        manifest.symlink_to("manifest.json")
    elif how == "copied":
        shutil.rmtree(folder)
        shutil.copytree(full(store, "datasets/good"), folder)
    if how.startswith("private"):
        become_somebody_else()
    return "datasets/bad"


WAYS = ["private folder", "private manifest", "damaged", "newer", "a loop", "copied"]


@pytest.mark.parametrize("how", WAYS)
def test_every_command_goes_on_without_it(digitrec: Command, shared: Store, how: str) -> None:
    """`list` shows it with the reason; the scheduled run scores the others, names it and fails; training says what it
    leaves out."""
    bad = spoil(shared, how)
    listed = digitrec("list", "datasets")
    assert listed.code == 0, listed.err
    assert [line for line in listed.out.splitlines() if "UNREADABLE" in line and bad in line]
    assert "good" in listed.out
    scored = digitrec("score")
    assert scored.code in {74, 78}, scored.err
    assert "a bug in digitrec" not in scored.err
    assert bad in scored.err
    assert list(Path(full(shared, "predictions/good")).iterdir())
    trained = digitrec("train", "--preset", "quick")
    assert [line for line in trained.err.splitlines() if "left out: " in line and bad in line]
    assert trained.code == 65, trained.err  # too few rows: it took the dataset that it could read


@pytest.mark.parametrize("how", [how for how in WAYS if how != "copied"])  # whole, though of no use where it lies
def test_verify_names_it_and_looks_at_the_others(digitrec: Command, shared: Store, how: str) -> None:
    """Exit 74 with its name, and with every other problem that there is."""
    shard = next(Path(full(shared, "datasets/train")).glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    bad = spoil(shared, how)
    ended = digitrec("verify")
    assert ended.code == 74
    assert bad in ended.err
    assert shard.name in ended.err


def test_predictions_that_nobody_else_may_list(digitrec: Command, shared: Store) -> None:
    """A private folder of predictions is named by whoever looks into it; what is not in it is scored."""
    assert digitrec("score").code == 0
    make_dataset(shared, "new", make_images(4))
    Path(full(shared, "predictions/good")).chmod(0o700)
    become_somebody_else()
    listed = digitrec("list", "predictions")
    assert "UNREADABLE" in listed.out
    assert digitrec("score").code == 0
    assert list(Path(full(shared, "predictions/new")).iterdir())
    for asked in (["score", "--dataset", "good"], ["score", "--rescore"], ["verify"]):
        ended = digitrec(*asked)
        assert (ended.code, "predictions/good" in ended.err) == (74, True), ended.err


def test_a_shard_that_cannot_be_read_is_storage_not_a_bug(digitrec: Command, shared: Store) -> None:
    """Exit 74 with the file; the other dataset is published."""
    make_dataset(shared, "bad", make_images(3))
    shard = next(Path(full(shared, "datasets/bad")).glob("shard-*"))
    shard.chmod(0o600)
    become_somebody_else()
    ended = digitrec("score")
    assert (ended.code, shard.name in ended.err) == (74, True), ended.err
    assert "check the permissions" in ended.err
    assert list(Path(full(shared, "predictions/good")).iterdir())


def test_a_log_of_champions_that_cannot_be_read_hides_no_model(digitrec: Command, shared: Store) -> None:
    """`list models` lists them, and says that the champion is not known."""
    Path(full(shared, "models/champion/00001.json")).write_text("{")
    ended = digitrec("list", "models")
    assert ended.code == 0, ended.err
    assert "quick-00000001" in ended.out
    assert "00001.json" in ended.out


def test_what_cannot_be_looked_at_is_not_taken_for_missing(digitrec: Command, shared: Store) -> None:
    """A model version in a private folder: exit 74 and what to do, not "no model version"."""
    make_model(shared, "quick-00000002")
    Path(full(shared, "models/quick-00000001")).chmod(0o700)
    become_somebody_else()
    for asked in (["promote"], ["models", "show"], ["score", "--dataset", "good", "--model"]):
        ended = digitrec(*asked, "quick-00000001")
        assert (ended.code, "check the permissions" in ended.err) == (74, True), ended.err
