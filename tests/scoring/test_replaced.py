"""A dataset or a model version that is removed and made anew under its name: what was scored before gives way."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog import leases
from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import Manifest, check_file, find_manifest, read_manifest
from digitrec.catalog.publish import publish
from digitrec.catalog.reader import read_predictions
from digitrec.catalog.store import Store
from digitrec.errors import StorageFailed, TryAgain
from digitrec.options import ScoreOptions
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.executors import Execution
from digitrec.scoring.replaced import set_aside
from digitrec.scoring.request import Task
from digitrec.scoring.run import score, score_all
from digitrec.settings import Settings
from digitrec.storage.faulty import Verb
from digitrec.verify import verify
from tests.places import full
from tests.scoring.making import Shape, make_dataset, make_images, make_model, make_network, settings_for
from tests.scoring.test_run import FOLDER, NIGHT
from tests.scoring.watched import OneByOne, before_call, in_memory, watched


def replace_night(store: Store, rows: int = 30, seed: int = 5) -> Manifest:
    """Remove dataset `night` and make another of that name."""
    shutil.rmtree(full(store, "datasets/night"))
    return make_dataset(store, "night", make_images(rows, seed))


def set_aside_in(store: Store) -> list[Path]:
    return sorted(path.parent for path in Path(full(store, "_replaced")).rglob("manifest.json"))


@pytest.mark.parametrize("options", [ScoreOptions(), NIGHT])
def test_what_is_under_the_name_now_is_scored(ready: Store, settings: Settings, options: ScoreOptions) -> None:
    """By the scheduled run and by name; the earlier predictions are kept elsewhere, whole, and that is said."""
    before = Path(score(ready, NIGHT, settings).datasets[0].folder, "manifest.json").read_bytes()
    replace_night(ready)
    report = score(ready, options, settings)
    assert [(scored.rows, scored.already) for scored in report.datasets] == [(30, False)]
    assert len(read_predictions(full(ready, FOLDER))) == 30
    (kept,) = set_aside_in(ready)
    assert (kept / "manifest.json").read_bytes() == before
    assert len(list(kept.glob("part-*"))) == 3
    assert str(kept) in "\n".join(report.lines())
    assert verify(ready).predictions == 1
    assert score(ready, ScoreOptions(), settings).datasets == ()


def test_all_that_was_made_from_what_is_gone_is_set_aside(ready: Store, settings: Settings) -> None:
    """Of every model version and variant: nothing stays that says something about other images."""
    score(ready, NIGHT, settings)
    score(ready, ScoreOptions(dataset="night", probabilities=True), settings)
    replace_night(ready)
    score(ready, ScoreOptions(), settings)
    assert len(set_aside_in(ready)) == 2
    left = {path.parent for path in Path(full(ready, "predictions/night")).rglob("*") if path.is_file()}
    assert left == {Path(full(ready, FOLDER)), Path(full(ready, f"{FOLDER}/runs"))}
    verify(ready)


def test_there_and_back_again(ready: Store, settings: Settings) -> None:
    """The same two states in turn, again and again: each time the one that is there is scored. What is set aside is
    named by its digest, so the same predictions lie there once."""
    for turn in range(5):
        replace_night(ready, rows=20 + turn % 2, seed=turn % 2)
        (scored,) = score(ready, ScoreOptions(), settings).datasets
        assert scored.rows == 20 + turn % 2
    assert len(set_aside_in(ready)) == 2


def test_the_same_content_again_is_nothing_new(ready: Store, settings: Settings) -> None:
    """Removed and made anew from the same rows, a dataset is what it was: its predictions stand."""
    replace_night(ready)
    score(ready, ScoreOptions(), settings)
    replace_night(ready)
    assert score(ready, ScoreOptions(), settings).datasets == ()
    assert set_aside_in(ready) == []


def test_a_model_version_that_is_made_anew(ready: Store, settings: Settings) -> None:
    """Predictions by what it was before do not stand in its way; those by a version that is gone stay."""
    score(ready, NIGHT, settings)
    make_model(ready, "quick-00000002", make_network(seed=2))
    score(ready, NIGHT, settings)
    for version in ("quick-00000001", "quick-00000002"):
        shutil.rmtree(full(ready, f"models/{version}"))
    make_model(ready, "quick-00000002", make_network(seed=3))
    (scored,) = score(ready, NIGHT, settings).datasets
    assert (scored.version, scored.already) == ("quick-00000002", False)
    assert sorted(path.name for path in Path(full(ready, "predictions/night")).iterdir()) == [
        "quick-00000001.fp32",
        "quick-00000002.fp32",
    ]


def test_many_at_once_set_aside_once(ready: Store, settings: Settings) -> None:
    """Eight runs meet the same stale predictions: one takes them away; what is published meanwhile stays."""
    score(ready, NIGHT, settings)
    dataset = replace_night(ready)
    barrier = threading.Barrier(8)

    def meet(_: int) -> int:
        barrier.wait()
        notes = set_aside(ready, dataset)
        publish(ready, new)
        return len(notes)

    asked = {"dataset": "night", "dataset_digest": dataset.digest, "model": "gone", "model_digest": ""}
    new = Manifest("predictions", "night/quick-00000001.fp32", asked, (), facts={})
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(meet, range(8))) == 1
    assert len(set_aside_in(ready)) == 1
    found = find_manifest(ready, FOLDER)
    assert found is not None
    assert found.digest == new.digest


def test_who_comes_late_takes_nothing_away(ready: Store, settings: Settings) -> None:
    """A run that still knows the dataset as it was must not take the predictions of what is there for stale."""
    old = catalog.dataset(ready, "night")
    replace_night(ready)
    score(ready, NIGHT, settings)
    with pytest.raises(TryAgain, match="night was replaced"):
        set_aside(ready, old)
    assert len(read_predictions(full(ready, FOLDER))) == 30
    assert set_aside_in(ready) == []


@pytest.mark.parametrize("gone", [True, False])
def test_replaced_while_it_was_scored(ready: Store, settings: Settings, gone: bool) -> None:
    """Nothing is published of rows that are not there any more; the next run scores what is."""

    def meddled(task: Task) -> Outcome:
        outcome = score_partition(task)
        if task.partition.index == 2:
            replace_night(ready)
            if gone:
                shutil.rmtree(full(ready, "datasets/night"))
        return outcome

    report = score_all(ready, NIGHT, settings, Execution(processes=False, compute=meddled))
    with pytest.raises(TryAgain, match=f"night was {'removed' if gone else 'replaced'} while it was scored"):
        report.raise_if_failed()
    assert not Path(full(ready, f"{FOLDER}/manifest.json")).exists()
    if not gone:
        assert score(ready, ScoreOptions(), settings).datasets[0].rows == 30
        verify(ready)


def test_only_what_decides_the_rows_is_in_the_request(ready: Store, settings: Settings) -> None:
    """Asked again with another threshold, what is published is counted anew: nothing is computed, nothing refused."""
    (first,) = score(ready, NIGHT, settings).datasets
    confidence = read_predictions(first.folder)["confidence"].to_numpy()
    for threshold in (0.8, 0.333, 1.0):
        report = score(ready, NIGHT.model_copy(update={"unsure_below": threshold}), settings)
        (again,) = report.datasets
        assert (again.already, again.unsure) == (True, int((confidence < np.float32(threshold)).sum()))
        assert f", below {threshold:g})" in report.lines()[0]


@pytest.mark.parametrize("fault", ["fail_before", "fail_after"])
def test_a_crash_leaves_them_published_or_set_aside(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whichever call it happens, the stale predictions are whole in one of the two places; the next attempt ends as
    if nothing had been."""
    monkeypatch.setattr(leases, "EXPIRES_S", 0.05)
    monkeypatch.setattr(leases, "LOOK_S", 0.01)
    for place in count(1):
        store = in_memory()
        make_model(store)
        make_dataset(store, "night", make_images(30), Shape(((10,), (20,))))
        score(store, NIGHT, settings_for(store))
        stale = read_manifest(store, FOLDER)
        target = f"_replaced/{FOLDER}/{stale.digest[:16]}"
        store.storage.delete("datasets/night/manifest.json")
        dataset = make_dataset(store, "night", make_images(5))
        calls = count(1)
        faulty, _ = watched(store, **{fault: lambda *_, calls=calls, place=place: next(calls) == place})
        crashed = False
        try:
            set_aside(faulty, dataset)
        except StorageFailed:
            crashed = True
        assert is_whole(store, FOLDER, stale) or is_whole(store, target, stale)
        set_aside(store, dataset)
        assert find_manifest(store, FOLDER) is None
        assert is_whole(store, target, stale)
        if not crashed and next(calls) <= place:
            break
    assert place > 20


