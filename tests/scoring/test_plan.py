"""`score --dry-run`: the plan of a run says what it would do, and making it changes nothing."""

import dataclasses
from pathlib import Path

import pytest

from digitrec.catalog import bundled
from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, NoInput
from digitrec.options import ScoreOptions
from digitrec.scoring import executors
from digitrec.scoring.compute import score_partition
from digitrec.scoring.executors import Execution
from digitrec.scoring.plan import plan_scoring
from digitrec.scoring.request import Task
from digitrec.scoring.run import score, score_all
from digitrec.settings import Settings
from tests.cli.conftest import Command, digitrec, write_csv
from tests.scoring.making import make_dataset, make_images, settings_for
from tests.scoring.test_replaced import replace_night
from tests.scoring.test_run import FOLDER, NIGHT
from tests.scoring.watched import objects, watched

__all__ = ["digitrec"]
WRITING = {"put", "put_if_absent", "upload", "copy", "touch", "delete", "scratch", "sweep_unfinished"}


def test_it_says_how_much_is_to_be_done(ready: Store, settings: Settings) -> None:
    """For each dataset rows, partitions and bytes; in all; the model, its arithmetic and who would compute."""
    lines = plan_scoring(ready, ScoreOptions(), settings).lines()
    assert lines[0].startswith("to be computed in fp32: ")
    assert lines[1].startswith("night: 1,000 rows in 3 partitions; about 0.1 MB to write into ")
    assert lines[1].endswith(FOLDER)
    assert lines[2] == "in all 1,000 rows, 3 partitions, about 0.1 MB to write"
    assert lines[3] == "model: quick-00000001 in fp32"
    assert lines[4] == "executor: 1 thread of this process, about 419 MB of memory here"
    assert lines[5:] == ["dry run: nothing was computed or published"]


def test_it_is_what_the_run_does(ready: Store, settings: Settings) -> None:
    """The same datasets, in the same order, into the same folders, in partitions that the run computes."""
    make_dataset(ready, "tiny", make_images(3))
    planned = plan_scoring(ready, ScoreOptions(), settings).report()
    done = score(ready, ScoreOptions(), settings)
    assert [(each.dataset, each.folder, each.rows) for each in planned.datasets] == [
        (each.dataset, each.folder, each.rows) for each in done.datasets
    ]
    assert done.cost
    assert sum(each.partitions for each in planned.datasets) == done.cost.partitions
    assert planned.precision == done.precision


def test_planning_changes_nothing(ready: Store, settings: Settings) -> None:
    """Whatever there is to do, nothing is written, touched or removed: with stale predictions, unneeded notes, and
    what an earlier run has left."""
    score(ready, NIGHT, settings)
    replace_night(ready)
    ready.storage.put("pending/gone", b"")
    store, storage = watched(ready)
    before = objects(ready.storage)
    plan = plan_scoring(store, ScoreOptions(), settings)
    assert [each.stale for each in plan.datasets] == [(FOLDER,)]
    assert f"  to be set aside, as it is of what had that name before: {store.address(FOLDER)}" in plan.lines()
    assert not WRITING & {verb for verb, _ in storage.calls}
    assert objects(ready.storage) == before


def test_what_is_done_is_told(ready: Store, settings: Settings) -> None:
    """Partitions of an earlier run, and predictions that stand."""
    (plan,) = plan_scoring(ready, NIGHT, settings).datasets
    score_partition(Task(plan.request, plan.partitions[1]))
    assert "night: 1,000 rows in 3 partitions, 1 of them finished by an earlier run" in "\n".join(
        plan_scoring(ready, NIGHT, settings).lines()
    )
    score(ready, NIGHT, settings)
    lines = plan_scoring(ready, NIGHT, settings).lines()
    assert lines[0].startswith("night: already published, 1,000 rows: ")
    assert len(lines) == 2
    assert plan_scoring(ready, ScoreOptions(), settings).lines() == [
        "nothing to score: no dataset waits for predictions",
        "dry run: nothing was computed or published",
    ]


