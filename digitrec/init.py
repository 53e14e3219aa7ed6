"""What a command does as the first process of a container, where nobody else does it.

The kernel delivers process 1 no signal that it has no handler for, and makes it the parent of every orphan: without
this, `docker stop` and Kubernetes would wait for their time limit and kill, and each lost worker would stay a zombie.
"""

import os
import signal

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
TYPED = (signal.SIGINT, signal.SIGQUIT)
"""What a terminal sends for a key, and to every process of its foreground group itself."""


def leave_process_one() -> None:
    """Go on in a child if this is process 1, which from then on reaps, forwards signals, and ends as the child does.

    Called before any thread is started.
    """
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*FORWARDED, signal.SIGCHLD))  # blocked ones wait, none is lost
    child = os.fork()
    if child:
        os._exit(_serve(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(child: int) -> int:
    """Forward and reap until the child has ended, and return the exit code that a shell would give it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave nothing to wait for
    while True:
        told = signal.sigwaitinfo((*FORWARDED, signal.SIGCHLD))
        if told.si_signo != signal.SIGCHLD:
            typed = told.si_signo in TYPED and told.si_code > 0  # from the kernel, not from a process
            if not typed:
                os.kill(child, told.si_signo)
            continue
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                code = os.waitstatus_to_exitcode(found[1])
                return code if code >= 0 else 128 - code
