"""The command as the first process of a container: it ends on SIGTERM, reaps orphans, and gives its exit code on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from digitrec.store.layout import Store
from tests.environment.conftest import COMMAND, ROOT, clean

NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def has_namespaces() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not has_namespaces(), reason="no PID namespaces here")


def start(*command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*NAMESPACE, *map(str, command)],
        env=clean(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_process(starter: subprocess.Popen[str]) -> int:
    """The id, outside, of process 1 of the namespace that `starter` (unshare) has made."""
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
    while not (found := children.read_text().split()):
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(number: int) -> None:
    """Each is handed on to the process that works, which the kernel no longer protects from it."""
    process = start(sys.executable, "-c", WAITING.format(then="import signal; signal.signal(2, signal.SIG_DFL)"))
    assert process.stdout
    assert int(process.stdout.readline()) > 1
    os.kill(first_process(process), number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number


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
    command = (*COMMAND, "--store", ready.url, "score", "--dataset", "night")
    process = start(*command)
    time.sleep(1.0)
    os.kill(first_process(process), signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in {130, 143, 0}
    process = start(*command)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "night: " in out
