"""A process under strace(1): it waits until the tracer has it, then does what it is there for."""

import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest


def trace(
    processes: ForkServerContext, target: Callable[[str, str, Connection], None], what: str, url: str, *options: str
) -> int | None:
    """Run `target(what, url, start)` in a process under strace with these options; return its exit code.

    `target` is to receive a word from `start` before it begins.
    """
    start, waits = processes.Pipe()
    process = processes.Process(target=target, args=(what, url, waits))
    process.start()
    command = ["strace", "-f", "-p", str(process.pid), *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
        _await_tracer(f"/proc/{process.pid}/status", tracer)
        start.send("begin")
        process.join()
    return process.exitcode


def _await_tracer(status: str, tracer: "subprocess.Popen[bytes]") -> None:
    while "TracerPid:\t0\n" in Path(status).read_text():
        if tracer.poll() is not None:
            pytest.skip("strace may not attach to processes here")
        time.sleep(0.001)
