"""A stage as Prefect shows it: a task with its log, a bar that moves, a failure in one line, and a fair second try.

Nothing here knows what a stage does. What is only for show never fails a run (`only_for_show`), and whatever comes from
outside is escaped before it is shown (`digitrec.shown`).
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import wraps
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from httpx import HTTPError
from prefect import Task, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import PrefectException
from prefect.logging.handlers import APILogHandler
from prefect.runtime import deployment
from prefect.states import Failed

from digitrec.errors import DigitrecError, Misconfigured
from digitrec.process import keep_signals
from digitrec.progress import Progress, Step
from digitrec.settings import Settings, load_settings
from digitrec.shown import fenced, printable
from digitrec.storage import is_relative
from digitrec.terminal import PrintableFormatter, as_digitrec_error, progress_shown

P = ParamSpec("P")
R = TypeVar("R")

PREFECTS = (HTTPError, PrefectException)
"""What an absent or refusing server looks like; of anything else that nobody foresaw, the log has a trace."""
RETRY_DELAYS_S = [5.0, 30.0]
MOVE_EVERY_S = 2.0
TABLE_ROWS = 100
"""A table in Prefect's UI is for looking at; the rest is in the store."""

NAME_MAX = 80
"""A name in the name of a run is cut to so many characters."""

LOG = logging.getLogger("digitrec")
RUN_LOGS = (logging.getLogger("prefect.task_runs"), logging.getLogger("prefect.flow_runs"))


def in_one_line(function: Callable[P, R]) -> Callable[P, R]:
    """Let a flow end as Failed with the error's own line as its message, without a trace, if the error is digitrec's.

    Whoever calls the flow still gets the error raised.
    """

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> Any:
        keep_signals()
        for log in RUN_LOGS:
            log.addFilter(without_trace)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            known = as_digitrec_error(error)
            if known is None:
                raise
            withhold_rows(known)
            return Failed(message="\n".join(map(printable, [str(known), *known.details])), data=known)

    return told


_withheld: dict[str, tuple[str, ...]] = {}
"""Rows, by the text of their error: Prefect hands on another error of the same text."""


def withhold_rows(error: DigitrecError) -> None:
    """Take the rows out of an error before Prefect logs, keeps or sends it, unless they may be shared."""
    if error.details and not load_settings().share_rows:
        _withheld[str(error)], error.details = error.details, ()


@contextmanager
def rows_given_back() -> Iterator[None]:
    """Put the rows that were taken out of an error into it again, for the terminal of whoever runs a script."""
    _withheld.clear()
    try:
        yield
    except DigitrecError as error:
        causes = (error, error.__cause__)  # one for several is raised from the first to tell
        error.details = error.details or next((rows for cause in causes if (rows := _withheld.get(str(cause)))), ())
        raise


def without_trace(record: logging.LogRecord) -> bool:
    """A filter: Prefect adds a trace when the last try has failed and when a worker's run ends; the line says all."""
    if record.exc_info and isinstance(record.exc_info[1], DigitrecError):
        record.exc_info = None
    return True


