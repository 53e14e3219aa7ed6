"""What each of our own worker processes does first (Dask's preload): be quiet, and leave Ctrl-C to the driver."""

import logging
import signal
from typing import Any

SPOKEN_FOR = (
    "distributed.client",
    "distributed.diskutils",
    "distributed.scheduler",
    "distributed.worker.state_machine",
)
"""What these loggers say of lost connections, cancelled tasks and lost folders, the driver says itself, once."""


def quiet() -> None:
    """Dask's own log from WARNING on only."""
    logging.getLogger("distributed").setLevel(logging.WARNING)
    for name in SPOKEN_FOR:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker's process. A terminal sends Ctrl-C to all; the driver ends the workers in order."""
    quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
