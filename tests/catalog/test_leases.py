"""One process at a time does what a lease is for; a holder that is gone keeps nobody waiting for ever."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from digitrec.catalog import leases
from digitrec.catalog.leases import EXPIRES_S, LOOK_S, PUTS_MAX, RENEW_S, Generation, Lease, find_newest, hold, is_live
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, StorageFailed, TryAgain
from digitrec.storage.faulty import Verb, once, once_each
from tests.catalog.conftest import in_memory, with_faults

NAME = "training/quick-1"


class Clock:
    """A monotonic clock that runs only while somebody sleeps; `during` is called at each look of the sleeper."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.during: Callable[[float], None] = lambda now: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.during(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of whoever waits for a lease."""
    clock = Clock()
    monkeypatch.setattr(leases, "time", clock)
    return clock


def other(number: int, *, held: bool = True) -> Generation:
    """A generation of a process of another machine."""
    return Generation(number, "other", "process 7 on elsewhere", "elsewhere 7 1", held)


def put(store: Store, *generations: Generation) -> None:
    for generation in generations:
        assert leases._put(store, NAME, generation)


def is_generation(verb: Verb, key: str) -> bool:
    return verb == "put_if_absent" and key.startswith("_leases/")


def test_a_free_lease_is_held_and_given_back(anywhere: Store, clock: Clock) -> None:
    """Generation 1 while it is held, generation 2 once it is not; both stay."""
    assert not is_live(anywhere, NAME)
    with hold(anywhere, NAME) as lease:
        newest = find_newest(anywhere, NAME)
        assert newest is not None
        assert (newest.number, newest.held, newest.holder) == (1, True, lease.holder)
        assert is_live(anywhere, NAME)
    assert not is_live(anywhere, NAME)
    with hold(anywhere, NAME) as lease:
        assert lease.number == 3
    assert anywhere.storage.list(f"_leases/{NAME}") == [f"0000000{number}.json" for number in (1, 2, 3, 4)]
    assert clock.now == 1_000


def test_it_is_given_back_after_an_error(anywhere: Store, clock: Clock) -> None:
    """Whatever ends the work."""
    with pytest.raises(KeyboardInterrupt), hold(anywhere, NAME):
        raise KeyboardInterrupt
    assert not is_live(anywhere, NAME)


def test_a_silent_holder_is_waited_for_as_long_as_it_may_be_silent(anywhere: Store, clock: Clock) -> None:
    """By the observer's own clock, from when it first saw the generation: no two clocks are compared. It is told once
    whom it waits for, and the takeover is the next number."""
    put(anywhere, other(1))
    told: list[str] = []
    with hold(anywhere, NAME, on_wait=told.append) as lease:
        assert EXPIRES_S < clock.now - 1_000 <= EXPIRES_S + 2 * LOOK_S
        assert lease.number == 2
    assert told == ["process 7 on elsewhere"]


def test_a_holder_that_renews_is_not_taken_for_dead(anywhere: Store, clock: Clock) -> None:
    """However long it takes; once it is silent, it expires from its last sign of life on."""
    put(anywhere, other(1))
    renewed = [(1_000 + number * RENEW_S, number) for number in range(2, 22)]

    def renew(now: float) -> None:
        if renewed and now >= renewed[0][0]:
            put(anywhere, other(renewed.pop(0)[1]))

    clock.during = renew
    with hold(anywhere, NAME) as lease:
        assert lease.number == 22
        assert clock.now - (1_000 + 21 * RENEW_S) > EXPIRES_S


def test_a_lease_that_is_given_back_is_taken_at_once(anywhere: Store, clock: Clock) -> None:
    """Not after the time of silence."""
    put(anywhere, other(1))
    clock.during = lambda now: put(anywhere, other(2, held=False)) if now == 1_010 else None
    with hold(anywhere, NAME) as lease:
        assert (lease.number, clock.now) == (3, 1_010)