def test_what_cannot_be_scored_is_told(ready: Store, settings: Settings) -> None:
    """A dataset of which something else stands in the way, or that cannot be read; the others are planned."""
    make_dataset(ready, "bad", make_images(5))
    ready.storage.put("datasets/bad/manifest.json", b"{}")
    plan = plan_scoring(ready, ScoreOptions(), settings)
    assert [each.dataset.name for each in plan.datasets] == ["night"]
    assert any(line.startswith("datasets/bad: cannot be scored: ") for line in plan.lines())


def test_the_bundled_model_is_not_made_champion(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the run would do that; the run does."""
    monkeypatch.setattr(bundled, "BUNDLE", Path(bundled.__file__).parents[1] / "pretrained")
    make_dataset(store, "night", make_images(5))
    before = objects(store.storage)
    plan = plan_scoring(store, ScoreOptions(), settings)
    told = f"there is no champion: {plan.model.name}, which comes with digitrec, would be made champion"
    assert plan.lines()[0] == told
    assert objects(store.storage) == before
    report = score(store, ScoreOptions(), settings)
    assert (report.model, report.precision) == (plan.model.name, plan.choice.precision)
    assert "was made champion" in report.notes[0]


def test_without_any_model_it_refuses_as_the_run_does(store: Store, settings: Settings) -> None:
    """The same words."""
    make_dataset(store, "night", make_images(5))
    told = []
    for attempt in (plan_scoring, score_all):
        with pytest.raises(NoInput, match=r"no champion in .*`digitrec train`") as raised:
            attempt(store, ScoreOptions(), settings)
        told.append(str(raised.value))
    assert told[0] == told[1]


def test_it_refuses_what_the_run_would_refuse(ready: Store, settings: Settings) -> None:
    """A dataset or model that is not there, a cascade that the model does not have."""
    for options in (ScoreOptions(dataset="nosuch"), ScoreOptions(model="nosuch")):
        with pytest.raises(NoInput, match="nosuch"):
            plan_scoring(ready, options, settings)
    with pytest.raises(Misconfigured, match="no cascade"):
        plan_scoring(ready, NIGHT.model_copy(update={"cascade": True}), settings)


def test_it_says_who_would_compute(ready: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, worker processes with their memory, or the cluster that is named: which is not asked."""
    monkeypatch.setattr(executors, "IN_PROCESS_ROWS", 999)
    monkeypatch.setattr(executors, "memory_bytes", lambda: 2**40)
    large = "\n".join(plan_scoring(ready, NIGHT, settings_for(ready)).lines())
    assert "executor: 2 worker processes of a local Dask cluster, about 1,101 MB of memory here" in large
    named = settings_for(ready, dask="tcp://127.0.0.1:9")
    assert "executor: the Dask cluster at tcp://127.0.0.1:9, " in "\n".join(plan_scoring(ready, NIGHT, named).lines())


def test_a_plan_is_frozen(ready: Store, settings: Settings) -> None:
    """Nobody changes it between its making and its carrying out."""
    plan = plan_scoring(ready, NIGHT, settings, Execution(partition_rows=100))
    for value in (plan, plan.datasets[0], plan.datasets[0].partitions[0], plan.datasets[0].request):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.rows = 1
    assert isinstance(plan.datasets, tuple)
    assert isinstance(plan.datasets[0].partitions, tuple)


def test_the_command_prints_the_plan(digitrec: Command, ready: Store, tmp_path: Path) -> None:
    """In words or as JSON; landing/ is not looked at, and sources would have to be ingested first."""
    (tmp_path / "store/landing").mkdir()
    write_csv(tmp_path / "store/landing/new.csv")
    before = objects(ready.storage)
    ended = digitrec("score", "--dry-run")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "dry run: nothing was computed or published"), ended.err
    answer = digitrec("score", "--dry-run", "--json").answer
    assert [(each["dataset"], each["partitions"]) for each in answer["datasets"]] == [("night", 3)]
    assert objects(ready.storage) == before
    refused = digitrec("score", "--dry-run", str(write_csv(tmp_path / "a.csv")))
    assert (refused.code, "digitrec ingest" in refused.err) == (64, True)
    assert objects(ready.storage) == before
