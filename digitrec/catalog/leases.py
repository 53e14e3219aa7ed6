"""Leases: one process at a time does work that would be wasted if two did it.

A lease is a folder of numbered generations, each put if absent; the newest one rules. Its holder puts the next one
every `RENEW_S`; a generation that an observer has seen unchanged for `EXPIRES_S` on its own clock is expired, and
whoever puts the next number has taken the lease over. Nothing is deleted or overwritten, and no two clocks are
compared. A holder on this machine whose process is gone is not waited for.

A lease saves work. It does not protect anything: a holder that was paused may come back late and go on, so whatever is
published under one still rests on put-if-absent alone.
"""

import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from digitrec.catalog.layout import lease_folder
from digitrec.catalog.manifest import canonical, parse_json
from digitrec.catalog.numbered import find_last
from digitrec.catalog.publish import create
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, DigitrecError, TryAgain
from digitrec.storage import NotFound

LOG = logging.getLogger("digitrec.catalog")
RENEW_S = 30.0
EXPIRES_S = 120.0
LOOK_S = 0.5
PUTS_MAX = 100
"""So often another process may take a free lease first: far more than can happen by accident."""


@dataclass(frozen=True)
class Generation:
    """One generation of a lease. `holder`: an id of this holding; `who`: its process, for people; `process`: which one
    it is on its machine ("" if that cannot be told); `held`: False when it was given back."""

    number: int
    holder: str
    who: str
    process: str
    held: bool


@dataclass
class Lease:
    """A lease that this process holds, or held. `number`: of its own newest generation."""

    store: Store
    name: str
    holder: str
    number: int
    lost: bool = False

    def renew(self, *, held: bool = True) -> None:
        """Put the next generation; if another process was first, the lease is lost. Raises `StorageFailed`."""
        while not self.lost:
            following = _generation(self.number + 1, self.holder, held=held)
            done = _put(self.store, self.name, following)
            # One of our own may stand there whose put seemed to have failed: then the next number is the next one.
            there = following if done else read_generation(self.store, self.name, following.number)
            self.lost = there is None or there.holder != self.holder
            if not self.lost:
                self.number = following.number
            if done:
                return


@contextmanager
def hold(store: Store, name: str, *, on_wait: Callable[[str], None] | None = None) -> Iterator[Lease]:
    """Hold the lease `name` (parts with `/`) inside; wait for it as long as another process holds and renews it.

    `on_wait` is told once whom this waits for. Raises `StorageFailed`, `Corrupt`, `TryAgain`.
    """
    lease = _acquire(store, name, on_wait)
    done = threading.Event()
    renewer = threading.Thread(target=_keep_renewing, args=(lease, done), name=f"lease {name}", daemon=True)
    renewer.start()
    try:
        yield lease
    finally:
        done.set()
        renewer.join()
        with suppress(DigitrecError):  # it expires by itself
            lease.renew(held=False)


def is_live(store: Store, name: str) -> bool:
    """Return whether a lease is held, as far as can be said at once: an expired one that nobody has taken over counts,
    unless its process was on this machine and is gone."""
    newest = find_newest(store, name)
    return newest is not None and newest.held and not _is_gone(newest)


def find_newest(store: Store, name: str) -> Generation | None:
    """Return the newest generation of a lease, or None if there never was one."""
    number = find_last(store, partial(_key, name))
    return read_generation(store, name, number) if number else None


def read_generation(store: Store, name: str, number: int) -> Generation | None:
    """Return a generation of a lease, or None. Raises `Corrupt`."""
    try:
        data = store.storage.read(_key(name, number))
    except NotFound:
        return None
    where = store.address(_key(name, number))
    damaged = f"{where} is not a generation of a lease, or is damaged: remove its folder"
    body = parse_json(data, where, damaged)
    try:
        return Generation(**{key: value for key, value in body.items() if key != "format"})
    except TypeError as error:
        raise Corrupt(damaged) from error


def _acquire(store: Store, name: str, on_wait: Callable[[str], None] | None) -> Lease:
    holder = uuid.uuid4().hex
    newest = find_newest(store, name)
    seen, since, told, refused = newest, time.monotonic(), False, 0
    while refused < PUTS_MAX:
        if newest is None or not newest.held or _is_gone(newest) or time.monotonic() - since > EXPIRES_S:
            number = newest.number + 1 if newest else 1
            if _put(store, name, _generation(number, holder, held=True)):
                return Lease(store, name, holder, number)
            refused += 1
        else:
            if on_wait and not told:
                on_wait(newest.who)
                told = True
            time.sleep(LOOK_S)
        while following := read_generation(store, name, newest.number + 1 if newest else 1):
            newest = following
        if newest != seen:
            seen, since = newest, time.monotonic()
    raise TryAgain(f"cannot take {store.address(lease_folder(name))}: another process was first {PUTS_MAX} times")


def _put(store: Store, name: str, generation: Generation) -> bool:
    """Put a generation; True if it stands there, also where only the reply was lost."""
    data = (canonical({"format": FORMAT} | asdict(generation)) + "\n").encode()
    return create(store, _key(name, generation.number), data)


def _keep_renewing(lease: Lease, done: threading.Event) -> None:
    while not done.wait(RENEW_S) and not lease.lost:
        try:
            lease.renew()
        except DigitrecError as error:
            LOG.warning("cannot renew the lease %s: %s", lease.name, error)
    if lease.lost:
        LOG.warning(
            "the lease %s was taken over: this process was silent for too long, and may do work twice", lease.name
        )


def _key(name: str, number: int) -> str:
    return f"{lease_folder(name)}/{number:08d}.json"


def _generation(number: int, holder: str, *, held: bool) -> Generation:
    who = f"process {os.getpid()} on {platform.node()}"
    return Generation(number, holder, who, _name_process(str(os.getpid())), held)


def _is_gone(generation: Generation) -> bool:
    """Whether the holder's process was one of this machine, and is not there any more."""
    here, _, rest = generation.process.partition(" ")
    if not generation.process or here != _name_machine():
        return False
    return _name_process(rest.partition(" ")[0]) != generation.process


def _name_process(pid: str) -> str:
    """Name a live process of this machine so that no other one ever has the same name; "" where that cannot be told.

    Machine (its boot and PID namespace), process id, and start time: fields 3 (the state; Z: ended, and nobody has
    taken note) and 22 of /proc/PID/stat, proc(5).
    """
    machine = _name_machine()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        state, started = fields[0], fields[19]
    except (OSError, IndexError):
        return ""
    return f"{machine} {pid} {started}" if machine and state not in {"Z", "X"} else ""


def _name_machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""