def test_several_who_wait_take_turns(clock: Clock) -> None:
    """When another one takes an expired lease first, it is waited for anew."""
    store = in_memory()
    put(store, other(1))
    taken = replace(other(2), holder="third", who="process 8 on elsewhere")
    at = 1_000 + EXPIRES_S
    clock.during = lambda now: put(store, taken) if now == at else None
    with hold(store, NAME) as lease:
        assert lease.number == 3
        assert clock.now > at + EXPIRES_S


def test_a_late_holder_notices_and_stops_renewing(anywhere: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has put the next number: the lease is lost, nothing more is put, and nothing is given back."""
    monkeypatch.setattr(leases, "RENEW_S", 0.01)
    with hold(anywhere, NAME) as lease:
        while not lease.lost:
            newest = find_newest(anywhere, NAME)
            assert newest is not None
            if newest.holder != "other":
                leases._put(anywhere, NAME, other(newest.number + 1))
            time.sleep(0.001)
        taken = find_newest(anywhere, NAME)
        assert taken is not None
        assert taken.holder == "other"
        time.sleep(0.05)
        lease.renew()
    assert find_newest(anywhere, NAME) == taken


def test_a_holder_renews_in_time(anywhere: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it holds the lease, and not longer; often enough that a lost sign of life or two do no harm."""
    assert RENEW_S * 3 < EXPIRES_S
    monkeypatch.setattr(leases, "RENEW_S", 0.01)
    with hold(anywhere, NAME) as lease:
        while lease.number < 4:
            time.sleep(0.001)
    last = find_newest(anywhere, NAME)
    assert last is not None
    assert not last.held
    time.sleep(0.05)
    assert find_newest(anywhere, NAME) == last


def test_renewals_that_fail_are_done_again(anywhere: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that is away for a while takes no lease from anybody."""
    monkeypatch.setattr(leases, "RENEW_S", 0.01)
    store, _ = with_faults(
        anywhere, fail_before=once(lambda verb, key: is_generation(verb, key) and key.endswith("2.json"), 3)
    )
    with hold(store, NAME) as lease:
        while lease.number < 3:
            time.sleep(0.001)
        assert not lease.lost


@pytest.mark.parametrize("fault", ["lose_reply_of", "fail_after"])
def test_a_lost_reply_loses_no_lease(anywhere: Store, clock: Clock, fault: str) -> None:
    """Taken, renewed and given back, though each put seemed to be another's or to have failed."""
    store, _ = with_faults(anywhere, **{fault: once_each(is_generation)})
    with hold(store, NAME) as lease:
        lease.renew()
        assert (lease.number, lease.lost) == (2, False)
    newest = find_newest(anywhere, NAME)
    assert newest is not None
    assert (newest.number, newest.held, newest.holder) == (3, False, lease.holder)


def test_a_renewal_of_unknown_outcome_does_not_keep_the_lease(anywhere: Store, clock: Clock) -> None:
    """A put was done, and neither its reply nor a look at it came through: giving it back goes on from there."""
    broken = {"now": False}
    store, _ = with_faults(
        anywhere,
        fail_after=lambda verb, key: broken["now"] and is_generation(verb, key),
        fail_before=lambda verb, key: broken["now"] and verb == "read",
    )
    with hold(store, NAME) as lease:
        broken["now"] = True
        with pytest.raises(StorageFailed):
            lease.renew()
        broken["now"] = False
    assert lease.number == 3
    assert not is_live(anywhere, NAME)


@pytest.mark.timeout(30)
def test_a_number_that_is_taken_and_cannot_be_seen_ends_the_try(clock: Clock) -> None:
    """Bounded, with what to do."""
    inner = in_memory()
    store, faulty = with_faults(inner)
    faulty.inner = type("Blind", (), {"__getattr__": lambda _, name: getattr(inner.storage, name)})()
    faulty.inner.put_if_absent = lambda key, data: False
    with pytest.raises(TryAgain, match=f"another process was first {PUTS_MAX} times"), hold(store, NAME):
        pass


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 7, 8, 1_000, 1_023, 1_024])
def test_the_newest_of_many_is_found_with_few_looks(number: int) -> None:
    """By doubling steps and halving them: 25 looks for a thousand generations."""
    store, faulty = with_faults(in_memory())
    put(store, *map(other, range(1, number + 1)))
    faulty.calls.clear()
    found = find_newest(store, NAME)
    assert (found.number if found else 0) == number
    assert len(faulty.calls) <= 2 * number.bit_length() + 5


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_of_many_takers_one_works_at_a_time(kind: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight find an expired lease at once; each has its turn, and no two at once."""
    store = store if kind == "folder" else in_memory()
    monkeypatch.setattr(leases, "LOOK_S", 0.002)
    put(store, other(1))
    monkeypatch.setattr(leases, "EXPIRES_S", 0.2)
    working, most, turns, lock = 0, 0, 0, threading.Lock()
    barrier = threading.Barrier(8)

    def work() -> None:
        nonlocal working, most, turns
        barrier.wait()
        monkeypatch.setattr(leases, "EXPIRES_S", 0.2)
        with hold(store, NAME):
            monkeypatch.setattr(leases, "EXPIRES_S", 1_000)
            with lock:
                working, turns = working + 1, turns + 1
                most = max(most, working)
            time.sleep(0.01)
            with lock:
                working -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns, working) == (1, 8, 0)


HOLD = """
import sys, time
from digitrec.catalog.leases import hold
from digitrec.catalog.store import Store
with hold(Store.at(sys.argv[1]), "training/quick-1"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(store: Store) -> Iterator["subprocess.Popen[str]"]:
    """Another process of this machine, which holds the lease."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", HOLD, store.url], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("reaped", [True, False])
def test_a_dead_holder_of_this_machine_is_not_waited_for(
    store: Store, holder: "subprocess.Popen[str]", clock: Clock, reaped: bool
) -> None:
    """After SIGKILL the next one begins at once, whether or not anybody has taken note of the death."""
    clock.during = lambda now: pytest.fail("it was waited for")
    assert is_live(store, NAME)
    holder.send_signal(signal.SIGKILL)
    if reaped:
        holder.wait()
    else:
        wait_for_zombie(holder.pid)
    assert not is_live(store, NAME)
    with hold(store, NAME) as lease:
        assert lease.number == 2


def wait_for_zombie(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)


def test_a_live_holder_of_this_machine_is_waited_for(
    store: Store, holder: "subprocess.Popen[str]", clock: Clock
) -> None:
    """While it renews; here it is ended after ten seconds, and not before it is passed by."""

    def end(now: float) -> None:
        if now == 1_010:
            holder.kill()
            holder.wait()

    clock.during = end
    with hold(store, NAME):
        assert clock.now == 1_010


@pytest.mark.parametrize("field", [0, 1, 2])
def test_another_process_of_the_same_number_is_not_the_holder(store: Store, clock: Clock, field: int) -> None:
    """On another machine, or after a restart of this one, or when the number was given again. What was once this
    machine's process is gone; another machine's may live."""
    with hold(store, NAME):
        newest = find_newest(store, NAME)
    assert newest is not None
    parts = newest.process.split(" ")
    parts[field] = {0: "elsewhere", 1: "4194305", 2: "1"}[field]
    put(store, replace(newest, number=3, process=" ".join(parts)))
    assert is_live(store, NAME) is (field == 0)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 3}', b'{"format": 3, "surplus": 1}'])
def test_a_damaged_generation_is_said(anywhere: Store, clock: Clock, data: bytes) -> None:
    """With its name and what to do; nobody goes on as if there were no lease."""
    anywhere.storage.put(f"_leases/{NAME}/00000001.json", data)
    with pytest.raises(Corrupt, match=r"00000001\.json is not a generation of a lease"), hold(anywhere, NAME):
        pass


def test_leases_have_names_of_their_own(anywhere: Store, clock: Clock) -> None:
    """Two may be held at once."""
    with hold(anywhere, NAME), hold(anywhere, "training/quick-2") as lease:
        assert isinstance(lease, Lease)
    assert clock.now == 1_000
