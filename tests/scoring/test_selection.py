"""Which datasets a run scores, and that finding them costs nothing for what was ever published."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog.layout import pending_key
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.pending import noted, put_note
from digitrec.catalog.publish import publish
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import GRACE_S
from digitrec.errors import Corrupt
from digitrec.options import ScoreOptions
from digitrec.scoring.executors import Execution, RefusingExecutor
from digitrec.scoring.plan import plan_scoring
from digitrec.scoring.run import score, score_all
from digitrec.settings import Settings
from tests.places import full
from tests.scoring.making import make_dataset, make_images, make_model, settings_for
from tests.scoring.test_run import FOLDER, NIGHT
from tests.scoring.watched import OneByOne, before_call, in_memory, watched

REFUSING = Execution(executor=RefusingExecutor())


def publish_scored(store: Store, name: str) -> None:
    """A dataset without rows, and its predictions."""
    facts = {"labelled": False, "keyed": False, "rejects": {}}
    dataset = publish(store, Manifest("dataset", name, {"name": name}, (), facts=facts)).manifest
    asked = {"dataset": name, "dataset_digest": dataset.digest, "model": "m", "model_digest": "", "variant": "fp32"}
    publish(store, Manifest("predictions", f"{name}/m.fp32", asked, (), facts={"keyed": False, "confidences": {}}))


def calls_of_a_run(published: int) -> Counter[str]:
    """The calls of a scheduled run that finds four notes, in a store in which so many datasets have predictions."""
    inner = in_memory()
    make_model(inner)
    for number in range(published):
        publish_scored(inner, f"old-{number}")
    make_dataset(inner, "waiting", make_images(0))
    make_dataset(inner, "labelled", make_images(2), labels=np.zeros(2, np.uint8))
    publish_scored(inner, "scored")
    for name in ("labelled", "scored", "gone"):
        put_note(inner, name)
    store, storage = watched(inner)
    report = score_all(store, ScoreOptions(), settings_for(store), REFUSING)
    assert [scored.dataset for scored in report.datasets] == ["waiting"]
    return Counter(verb for verb, _ in storage.calls)


def test_the_scheduled_run_does_not_look_at_what_is_done() -> None:
    """A thousand datasets with predictions cost no more calls than ten."""
    few, many = calls_of_a_run(10), calls_of_a_run(1000)
    assert few == many
    assert few.total() < 80


def test_a_dataset_that_is_done_is_found_by_one_read(ready: Store, settings: Settings) -> None:
    """Named again, it is looked up where its predictions are, and nowhere else."""
    score(ready, NIGHT, settings)
    store, storage = watched(ready)
    plan = plan_scoring(store, NIGHT, settings)
    assert [each.published is not None for each in plan.datasets] == [True]
    assert [call for call in storage.calls if call[1].startswith("predictions")] == [
        ("read", f"{FOLDER}/manifest.json")
    ]


def test_nothing_to_do_starts_nobody(ready: Store, settings: Settings) -> None:
    """What is done is reported, and what waits for publication published, without a worker."""
    score(ready, ScoreOptions(), settings)
    assert score_all(ready, ScoreOptions(), settings, REFUSING).datasets == ()
    (scored,) = score_all(ready, NIGHT, settings, REFUSING).datasets
    assert scored.already


def test_the_note_goes_when_the_predictions_stand(ready: Store, settings: Settings) -> None:
    """Also if the run that published them died before it could remove it."""
    assert noted(ready) == ["night"]
    score(ready, ScoreOptions(), settings)
    assert noted(ready) == []
    for options in (ScoreOptions(), NIGHT):
        put_note(ready, "night")
        score_all(ready, options, settings, REFUSING)
        assert noted(ready) == []


def test_a_failed_dataset_keeps_its_note(ready: Store, settings: Settings) -> None:
    """The next run tries again."""
    report = score_all(ready, ScoreOptions(), settings, Execution(compute=lambda _: Corrupt("rotten")))
    assert [failure.dataset for failure in report.failures] == ["night"]
    assert noted(ready) == ["night"]


def test_a_labelled_dataset_needs_no_note(ready: Store, settings: Settings) -> None:
    """Whoever put it: it is removed."""
    make_dataset(ready, "train", make_images(3), labels=np.zeros(3, np.uint8))
    put_note(ready, "train")
    assert [scored.dataset for scored in score(ready, ScoreOptions(), settings).datasets] == ["night"]
    assert noted(ready) == []


@pytest.mark.parametrize(("age_s", "left"), [(GRACE_S / 2, ["soon"]), (2 * GRACE_S, [])])
def test_a_note_without_a_dataset_waits_for_a_while(
    ready: Store, settings: Settings, age_s: float, left: list[str]
) -> None:
    """An ingest puts it before its dataset. After a week there is none to come."""
    put_note(ready, "soon")
    path = full(ready, pending_key("soon"))
    then = Path(path).stat().st_mtime - age_s
    os.utime(path, (then, then))
    score(ready, ScoreOptions(), settings)
    assert noted(ready) == left


def test_a_dataset_that_takes_the_name_meanwhile_keeps_its_note() -> None:
    """Its note is put before this run removes the one of the dataset that it has scored: it must not be lost."""
    inner = in_memory()
    make_model(inner)
    make_dataset(inner, "night", make_images(5))

    def replace() -> None:
        inner.storage.delete("datasets/night/manifest.json")
        make_dataset(inner, "night", make_images(6, seed=1))

    store, _ = watched(inner, delay_s=before_call("delete", "pending/night", replace))
    score_all(store, ScoreOptions(), settings_for(store), Execution(executor=OneByOne()))
    assert noted(inner) == ["night"]
    (scored,) = score(inner, ScoreOptions(), settings_for(inner)).datasets
    assert scored.rows == 6


def test_predictions_that_cannot_be_read_stop_no_other(ready: Store, settings: Settings) -> None:
    """Whether the dataset waits cannot be said: it is named, every time, and the others are scored."""
    make_dataset(ready, "good", make_images(5))
    ready.storage.put("predictions/night/other.fp32/manifest.json", b"{}")
    report = score_all(ready, ScoreOptions(), settings)
    assert [scored.dataset for scored in report.datasets] == ["good"]
    with pytest.raises(Corrupt, match=r"predictions/night/other\.fp32"):
        report.raise_if_failed()
    assert noted(ready) == ["night"]


def test_rescoring_looks_at_all_datasets(ready: Store, settings: Settings) -> None:
    """What an earlier version has scored has no note; it is found all the same, once for each version."""
    score(ready, ScoreOptions(), settings)
    make_model(ready, "quick-00000002")
    again = ScoreOptions(rescore=True)
    assert [scored.version for scored in score(ready, again, settings).datasets] == ["quick-00000002"]
    assert score_all(ready, again, settings, REFUSING).datasets == ()