def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure is worth another try: storage, network or a lost worker, never bad data. Of several failures at
    once, if it may help any of them."""
    return isinstance(state.data, DigitrecError) and state.data.transient


def stage(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function that runs a stage a Prefect task. Digests decide what is already done, so nothing is cached."""

    def made(function: Callable[P, R]) -> Task[P, R]:
        @wraps(function)
        def withholding(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except DigitrecError as error:
                withhold_rows(error)
                raise

        return task(
            name=name,
            task_run_name=name,
            retries=len(RETRY_DELAYS_S),
            retry_delay_seconds=RETRY_DELAYS_S,
            retry_condition_fn=may_pass,
            cache_policy=NO_CACHE,
        )(withholding)

    return made


def settings_for(store: str | None) -> Settings:
    """The settings of this run. Raises `Misconfigured` for a deployed run with a relative store."""
    settings = load_settings(store=store)
    if deployment.id and is_relative(settings.store):
        raise Misconfigured(
            f"the store is {settings.store!r}, which every worker would read differently: "
            "a deployed run needs an absolute one; export DIGITREC_STORE=/… where the worker is started"
        )
    return settings


def abridged(names: Sequence[str]) -> str:
    """`train.csv`, `january.csv and 11 more`: names or paths, short enough for the name of a run."""
    first = printable(PurePath(names[0]).name, NAME_MAX) if names else ""
    return f"{first} and {len(names) - 1} more" if len(names) > 1 else first


@contextmanager
def shown(name: str) -> Iterator[Progress]:
    """Show the library's log and progress, in Prefect and on the terminal, while a stage runs."""
    handler, level, bar = RunLog(), LOG.level, Bar(name)
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        with progress_shown() as on_terminal:

            def show(step: Step) -> None:
                on_terminal(step)
                bar.show(step)

            yield show
    finally:
        bar.finish()
        LOG.removeHandler(handler)
        LOG.setLevel(level)


class RunLog(APILogHandler):
    """Sends the library's log to the run in which it was made, also what threads say that know of no run."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(PrintableFormatter("%(message)s"))
        self._context = copy_context()

    def emit(self, record: logging.LogRecord) -> None:
        self._context.copy().run(super().emit, record)


class Bar:
    """A progress artifact, made when a total is known, and moved at most every `MOVE_EVERY_S` seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._artifact: UUID | None = None
        self._moved_s = 0.0
        self._pending: Step | None = None

    def show(self, step: Step) -> None:
        self._pending = step
        if time.monotonic() - self._moved_s >= MOVE_EVERY_S:
            self.finish()

    def finish(self) -> None:
        """Show the last step there was."""
        step, self._pending = self._pending, None
        if step and step.total:
            self._moved_s = time.monotonic()
            with only_for_show("progress"):
                self._move(min(100 * step.done / step.total, 100.0), words(step))

    def _move(self, percent: float, description: str) -> None:
        if self._artifact is None:
            self._artifact = cast(UUID, create_progress_artifact(percent, f"{self._name}-progress", description))
        else:
            update_progress_artifact(self._artifact, percent, description)


def words(step: Step) -> str:
    """`score: 1,200 of 5,000 rows, rate 900/s`."""
    facts = printable("".join(f", {name} {value}" for name, value in step.facts.items()))
    return f"{step.stage}: {step.done:,.0f} of {step.total or 0:,.0f} {step.unit}{facts}"


def as_text(lines: Sequence[str]) -> str:
    """A report's lines, at most `TABLE_ROWS`, as Markdown that keeps them as they are."""
    more = [f"… and {len(lines) - TABLE_ROWS:,} more lines"] if len(lines) > TABLE_ROWS else []
    return fenced([*lines[:TABLE_ROWS], *more])


def leave(name: str, lines: Sequence[str], rows: Sequence[dict[str, Any]] = ()) -> None:
    """Leave a result as artifacts of the run: a report's lines, and a table of at most `TABLE_ROWS` rows."""
    show_markdown(f"{name}-summary", as_text(lines))
    show_table(f"{name}-table", rows)


def show_table(key: str, rows: Sequence[dict[str, Any]]) -> None:
    more = f"the first {TABLE_ROWS} of {len(rows):,}" if len(rows) > TABLE_ROWS else None
    shown = [{name: printable(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows[:TABLE_ROWS]]
    if rows:
        with only_for_show(key):
            create_table_artifact(shown, key, more)


def show_markdown(key: str, markdown: str) -> None:
    with only_for_show(key):
        create_markdown_artifact(markdown, key)


def show_link(key: str, link: str, words: str) -> None:
    with only_for_show(key):
        create_link_artifact(link, words, key)


@contextmanager
def only_for_show(what: str, notes: list[str] | None = None) -> Iterator[None]:
    """Let the work go on when `what` is only for looking at and cannot be made or shown, whatever the reason: the
    store, the server, or a bug of ours. It is said in the log, and in `notes`.
    """
    try:
        yield
    except Exception as error:
        told = f"cannot show {what}: {type(error).__name__}: {error}"
        LOG.warning("%s", told, exc_info=as_digitrec_error(error) is None and not isinstance(error, PREFECTS))
        if notes is not None:
            notes.append(told)
