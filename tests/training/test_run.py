"""train(): what it makes, what it refuses, and that asking twice changes nothing."""

import json
import logging
import os
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from digitrec import storage
from digitrec.catalog import leases
from digitrec.catalog import listing as catalog
from digitrec.catalog.champion import promote
from digitrec.catalog.layout import model_folder, plain_name
from digitrec.catalog.manifest import Manifest, check_file
from digitrec.catalog.publish import publish, upload
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import sweep_store
from digitrec.errors import BadData, Corrupt, NoInput
from digitrec.network import Architecture, load_network
from digitrec.options import TrainOptions
from digitrec.progress import Step
from digitrec.storage.faulty import FaultyStorage
from digitrec.training.run import lease_name, plan_of, request_key, sweep_given_up
from tests.places import full
from tests.training.conftest import Publish, champion_of, contents, file_of, publish_rows, train

QUICK = TrainOptions(preset="quick")
Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def sample(publish_dataset: Publish, digits: Digits) -> str:
    images, labels = digits
    return publish_dataset("sample", images[:1000], labels[:1000]).name


@pytest.mark.usefixtures("sample")
def test_a_model_version_is_sealed_with_everything_the_contract_names(store: Store) -> None:
    """Weights, card, digests of training rows, metrics, plots; no checkpoint, which nobody reads; nothing is left."""
    report = train(store, QUICK)
    manifest = catalog.model(store, report.version)
    for file in manifest.files:
        check_file(store, manifest.key(file), file)
    assert sorted(plain_name(path) for path in contents(report.folder)) == sorted(
        [
            "card.json",
            "card.md",
            "engine-int8.onnx",
            "manifest.json",
            "metrics.csv",
            "confusion.png",
            "learning-curves.png",
            "reliability.png",
            "worst-mistakes.png",
            "rows.bin",
            "weights.safetensors",
        ]
    )
    assert not [path for path in Path(full(store, "_training")).rglob("*") if path.is_file()]
    assert not list(Path(full(store, "_staging")).iterdir())


@pytest.mark.usefixtures("sample")
def test_the_network_rebuilds_itself_from_card_and_weights(store: Store, digits: Digits) -> None:
    """Plain numbers and safetensors are enough, and the card's accuracy is what the rebuilt network reaches."""
    report = train(store, QUICK)
    card = json.loads(file_of(store, report.version, "card.json"))
    weights = file_of(store, report.version, "weights.safetensors")
    network = load_network(Architecture.from_json(card["architecture"]), weights)
    with torch.inference_mode():
        answers = network(torch.from_numpy(digits[0][:1000])).argmax(1).numpy()
    assert card["metrics"]["accuracy"] == report.accuracy
    assert 0.25 <= card["temperature"] <= 4
    assert (answers == digits[1][:1000]).mean() > 0.5


@pytest.mark.usefixtures("sample")
def test_the_same_training_asked_twice_is_already_done(store: Store) -> None:
    """The second time nothing is computed, nothing is written, and the report says so."""
    first = train(store, QUICK)
    before = contents(first.folder)
    steps: list[Step] = []
    second = train(store, QUICK, progress=steps.append)
    assert (first.already, second.already) == (False, True)
    assert not steps
    assert contents(first.folder) == before
    assert second.version == first.version
    assert "was trained before" in second.lines()[0]


def test_two_stores_train_to_the_same_bytes(tmp_path: Path, publish_dataset: Publish, digits: Digits) -> None:
    """The request decides every byte of a model version, its manifest, pictures included."""
    folders = []
    for name in ("a", "b"):
        store = Store.at(tmp_path / name)
        publish_rows(store, "sample", digits[0][:600], digits[1][:600])
        folders.append(train(store, QUICK).folder)
    a, b = map(contents, folders)
    assert {name for name in a if a[name] != b.get(name)} == set()


