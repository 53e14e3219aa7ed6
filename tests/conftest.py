"""What every room's tests share: an empty store, and an environment that is not the developer's."""

import logging
import os
import signal
from pathlib import Path

import pytest

from digitrec.catalog import bundled
from digitrec.catalog.store import Store
from digitrec.private import provide_home


def hear_signals() -> None:
    """Undo what `&` in a script, nohup, cron or an init system ignores for its children, and theirs.

    A handler is undone by exec, so what the tests start begins as from a terminal. The tests themselves survive a
    hang-up if they were to.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def forget_proxies() -> None:
    """Servers of the tests listen on the loopback; whether a proxy is passed by there, the tests about it say."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


# Before anything else: fixtures of a session start servers, and libraries look for a home when they are imported.
hear_signals()
forget_proxies()
provide_home()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `DIGITREC_*` variable and no `.env` of the developer's reaches a test, and no handler of the test before."""
    for name in [name for name in os.environ if name.startswith("DIGITREC_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    log = logging.getLogger("digitrec")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)


@pytest.fixture(autouse=True)
def nothing_bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store without a champion has none: the bundled model is published only by the tests that are about it."""
    monkeypatch.setattr(bundled, "BUNDLE", tmp_path / "nothing-bundled")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a fresh folder."""
    return Store.at(tmp_path / "store")
