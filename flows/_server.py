"""`python flows/….py` with no server running: Prefect starts one for the run; this makes it quick and quiet.

What is set here are defaults: what the environment, a profile or a prefect.toml says goes before.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from importlib import import_module
from threading import Thread

from filelock import FileLock
from httpx import HTTPError, InvalidURL
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings, temporary_settings

from digitrec.addresses import check_api_url
from digitrec.errors import DigitrecError, Misconfigured, Unavailable
from digitrec.foreign import mask_user
from digitrec.orchestration import explain_unreachable

DEFAULTS = {
    # At each start the server would report home; where there is no way out, that ends in a trace.
    "server.analytics_enabled": False,
    # The very first start makes the database: 17–24 s on two idle cores, and Prefect would give up after 20.
    "server.ephemeral.startup_timeout_seconds": 120,
    # Heartbeats tell a server which of its workers' runs are dead. A person sees that; each run would end 1 s later.
    "flows.heartbeat_frequency": None,
}


@contextmanager
def server_at_hand(library: str) -> Iterator[None]:
    """Have a Prefect server for what runs inside: the one that is configured, or one of our own.

    Our own needs seconds to start, in which the module `library` is imported. Its database is a file in PREFECT_HOME,
    which `prefect server start` shares, and so shows these runs later.
    Raises `Unavailable` if the server does not answer, `Misconfigured` if there may be none.
    """
    # At the end Prefect would count aloud the events that it is still sending.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)
    with temporary_settings(set_defaults=DEFAULTS) as settings:
        if settings.api.url:
            check_answers(settings.api.url)
        elif settings.server.ephemeral.enabled:
            start_while_importing(library)
        else:
            raise Misconfigured(
                "no Prefect server: set PREFECT_API_URL to one, or PREFECT_SERVER_EPHEMERAL_ENABLED=true to start one"
            )
        yield


def check_answers(url: str) -> None:
    """Raise `Unavailable` unless the configured server is there, `Misconfigured` if a setting stands in the way."""
    try:
        check_api_url(url)
        with get_client(sync_client=True) as client:
            client.read_flows(limit=1)  # its health it tells to anybody, also to those whom it will refuse
    except (OSError, RuntimeError, ValueError, InvalidURL, HTTPError, PrefectException) as problem:
        found = explain_unreachable(url)
        raise (found.error() if found else Unavailable(f"Prefect cannot use {mask_user(url)}: {problem}")) from problem


def start_while_importing(library: str) -> None:
    """Start the server that Prefect's clients will find, and use the wait. Raises `Unavailable` if that fails.

    One after the other: two servers that make or upgrade the same database at once stand in each other's way.
    """
    from prefect.server.api.server import SubprocessASGIServer

    home = get_current_settings().home
    problems: list[DigitrecError] = []

    def start() -> None:
        try:
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / "digitrec-server.lock"):
                SubprocessASGIServer().start()
        except OSError as error:
            problems.append(Misconfigured(f"Prefect's home {home} cannot be used ({error.strerror}): set PREFECT_HOME"))
        except RuntimeError as error:
            problems.append(Unavailable(f"Prefect's own server did not start: {error}; see {home}"))

    # A thread does not inherit the settings of its context; they are handed over.
    starting = Thread(target=copy_context().run, args=(start,))
    starting.start()
    import_module(library)
    starting.join()
    if problems:
        raise problems[0]