def is_whole(store: Store, folder: str, stale: Manifest) -> bool:
    """Whether these predictions are published in a folder, with all their files."""
    manifest = find_manifest(store, folder)
    if manifest is None or manifest.digest != stale.digest:
        return False
    for file in manifest.files:
        check_file(store, f"{folder}/{file.path}", file)
    return True


def test_what_is_published_at_the_last_moment_is_not_taken_away() -> None:
    """A process that was paused before it could delete the stale manifest comes back when another one stands there."""
    inner = in_memory()
    make_model(inner)
    make_dataset(inner, "night", make_images(30))
    score(inner, NIGHT, settings_for(inner))
    inner.storage.delete("datasets/night/manifest.json")
    dataset = make_dataset(inner, "night", make_images(5))

    def overtake() -> None:
        if not overtaken:
            overtaken.append(True)
            inner.storage.delete(f"{FOLDER}/manifest.json")
            score_all(inner, NIGHT, settings_for(inner), Execution(executor=OneByOne()))

    overtaken: list[bool] = []
    store, _ = watched(inner, delay_s=before_call("delete", f"{FOLDER}/manifest.json", overtake))
    assert set_aside(store, dataset) == []
    assert read_manifest(inner, FOLDER).rows == 5
    verify(inner)


@pytest.mark.parametrize("verb", ["copy", "put_if_absent"])
def test_a_process_that_was_paused_leaves_what_was_set_aside_alone(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lost its lease; another process has set the stale predictions aside and published new ones: of these nothing
    gets among the others."""
    monkeypatch.setattr(leases, "EXPIRES_S", 0.05)
    inner = in_memory()
    make_model(inner)
    make_dataset(inner, "night", make_images(30))
    score(inner, NIGHT, settings_for(inner))
    stale, submission = read_manifest(inner, FOLDER), inner.storage.read(f"{FOLDER}/submission.csv")
    inner.storage.delete("datasets/night/manifest.json")
    dataset = make_dataset(inner, "night", make_images(5))
    target = f"_replaced/{FOLDER}/{stale.digest[:16]}"
    overtaken: list[bool] = []

    def overtake(called: Verb, key: str) -> float:
        if called == verb and key.startswith(target) and not overtaken:
            overtaken.append(True)
            score(inner, NIGHT, settings_for(inner))
        return 0

    store, _ = watched(inner, delay_s=overtake)
    assert set_aside(store, dataset) == []
    assert overtaken
    assert is_whole(inner, target, stale)
    assert inner.storage.read(f"{target}/submission.csv") == submission
    assert read_manifest(inner, FOLDER).rows == 5
    verify(inner)
