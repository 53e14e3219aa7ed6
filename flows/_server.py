"""`python flows/….py` with no server running: one is started for the run, quickly and quietly, and ends with it.

What is set here are defaults: what the environment, a profile or a prefect.toml says goes before. Prefect would start
such a server by itself, but one that outlives a killed script, and it waits for two minutes for one that has failed.
"""

import atexit
import errno
import json
import logging
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

from _proxies import keep_off_loopback
from _stage import rows_given_back
from httpx import HTTPError, InvalidURL
from prefect.client.orchestration import get_client
from prefect.context import refresh_global_settings_context
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings, temporary_settings

from digitrec.addresses import check_api_url, mask_user
from digitrec.errors import DigitrecError, Misconfigured, StorageFailed, Unavailable, explain
from digitrec.orchestration import explain_unreachable

LOG = logging.getLogger("digitrec")
DEFAULTS = {
    # At each start the server would report home; where there is no way out, that ends in a trace.
    "server.analytics_enabled": False,
    # The very first start makes the database: 17–24 s on two idle cores, and Prefect would give up after 20.
    "server.ephemeral.startup_timeout_seconds": 120,
    # Heartbeats tell a server which of its workers' runs are dead. A person sees that; each run would end 1 s later.
    "flows.heartbeat_frequency": None,
}
ANSWER_S = 10.0
"""Time for a configured server to answer."""
STOP_S = 5.0
"""Time for our own to write down what it was told last."""
LOG_BYTES = 1 << 20
ERRORS: dict[int, type[DigitrecError]] = {69: Unavailable, 74: StorageFailed, 78: Misconfigured}


@contextmanager
def server_at_hand(library: str) -> Iterator[None]:
    """Have a Prefect server for what runs inside: the one that is configured, or one of our own.

    Our own needs seconds to start, in which the module `library` is imported. Its database is a file in PREFECT_HOME,
    which `prefect server start` shares, and so shows these runs later.
    Raises `Unavailable` if the server does not answer, `Misconfigured` if there may be none or a setting is in its way,
    `StorageFailed` if its database cannot be used.
    """
    # At the end Prefect would count aloud the events that it is still sending.
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)
    settings = get_current_settings()
    keep_off_loopback(settings.api.url)
    if settings.api.url:
        check_answers(settings.api.url)
    elif settings.server.ephemeral.enabled:
        start_while_importing(library)
    else:
        raise Misconfigured(
            "no Prefect server: set PREFECT_API_URL to one, or PREFECT_SERVER_EPHEMERAL_ENABLED=true to start one"
        )
    with temporary_settings(set_defaults=DEFAULTS), rows_given_back():
        yield


def check_answers(url: str) -> None:
    """Raise `Unavailable` unless the configured server is there, `Misconfigured` if a setting stands in the way."""
    try:
        check_api_url(url)
        with (
            temporary_settings({"client.max_retries": 0}),
            get_client(sync_client=True, httpx_settings={"timeout": ANSWER_S}) as client,
        ):
            client.read_flows(limit=1)  # its health it tells to anybody, also to those whom it will refuse
    except (OSError, RuntimeError, ValueError, InvalidURL, HTTPError, PrefectException) as problem:
        found = explain_unreachable(url)
        raise (found.error() if found else Unavailable(mask_user(f"Prefect cannot use {url}: {problem}"))) from problem


def start_while_importing(library: str) -> None:
    """Start a server, use the wait, and let all of Prefect in this process, and in its children, use that server."""
    with temporary_settings(set_defaults=DEFAULTS):
        server = OwnServer()
        atexit.register(server.stop)
        import_module(library)
        server.wait()
    os.environ["PREFECT_API_URL"] = server.url
    os.environ["PREFECT_API_AUTH_STRING"] = server.password
    os.environ["PREFECT_UI_URL"] = ""  # it has none to link to
    refresh_global_settings_context()


class OwnServer:
    """Prefect's server as a child (_serve.py) that ends with this process, however that ends.

    It is a session of its own: a terminal's Ctrl-C goes to this process alone, which can still tell it of the end.
    """

    def __init__(self) -> None:
        settings = get_current_settings()
        self.home = settings.home
        self.password = f"digitrec:{secrets.token_urlsafe()}"
        self.limit_s = settings.server.ephemeral.startup_timeout_seconds
        log = self._open_log()
        life, self._life = os.pipe()
        self._report, report = os.pipe()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}{settings.server.api.base_path or '/api'}"
            inherited = (listening.fileno(), life, report)
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("_serve.py"), *map(str, inherited)],
                env=os.environ
                | settings.to_environment_variables(exclude_unset=True)
                | {"PREFECT_UI_ENABLED": "0", "PREFECT_SERVER_API_AUTH_STRING": self.password},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherited,
                start_new_session=True,
            )
        for number in (log, life, report):
            os.close(number)
        self._ready = False

    @property
    def _log_path(self) -> Path:
        return self.home / "digitrec-server.log"

    def _open_log(self) -> int:
        """The file for the traces of all servers of this home; a large one is begun anew."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            log = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if os.fstat(log).st_size > LOG_BYTES:
                os.ftruncate(log, 0)
            return log
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StorageFailed(explain(error, "write")) from error
            why = f"cannot be used ({error.strerror}): set PREFECT_HOME"
            raise Misconfigured(f"Prefect's home {self.home} {why}") from error

    def wait(self) -> None:
        """Return when the server is ready. Raises a `DigitrecError` as soon as it has failed."""
        LOG.info("starting a Prefect server for this run, with the database in %s", self.home)
        readable, _, _ = select.select([self._report], [], [], self.limit_s)
        if not readable:
            raise Unavailable(f"Prefect's own server did not start within {self.limit_s} s; see {self._log_path}")
        said = json.loads(os.read(self._report, 1 << 16) or "{}")
        if said.get("ready"):
            self._ready = True
            return
        code = said.get("code", 69)
        why = said.get("why") or f"it ended with {how_it_ended(self._process.wait())}"
        raise ERRORS[code](f"Prefect's own server did not start: {why}; its log is {self._log_path}")

    def stop(self) -> None:
        """End the server: in order if it has served, else at once."""
        end = time.monotonic() + (STOP_S if self._ready else 0)
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0, end - time.monotonic()))
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def how_it_ended(code: int) -> str:
    """`exit code 3`, `SIGKILL`."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
