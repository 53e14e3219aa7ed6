"""The pull step of deployments/prefect.yaml: go to the checkout that the worker names, or say that it is not there.

Prefect's own step fails without a word in the run's log; and the hooks of a flow, which notify people, lie in the
checkout.
"""

import os
from contextlib import suppress
from pathlib import Path
from threading import Thread

from prefect.client.orchestration import get_client
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import flow_run

from digitrec.errors import Misconfigured
from digitrec_prefect.telling import tell

FLOWS = "flows/_stage.py"
"""By this a checkout is known."""


def enter_checkout(directory: str) -> dict[str, str]:
    """Make `directory` the working directory. Raises `Misconfigured`, in the run's log and as a notification too."""
    place = Path(directory).expanduser() if directory else None
    if place and (place / FLOWS).is_file():
        os.chdir(place)
        return {"directory": str(Path.cwd())}
    named = f"DIGITREC_HOME is {directory}, where no checkout of digitrec is" if place else "DIGITREC_HOME is not set"
    error = Misconfigured(f"{named}: export it where the worker starts, then start the worker again")
    # A step is called by a running event loop, in which a client that waits would never be answered.
    telling = Thread(target=tell_run, args=(flow_run.id, str(error)))
    telling.start()
    telling.join()
    raise error


def tell_run(run_id: str | None, message: str) -> None:
    """Write the message into the run's log, and send it to those who are to be told."""
    from uuid import UUID

    with suppress(Exception), get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(run_id))
        flow_run_logger(run).error(message)
        tell("digitrec: Crashed", f"{run.name}: {message}")