@pytest.mark.usefixtures("sample")
def test_seed_preset_and_data_make_another_version(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """Another seed or other data is another version; the order in which datasets are named is not."""
    publish_dataset("more", digits[0][1000:1500], digits[1][1000:1500])
    versions = [
        train(store, TrainOptions(preset="quick", dataset=names, seed=seed)).version
        for names, seed in [(("sample",), 0), (("sample",), 1), (("sample", "more"), 0), (("more", "sample"), 0)]
    ]
    assert len(set(versions)) == 3
    assert versions[2] == versions[3]
    assert all(version.startswith("quick-") for version in versions)


@pytest.mark.usefixtures("sample")
def test_each_epoch_is_one_step_and_one_line(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Progress counts epochs and carries accuracy and loss; the log has a line for each."""
    steps: list[Step] = []
    with caplog.at_level(logging.INFO, "digitrec.training"):
        train(store, QUICK, progress=steps.append)
    assert [(step.stage, step.done, step.total, step.unit) for step in steps] == [
        ("train", epoch, 5, "epochs") for epoch in range(1, 6)
    ]
    assert set(steps[0].facts) == {"validation accuracy", "loss"}
    assert sum(record.message.startswith("train: epoch ") for record in caplog.records) == 5


@pytest.mark.usefixtures("sample")
def test_lightning_is_not_heard(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No banner, tip or warning reaches the terminal, and no lightning_logs folder is left anywhere."""
    monkeypatch.chdir(tmp_path)
    # Our own log may be heard: Prefect, if a test before has used it, shows it on the terminal.
    monkeypatch.setattr(logging.getLogger("digitrec"), "propagate", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(store, QUICK)
    out, err = capfd.readouterr()
    assert (out, err, caught) == ("", "", [])
    assert not list(tmp_path.rglob("lightning_logs"))


@pytest.mark.usefixtures("sample")
def test_the_caller_keeps_his_torch(store: Store) -> None:
    """Threads, random state and determinism are as they were before."""
    torch.manual_seed(7)
    before = torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(store, QUICK)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


def test_without_a_labelled_dataset_it_says_what_to_do(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """An empty store, or one with unlabelled data only, is NoInput."""
    with pytest.raises(NoInput, match="digitrec ingest"):
        train(store, QUICK)
    publish_dataset("unlabelled", digits[0][:10])
    with pytest.raises(NoInput, match="digitrec ingest"):
        train(store, QUICK)
    with pytest.raises(NoInput, match="no dataset elsewhere"):
        train(store, TrainOptions(dataset=("elsewhere",)))


def test_an_unlabelled_dataset_that_is_named_is_refused(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """It has nothing to learn from."""
    publish_dataset("unlabelled", digits[0][:10])
    with pytest.raises(BadData, match="unlabelled has no labels"):
        train(store, TrainOptions(dataset=("unlabelled",)))


def test_too_few_rows_are_refused(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """The message counts what is there and what is needed, and no working folder is left."""
    publish_dataset("few", digits[0][:60], digits[1][:60])
    with pytest.raises(BadData, match=r"too little to train on: 60 rows.*at least 100 .* 10 for validation"):
        train(store, QUICK)
    assert not Path(full(store, "_training")).exists()


def test_one_class_is_refused(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """A classifier needs two classes."""
    publish_dataset("sevens", digits[0][:500], np.full(500, 7, np.uint8))
    with pytest.raises(BadData, match="all training rows are labelled 7"):
        train(store, QUICK)


def test_missing_classes_are_said(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """A model that never saw a 3 is sealed, with a warning."""
    images, labels = digits[0][:800], digits[1][:800]
    publish_dataset("no-threes", images[labels != 3], labels[labels != 3])
    assert "no row is labelled 3" in train(store, QUICK).lines()[-1]


def test_a_damaged_shard_is_named(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """A flipped bit in the training data is found before it is learned from."""
    manifest = publish_dataset("sample", digits[0][:500], digits[1][:500])
    shard = Path(full(store, manifest.key(manifest.files[0])))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(Corrupt, match="shard-00000"):
        train(store, QUICK)


@pytest.mark.usefixtures("sample")
def test_the_first_model_becomes_champion(store: Store) -> None:
    """With no champion there is nothing to compare with."""
    report = train(store, QUICK)
    assert report.promoted
    assert champion_of(store) == report.version


@pytest.mark.usefixtures("sample")
def test_too_few_unseen_rows_leave_the_champion(store: Store) -> None:
    """1,000 rows hold some 80 for validation: too few to compare on. The model is sealed, and the report says why."""
    first = train(store, QUICK)
    second = train(store, TrainOptions(preset="quick", seed=1))
    assert not second.promoted
    assert "200 are needed" in second.why
    assert champion_of(store) == first.version


@pytest.mark.usefixtures("sample")
def test_promotion_can_be_forced_or_forbidden(store: Store) -> None:
    """--no-promote never promotes; --promote always does, also for a version that was trained before."""
    seed = TrainOptions(preset="quick", seed=1)
    assert not train(store, QUICK.model_copy(update={"promote": False})).promoted
    assert champion_of(store) is None
    first = train(store, seed.model_copy(update={"promote": True}))
    again = train(store, QUICK.model_copy(update={"promote": True}))
    assert (first.promoted, again.promoted, again.already) == (True, True, True)
    assert champion_of(store) == again.version


@pytest.mark.usefixtures("sample")
def test_a_replaced_champion_does_not_come_back_by_itself(store: Store) -> None:
    """After a person replaced a version, asking for the same training again does not overrule that person."""
    first = train(store, QUICK)
    second = train(store, TrainOptions(preset="quick", seed=1))
    promote(store, second.version, "a person's choice")
    assert "was replaced" in train(store, QUICK).why
    assert champion_of(store) == second.version
    assert first.version != second.version


@pytest.mark.usefixtures("sample")
def test_who_comes_second_reports_what_is_published(store: Store) -> None:
    """Another machine publishes the same training meanwhile, with other numbers: those are reported, none are lost."""
    version = plan_of(store, QUICK).version

    def publish_first(step: Step) -> None:
        if step.done == step.total:
            with store.storage.scratch() as scratch:
                card = upload(store, model_folder(version), scratch.write("card", b"{}"), "card.json")
            theirs = {"accuracy": 0.123, "validation_rows": 4, "training_rows": 5, "epochs": 6}
            assert publish(store, Manifest("model", version, asked, (card,), facts=theirs)).created

    asked = plan_of(store, QUICK).asked
    report = train(store, QUICK.model_copy(update={"promote": False}), publish_first)
    assert (report.version, report.accuracy, report.validation_rows, report.epochs) == (version, 0.123, 4, 6)
    assert [file.name for file in catalog.model(store, version).files] == ["card.json"]


@pytest.mark.usefixtures("sample")
def test_whoever_watches_finds_the_logs_in_the_store(store: Store) -> None:
    """For each start apart: epochs as CSV, and as TensorBoard reads them, if that is there."""
    version = train(store, QUICK).version
    assert "metrics.csv" in store.storage.list(f"logs/{version}/00000001/train/csv")
    epochs = store.storage.read(f"logs/{version}/00000001/train/csv/metrics.csv").decode().splitlines()
    assert "val_loss" in epochs[0]
    assert len(epochs) > 5
    tensorboard = store.storage.list(f"logs/{version}/00000001/train/tensorboard")
    assert any("tfevents" in name for name in tensorboard) == bool(find_spec("tensorboard"))
    assert all("checkpoint" not in name for name in store.storage.list(f"logs/{version}/00000001/train"))


@pytest.mark.usefixtures("sample")
def test_a_note_that_fails_after_the_publication_makes_no_failure_of_it(store: Store) -> None:
    """The version is published and becomes champion; that the note on the run is missing is a warning."""
    faulty = FaultyStorage(store.storage, fail_before=lambda verb, key: verb == "put" and "/runs/" in key)
    report = train(Store.at(storage.register(faulty).url), QUICK)
    assert report.promoted
    assert "the note on this run could not be written" in " ".join(report.warnings)
    assert catalog.model(store, report.version)


@pytest.mark.usefixtures("sample")
def test_a_training_that_is_resumed_late_can_be_resumed_again(store: Store) -> None:
    """Who sweeps the whole store meanwhile leaves what `--resume` reads, however old that was."""
    key = request_key(plan_of(store, QUICK).version)
    store.storage.put(key, b"{}")
    old = time.time() - 31 * 86_400
    os.utime(full(store, key), (old, old))
    there = []

    def sweep(_: Step) -> None:
        sweep_store(store)
        there.append(store.storage.exists(key))

    train(store, QUICK, progress=sweep)
    assert there
    assert all(there)


def test_a_damaged_lease_keeps_its_own_training_only(store: Store) -> None:
    """Who holds it is not known, so its training stays; the others are swept."""
    old = time.time() - 31 * 86_400
    for name in ("a", "b"):
        store.storage.put(request_key(name), b"{}")
        os.utime(full(store, request_key(name)), (old, old))
    store.storage.put(f"_leases/{lease_name('a')}/00000001.json", b"damaged")
    sweep_given_up(store)
    assert [store.storage.exists(request_key(name)) for name in ("a", "b")] == [True, False]


@pytest.mark.usefixtures("sample")
def test_what_was_given_up_is_swept_after_thirty_days(store: Store) -> None:
    """Checkpoints and logs of other versions, by the youngest of their files; a live training is spared."""
    old, young = time.time() - 31 * 86_400, time.time() - 29 * 86_400
    for name, age in (("given-up", old), ("resumed", old), ("alive", old), ("recent", young)):
        for key in (f"_training/{name}/request.json", f"_training/{name}/00000001/train/00001.json", f"logs/{name}/a"):
            store.storage.put(key, b"{}")
            os.utime(full(store, key), (age, age))
    store.storage.put("_training/resumed/00000002/train/00001.json", b"{}")
    with leases.hold(store, lease_name("alive")):
        report = train(store, QUICK)
    left = {name for name in ("given-up", "resumed", "alive", "recent") if store.storage.exists(request_key(name))}
    assert left == {"resumed", "alive", "recent"}
    logs = [name for name in ("given-up", "resumed", "recent") if store.storage.exists(f"logs/{name}/a")]
    assert logs == ["recent"]
    assert store.storage.list(f"logs/{report.version}")
