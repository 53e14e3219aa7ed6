"""The command as the first process of a container: it ends on SIGTERM, reaps orphans, and gives its exit code on."""

import fcntl
import os
import pty
import random
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from tests.environment.conftest import ROOT, clean
from tests.test_process import waiting

NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def has_namespaces() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not has_namespaces(), reason="no PID namespaces here")


def start(*command: object, terminal: int | None = None, **variables: str) -> subprocess.Popen[str]:
    """A command as process 1, and, if one is given, as the first of this terminal's session."""

    def take_terminal() -> None:
        if terminal is not None:
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    return subprocess.Popen(
        [*NAMESPACE, *map(str, command)],
        env=clean(PYTHONPATH=str(ROOT)) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=take_terminal,
    )


def first_process(starter: subprocess.Popen[str]) -> int:
    """The id, outside, of process 1 of the namespace that `starter` (unshare) has made."""
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
    while not (found := children.read_text().split()):
        assert starter.poll() is None, "it has ended by itself"
        time.sleep(0.01)
    return int(found[0])


WAITING = """
import os, sys, time
from digitrec.init import leave_process_one
leave_process_one()
{then}
print(os.getpid(), flush=True)
time.sleep(100)
"""


TIDYING = """
import os, time
from digitrec.process import prepare_process
from digitrec.terminal import outcome
prepare_process()
def command():
    try:
        os.write(1, b"ready\\n")
        time.sleep(60)
    finally:
        os.write(1, b"tidying\\n")
        time.sleep(0.5)
        print("tidied up", flush=True)
raise SystemExit(outcome(command))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(number: int) -> None:
    """Each is handed on to the process that works, which the kernel no longer protects from it."""
    process = start(sys.executable, "-c", WAITING.format(then="import signal; signal.signal(2, signal.SIG_DFL)"))
    assert process.stdout
    assert int(process.stdout.readline()) > 1
    os.kill(first_process(process), number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number


def test_a_terminals_interrupt_comes_once() -> None:
    """The terminal signals every process in front; a second one would end the command before it has tidied up."""
    controller, terminal = pty.openpty()
    process = start(sys.executable, "-c", TIDYING, terminal=terminal)
    assert process.stdout
    process.stdout.readline()
    first = first_process(process)
    os.kill(first, signal.SIGSTOP)  # what it does with its own signal, it shall do after the child has heard its
    os.write(controller, b"\x03")
    process.stdout.readline()
    os.kill(first, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    os.close(controller)
    os.close(terminal)
    assert (process.returncode, out) == (130, "tidied up\n"), err


@pytest.mark.parametrize(
    ("package", "command"),
    [("cyclopts", ["-m", "digitrec", "list", "datasets"]), ("prefect", [ROOT / "flows" / "score.py"])],
    ids=["command", "flow"],
)
def test_a_signal_ends_it_while_it_is_imported(package: str, command: list[object], tmp_path: Path) -> None:
    """Exit 130 and one line, for a flow's script as well."""
    places = os.pathsep.join([waiting(package, tmp_path), str(ROOT)])
    process = start(sys.executable, *command, PYTHONPATH=places)
    assert process.stdout
    process.stdout.readline()
    os.kill(first_process(process), signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (130, 1), err


def test_orphans_are_reaped() -> None:
    """A process whose parent is gone leaves no zombie."""
    orphan = "\n".join([
        "if os.fork() == 0:",
        "    if os.fork(): os._exit(0)",
        "    time.sleep(0.1); os._exit(0)",
        "os.wait(); time.sleep(0.5)",
        "states = [open(f'/proc/{p}/stat').read().split()[2] for p in os.listdir('/proc') if p.isdigit()]",
        "print('Z' in states, flush=True); os._exit(3)",
    ])  # fmt: skip
    process = start(sys.executable, "-c", WAITING.format(then=orphan))
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("False\n", 3), err


def test_a_command_stopped_by_its_container_goes_on(ready: Store) -> None:
    """SIGTERM at some moment: nothing half-done is visible, and the same command completes."""
    command = (sys.executable, "-m", "digitrec", "--store", ready.url, "score", "--dataset", "night")
    process = start(*command)
    first = first_process(process)
    time.sleep(random.uniform(0, 1.5))
    with suppress(ProcessLookupError):  # it was done
        os.kill(first, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in {130, 143, 0}  # 143: on a busy machine, before it could handle it; 0: it was done
    process = start(*command)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "night: " in out
