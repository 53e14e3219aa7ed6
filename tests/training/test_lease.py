"""One process at a time trains a version; whoever comes meanwhile waits, and finds it done."""

import errno
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from digitrec.catalog import leases
from digitrec.catalog import listing as catalog
from digitrec.catalog.leases import Generation
from digitrec.catalog.store import Store
from digitrec.errors import BadData, DigitrecError
from digitrec.options import TrainOptions
from digitrec.progress import Step
from digitrec.training import run
from digitrec.training.run import TrainReport, lease_name, plan_of
from tests.training.conftest import Digits, publish_rows, train

QUICK = TrainOptions(preset="quick")


@pytest.fixture
def store(tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With 600 labelled digits; leases are looked at often."""
    monkeypatch.setattr(leases, "LOOK_S", 0.02)
    made = Store.at(tmp_path / "store")
    publish_rows(made, "sample", digits[0][:600], digits[1][:600])
    return made


class Waiters:
    """Counts, from the log, those who wait."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "digitrec.training")
        self.caplog = caplog

    def __len__(self) -> int:
        return sum("is being trained by" in record.message for record in self.caplog.records)

    def reach(self, number: int) -> None:
        until = time.monotonic() + 60
        while len(self) < number:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture
def waiters(caplog: pytest.LogCaptureFixture) -> Waiters:
    return Waiters(caplog)


def test_who_comes_meanwhile_finds_it_done(store: Store, waiters: Waiters) -> None:
    """It says once for whom it waits, trains nothing, and reports the same version."""
    steps: list[Step] = []
    with ThreadPoolExecutor(1) as pool:
        second: list[Future[TrainReport]] = []

        def start_second(step: Step) -> None:
            if step.done == 1:
                second.append(pool.submit(train, store, QUICK, steps.append))
                waiters.reach(1)

        first = train(store, QUICK, start_second)
        found = second[0].result(60)
    assert (first.already, found.already) == (False, True)
    assert (found.version, found.accuracy) == (first.version, first.accuracy)
    assert (len(waiters), steps) == (1, [])


def test_after_a_holder_that_fails_there_is_one_at_a_time(
    store: Store, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first fails before anything was kept, while two wait; another one comes when the next has begun: none of the
    four is at work while another one is."""
    turns: list[str] = []
    at_work = threading.Semaphore(1)

    def fail(*_: object) -> NoReturn:
        assert at_work.acquire(blocking=False), "two are at work"
        turns.append("begins")
        if len(turns) == 1:
            waiters.reach(2)
        if len(turns) == 2:
            calls.append(pool.submit(train, store, QUICK))
            waiters.reach(3)
        time.sleep(0.1)
        at_work.release()
        raise BadData("too little to train on")

    monkeypatch.setattr(run, "read_split", fail)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(train, store, QUICK) for _ in range(3)]
        problems = [calls[place].exception(60) for place in range(4)]
    assert [str(problem) for problem in problems] == ["too little to train on"] * 4
    assert len(turns) == 4


def test_an_error_of_the_training_is_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is not taken for a lock that could not be had: nobody tries it again."""

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "of a library")

    monkeypatch.setattr(run, "read_split", fail)
    with pytest.raises(OSError, match="of a library") as failed:
        train(store, QUICK)
    assert not isinstance(failed.value, DigitrecError)


KILLED = """
import os, signal, sys
from digitrec.catalog.store import Store
from digitrec.options import TrainOptions
from digitrec.training.recipe import PRESETS
from tests.training.conftest import TINY, train
PRESETS["quick"] = TINY
train(Store.at(sys.argv[1]), TrainOptions(preset="quick"), lambda step: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_holder_of_this_machine_that_was_killed_is_not_waited_for(
    store: Store, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is gone: the lease is taken over at once."""
    done = subprocess.run([sys.executable, "-c", KILLED, store.url], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    monkeypatch.setattr(leases, "EXPIRES_S", 1e9)
    assert leases.find_newest(store, lease_name(plan_of(store, QUICK).version)) is not None
    assert not train(store, QUICK).already
    assert len(waiters) == 0


class Clock:
    """Time that passes when somebody sleeps; another machine's holder renews its lease until `silent_from` seconds."""

    def __init__(self, store: Store, name: str, silent_from: float) -> None:
        self.now, self.store, self.name, self.silent_from = 0.0, store, name, silent_from
        self.number = 0
        self.renew()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now < self.silent_from and self.now >= leases.RENEW_S * self.number:
            self.renew()

    def renew(self) -> None:
        self.number += 1
        elsewhere = Generation(self.number, "theirs", "process 77 on elsewhere", "another-boot/4026 77 123", held=True)
        assert leases._put(self.store, self.name, elsewhere)


def test_a_holder_on_another_machine_is_waited_for_until_its_lease_expires(
    store: Store, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it renews; then, its last generation seen unchanged for `EXPIRES_S`, it is taken over. Checkpoints lie
    below a generation that it never had."""
    version = plan_of(store, QUICK).version
    clock = Clock(store, lease_name(version), silent_from=300.0)
    monkeypatch.setattr(leases, "time", clock)
    monkeypatch.setattr(leases, "LOOK_S", 1.0)
    assert not train(store, QUICK).already
    assert 270 + leases.EXPIRES_S < clock.now < 300 + leases.EXPIRES_S + 5
    assert len(waiters) == 1
    assert "process 77 on elsewhere" in waiters.caplog.text
    assert store.storage.list(f"logs/{version}") == [f"{clock.number + 1:08d}/"]
    assert [entry.manifest.name for entry in catalog.listing(store, "model") if entry.manifest] == [version]
