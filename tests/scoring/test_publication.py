"""Publication beside the computation: who waits for whom, what an interrupt leaves, and who wins."""

import threading
from functools import partial

import pytest

from digitrec.catalog.manifest import find_manifest
from digitrec.catalog.reader import read_table
from digitrec.catalog.store import Store
from digitrec.errors import ComputationFailed, Interrupted, TryAgain, Unavailable
from digitrec.options import ScoreOptions
from digitrec.progress import Step
from digitrec.scoring import publication
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.executors import Execution, Outcomes, RefusingExecutor
from digitrec.scoring.plan import plan_dataset
from digitrec.scoring.publication import Publisher, prove
from digitrec.scoring.request import Request, Task
from digitrec.scoring.run import score, score_all
from digitrec.verify import verify
from tests.faults.computing import linear
from tests.scoring.making import Shape, make_dataset, make_images, make_model, settings_for
from tests.scoring.watched import OneByOne, before_call, in_memory, objects, watched

FIRST, SECOND = "predictions/a/quick-00000001.fp32", "predictions/b/quick-00000001.fp32"
BOTH = ScoreOptions(precision="fp32")
HELD_S = 20.0


@pytest.fixture
def two() -> Store:
    """A store in memory with datasets `a` and `b`, of one partition each."""
    store = in_memory()
    make_model(store)
    make_dataset(store, "a", make_images(30))
    make_dataset(store, "b", make_images(20, seed=1))
    return store


def test_a_publication_holds_up_no_worker(two: Store) -> None:
    """While the manifest of `a` cannot be written, the task of `b` is drawn, computed and taken."""
    computed = threading.Event()
    held: list[bool] = []
    store, _ = watched(
        two, delay_s=before_call("put_if_absent", f"{FIRST}/manifest.json", lambda: held.append(computed.wait(HELD_S)))
    )

    def compute(task: Task) -> Outcome:
        outcome = score_partition(task)
        if task.request.dataset == "b":
            assert find_manifest(two, FIRST) is None
            computed.set()
        return outcome

    report = score_all(store, BOTH, settings_for(store), Execution(executor=OneByOne(compute)))
    assert held == [True]
    assert [scored.dataset for scored in report.datasets] == ["a", "b"]


def test_reports_come_in_the_order_of_the_plan(two: Store) -> None:
    """Whatever is computed, published or refused first."""

    class Backwards(OneByOne):
        def run(self, tasks) -> Outcomes:  # noqa: ANN001
            yield from reversed([(task, score_partition(task)) for task in tasks])

    report = score_all(two, BOTH, settings_for(two), Execution(executor=Backwards()))
    assert [scored.dataset for scored in report.datasets] == ["a", "b"]


def test_ctrl_c_stops_a_publication_before_its_manifest(two: Store) -> None:
    """Half-way through, nothing is visible; parts and receipts are kept, and the next run publishes without computing
    them again."""
    reached, interrupted = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        interrupted.wait(HELD_S)

    store, _ = watched(two, delay_s=before_call("upload", f"{FIRST}/submission.csv", hold))

    def press_ctrl_c(step: Step) -> None:
        if step.done == 50:
            assert reached.wait(HELD_S)
            threading.Timer(0.2, interrupted.set).start()
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="stopped with 50 of 50 rows done"):
        score_all(store, BOTH, settings_for(store), Execution(executor=OneByOne()), press_ctrl_c)
    assert interrupted.is_set()
    assert find_manifest(two, FIRST) is find_manifest(two, SECOND) is None
    report = score_all(two, BOTH, settings_for(two), Execution(executor=RefusingExecutor()))
    assert [scored.already for scored in report.datasets] == [False, False]


def test_a_lost_cluster_hides_nothing_that_was_done(two: Store) -> None:
    """What is published by then is reported as scored, the rest as failed with the one error, which is raised in the
    end."""
    make_dataset(two, "c", make_images(10, seed=2))

    class Lost(OneByOne):
        def run(self, tasks) -> Outcomes:  # noqa: ANN001
            task = next(tasks)
            yield task, score_partition(task)
            raise Unavailable("the cluster is lost")

    report = score_all(two, BOTH, settings_for(two), Execution(executor=Lost()))
    assert [(scored.dataset, scored.already) for scored in report.datasets] == [("a", False)]
    assert [failure.dataset for failure in report.failures] == ["b", "c"]
    with pytest.raises(Unavailable, match=r"^the cluster is lost$"):
        report.raise_if_failed()


