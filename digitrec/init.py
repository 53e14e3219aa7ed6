"""What a command does as the first process of a container, where nobody else does it.

The kernel delivers process 1 no signal that it has no handler for, and makes it the parent of every orphan: without
this, `docker stop` and Kubernetes would wait for their time limit and kill, and each lost worker would stay a zombie.
"""

import os
import signal
from types import FrameType

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def leave_process_one() -> None:
    """Go on in a child if this is process 1, which from then on reaps, forwards signals, and ends as the child does.

    Called before any thread is started.
    """
    if os.getpid() != 1:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # none is lost between the fork and the handlers
    child = os.fork()
    if child:
        os._exit(_serve(child))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def _serve(child: int) -> int:
    """Reap until the child has ended, and return the exit code that a shell would give it."""

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
