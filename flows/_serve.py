"""The process that _server.py starts: Prefect's server on a socket that it is given, for as long as its parent lives.

`python _serve.py SOCKET LIFE REPORT`, three inherited file descriptors: a bound socket; a pipe on which nothing is ever
sent, and that ends with the parent, whatever ends that; a pipe for one JSON object, when the server is ready or failed.
"""

import errno
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

REASONS = (
    # A part of what the error or one of its causes says, the exit code, and what is to be said of the database.
    (
        "can't locate revision",
        78,
        "{database} is of a newer Prefect than this, {version}: install that one, or {elsewhere}",
    ),
    ("not a database", 74, "{database} is damaged: move it away (only the history of runs is in it), or {elsewhere}"),
    ("malformed", 74, "{database} is damaged: move it away (only the history of runs is in it), or {elsewhere}"),
    ("is full", 74, "no space is left for {database}: free some, or {elsewhere}"),
    (os.strerror(errno.ENOSPC), 74, "no space is left for {database}: free some, or {elsewhere}"),
    ("readonly", 74, "{database} cannot be written: check the permissions, or {elsewhere}"),
    ("unable to open", 74, "{database} cannot be opened: check the permissions, or {elsewhere}"),
    (os.strerror(errno.EACCES), 74, "{database} cannot be written: check the permissions, or {elsewhere}"),
    (os.strerror(errno.EROFS), 74, "{database} cannot be written: the file system is read-only; {elsewhere}"),
    ("connect", 69, "the database {database} cannot be reached: {words}; see PREFECT_SERVER_DATABASE_CONNECTION_URL"),
)


class Report:
    """The pipe to the parent, for the first thing that is said on it."""

    def __init__(self, number: int) -> None:
        self._number: int | None = number

    def say(self, answer: dict[str, object]) -> None:
        if self._number is not None:
            os.write(self._number, json.dumps(answer).encode())
            os.close(self._number)
            self._number = None


def main() -> None:
    """Serve until the parent ends, or sends SIGTERM."""
    listening, life, report = (int(number) for number in sys.argv[1:])
    threading.Thread(target=end_with_parent, args=(life,), daemon=True).start()
    told = Report(report)
    try:
        serve(listening, told)
    except Exception as error:
        told.say(reason(error))
        raise


def end_with_parent(life: int) -> None:
    """Kill this process and its children, which are a group of their own, when the parent is gone."""
    os.read(life, 1)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def serve(listening: int, told: Report) -> None:
    """Start Prefect's server and serve.

    One starts at a time for each home: two that make or upgrade the same database stand in each other's way.
    """
    from filelock import FileLock
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    starting = FileLock(home / "digitrec-server.lock")
    starting.acquire()

    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            starting.release()
            told.say({"ready": True})

    app = create_app(ephemeral=True, final=True)

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            told.say(reason(error))  # of the start; later there is nobody to hear it
            raise

    with socket.socket(fileno=listening) as bound:
        Server(uvicorn.Config(watched, log_level="error", lifespan="on")).run([bound])


def reason(error: BaseException) -> dict[str, object]:
    """Why the server did not start, in a line with a remedy, and the exit code for it."""
    from prefect import __version__

    causes = list(causes_of(error))
    said = " ".join(str(cause) for cause in causes).lower()
    words = f"{type(causes[-1]).__name__}: {' '.join(str(causes[-1]).split())[:300]}"
    facts = {"database": database(), "version": __version__, "words": words, "elsewhere": "set PREFECT_HOME elsewhere"}
    for part, code, line in REASONS:
        if part.lower() in said:
            return {"code": code, "why": line.format(**facts)}
    return {"code": 69, "why": words}


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, last the first of all."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def database() -> str:
    """The server's database as a person knows it: a file, or a URL without its password."""
    from prefect.settings import get_current_settings
    from sqlalchemy.engine import make_url

    secret = get_current_settings().server.database.connection_url
    url = make_url(secret.get_secret_value() if secret else "")
    return url.database or "memory" if url.get_backend_name() == "sqlite" else url.render_as_string()


if __name__ == "__main__":
    main()