def test_a_bug_in_the_publishing_thread_ends_the_run(two: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised where the run was called, and is no dataset's failure."""
    monkeypatch.setattr(publication, "prove", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_all(two, BOTH, settings_for(two), Execution(executor=OneByOne()))


def test_too_many_publications_hold_up_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be published is bounded."""
    monkeypatch.setattr(publication, "WAITING_MAX", 1)
    released = threading.Event()
    with Publisher[bool]() as publisher:
        publisher.submit(lambda: released.wait(HELD_S))
        threading.Timer(0.2, released.set).start()
        publisher.submit(lambda: True)
        assert released.is_set()
        assert list(publisher.take_finished(wait=True)) == [True, True]


def test_the_bound_holds_where_nobody_takes_what_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run that resumes, and has nothing to compute."""
    monkeypatch.setattr(publication, "WAITING_MAX", 2)
    released = threading.Event()
    with Publisher[bool]() as publisher:
        for _ in range(5):
            publisher.submit(lambda: True)
        publisher.submit(lambda: released.wait(HELD_S))
        publisher.submit(lambda: True)
        threading.Timer(0.2, released.set).start()
        publisher.submit(lambda: True)
        assert released.is_set()
        assert list(publisher.take_finished(wait=True)) == [True] * 8


def test_publications_are_one_at_a_time_in_order() -> None:
    """Two of them never meet."""
    begun: list[int] = []
    meeting = threading.Lock()

    def publish(number: int) -> int:
        assert meeting.acquire(blocking=False)
        begun.append(number)
        meeting.release()
        return number

    with Publisher[int]() as publisher:
        for number in range(50):
            publisher.submit(partial(publish, number))
        assert list(publisher.take_finished(wait=True)) == begun == list(range(50))


@pytest.mark.parametrize("moment", [("read", f"{FIRST}/manifest.json"), ("upload", f"{FIRST}/submission.csv")])
def test_who_loses_a_race_reports_what_is_published(two: Store, moment: tuple[str, str]) -> None:
    """Another run publishes other parts of the same request (as another torch might make), before this one looks or
    after: the report, and `submission.csv`, are of what stands there."""
    other = Execution(executor=OneByOne(partial(score_partition, load=linear)))
    won = []

    def win() -> None:
        if not won and any(key.startswith(f"{FIRST}/part-") for key in objects(two.storage, FIRST)):
            won.append(score_all(two, ScoreOptions(dataset="a"), settings_for(two), other).datasets[0])

    store, _ = watched(two, delay_s=before_call(*moment, win))
    (scored,) = score_all(
        store, ScoreOptions(dataset="a"), settings_for(store), Execution(executor=OneByOne())
    ).datasets
    assert (scored.already, scored.unsure) == (True, won[0].unsure)
    there = find_manifest(two, FIRST)
    assert there
    labels = read_table(two, there, FIRST)["label"].to_pylist()
    lines = two.storage.read(f"{FIRST}/submission.csv").decode().split()[1:]
    assert lines == [f"{image_id},{label}" for image_id, label in enumerate(labels, start=1)]
    verify(two)


@pytest.mark.parametrize("part", ["/runs/", "submission.csv"])
def test_what_fails_after_a_publication_is_a_note(two: Store, part: str) -> None:
    """What is published is published: neither a note on the run nor a derived file makes it a failure."""
    broken = {"now": False}

    def fails(verb: str, key: str) -> bool:
        broken["now"] |= verb == "put_if_absent" and key == f"{FIRST}/manifest.json"
        return broken["now"] and part in key and verb in {"put", "stat"}

    store, _ = watched(two, fail_before=fails)
    report = score_all(store, ScoreOptions(dataset="a"), settings_for(store), Execution(executor=OneByOne()))
    assert report.failures == ()
    assert "what follows a publication could not be done" in " ".join(report.datasets[0].notes)
    assert find_manifest(two, FIRST)


def test_scoring_is_the_same_in_memory_and_in_a_folder(two: Store, store: Store) -> None:
    """The same parts, byte for byte, whatever keeps them; and `verify` finds them whole."""
    make_model(store)
    make_dataset(store, "a", make_images(30))
    for place in (two, store):
        score(place, ScoreOptions(dataset="a"), settings_for(place))
        verify(place)
    names = [{name for name in place.storage.list(FIRST) if name.startswith("part-")} for place in (two, store)]
    assert names[0] == names[1] != set()


def test_parts_that_are_not_the_plans_are_not_published(two: Store) -> None:
    """One that is missing, one that is there twice, and two in each other's place."""
    model = find_manifest(two, "models/quick-00000001")
    dataset = make_dataset(two, "c", make_images(60), Shape(((20,), (40,))))
    assert model
    plan = plan_dataset(dataset, Request.of(two, dataset, model, BOTH, "fp32"))
    first, second = (score_partition(Task(plan.request, partition)).file for partition in plan.partitions)
    prove(plan, [first, second])
    for files in ([first], [first, first], [second, first], [first, second, second]):
        with pytest.raises(ComputationFailed, match="nothing was published"):
            prove(plan, files)


def test_a_run_that_is_too_late_leaves_the_submission_of_what_is_published(two: Store) -> None:
    """The dataset is made anew, and scored by another run, while this one writes its `submission.csv`: this one fails,
    and the file is the other one's in the end."""
    published = []

    def make_anew() -> None:
        if published:
            return
        for key in objects(two.storage, "datasets/a"):
            two.storage.delete(key)
        make_dataset(two, "a", make_images(30, seed=5))
        published.append(b"")
        score_all(two, ScoreOptions(dataset="a"), settings_for(two), Execution(executor=OneByOne()))
        published.append(two.storage.read(f"{FIRST}/submission.csv"))

    store, _ = watched(two, delay_s=before_call("upload", f"{FIRST}/submission.csv", make_anew))
    with pytest.raises(TryAgain, match="was replaced while it was scored"):
        score(store, ScoreOptions(dataset="a", precision="fp32"), settings_for(store))
    assert two.storage.read(f"{FIRST}/submission.csv") == published[1]
    verify(two)


def test_predictions_of_a_dataset_made_anew_are_no_reason_to_choose_another_name(two: Store) -> None:
    """Another run has scored the new one before this one is done with the old one: to run again is all there is to
    do."""
    computed: list[Task] = []

    def compute(task: Task) -> Outcome:
        outcome = score_partition(task)
        computed.append(task)
        if len(computed) == 1:
            for key in objects(two.storage, "datasets/a"):
                two.storage.delete(key)
            make_dataset(two, "a", make_images(30, seed=5))
            score(two, ScoreOptions(dataset="a", precision="fp32"), settings_for(two))
        return outcome

    report = score_all(two, ScoreOptions(dataset="a"), settings_for(two), Execution(executor=OneByOne(compute)))
    (failure,) = report.failures
    assert isinstance(failure.error, TryAgain)
