"""How a command meets a person: options common to all, progress, reports, and errors as one line with an exit code.

Shared by `digitrec` and the flows' scripts, so that both behave alike.
"""

import errno
import gc
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from typing import Annotated, Any, ClassVar, NoReturn, Protocol

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import ValidationError as RefusedOption
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from digitrec.catalog.store import Store
from digitrec.errors import DigitrecError, Interrupted, UsageError, told_by_system
from digitrec.private import provide_home
from digitrec.process import (
    INTERRUPTED,
    channel_of,
    end_process,
    ending_in_order,
    is_interrupt,
    prepare_process,
    tell_once,
    was_interrupted,
)
from digitrec.progress import Progress, Step
from digitrec.settings import Settings, load_settings
from digitrec.shown import printable, printable_lines

LOG_EVERY_S = 5.0
COLLECT_SELDOM = 100_000, 50, 100
"""Most objects of a command are its modules', and live to its end. To search them for garbage as often as Python does
by default takes 0.1 s of every command, and 4 % of a large ingest."""
LOG = logging.getLogger("digitrec")
CONSOLE = Console(stderr=True)
"""One for log and bars, so that a log line goes above a bar and not into it."""


@dataclass(frozen=True)
class Context:
    """What every command is given: where the store is, the settings, and how to answer."""

    store: Store
    settings: Settings
    json: bool = False


Here = Annotated[Context, Parameter(parse=False)]
"""Type of a command's parameter that receives the `Context` instead of an option."""


class Report(Protocol):
    """What a stage returns: a frozen dataclass that can say itself in lines."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def lines(self) -> list[str]: ...


def make_app(name: str, help_text: str, version: str) -> App:
    """An application with the options every command has; register commands on it, then hand it to `run_app`."""
    app = App(
        name=name,
        help=help_text,
        version=version,
        default_parameter=Parameter(negative_iterable=()),
    )
    app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # `outcome` says how to go on
    app.meta.group_parameters = Group("Options of every command", sort_key=9)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        store: Annotated[
            str | None, Parameter(help="root folder of all data (DIGITREC_STORE; default ./store)")
        ] = None,
        json: Annotated[bool, Parameter(negative=(), help="answer in JSON, for scripts")] = False,
        debug: Annotated[bool, Parameter(negative=(), help="show traces of errors")] = False,
    ) -> Any:
        command, bound, special = app.parse_args(tokens, exit_on_error=False, print_error=False)
        settings = load_settings(store=store)
        context = Context(Store.at(settings.store), settings, json)
        given = {parameter: context for parameter, kind in special.items() if kind is Context}
        return command(*bound.args, **bound.kwargs, **given)

    return app


def run_app(app: App, tokens: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with the exit code that its outcome has (digitrec/errors.py).

    Without `tokens` the process is taken to be the command's own.
    """
    if tokens is None:
        prepare_process()
        tokens = sys.argv[1:]
    tokens = list(tokens)
    gc.set_threshold(*COLLECT_SELDOM)
    print_anything()
    set_up_logging()

    def command() -> None:
        provide_home()
        app.meta(tokens, exit_on_error=False, print_error=False, result_action="return_value")

    code = outcome(command)
    if code and "--debug" in tokens:
        sys.stderr.write(printable_lines("".join(traceback.format_exception(sys.last_value))))
    end_process(code)


def print_anything() -> None:
    """Let no character stop a report: one that the terminal's encoding lacks is printed as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def outcome(command: Callable[[], object]) -> int:
    """Run `command` and return its exit code.

    An error is told on stderr in one line, with its details below, and kept in `sys.last_value`.
    """
    try:
        with ending_in_order():
            command()
        return 0
    except SystemExit:
        raise
    except BaseException as error:
        sys.last_value = error
        told = as_digitrec_error(error)
        if was_interrupted() and not isinstance(told, Interrupted):
            told = Interrupted(INTERRUPTED)
        if told is None:
            say(f"error: a bug in digitrec: {type(error).__name__}: {one_line(error)}; --debug shows the trace")
            return 70
        if not isinstance(told, Interrupted) or tell_once():
            say("\n  ".join([f"error: {told}", *told.details]))
        return told.exit_code


def as_digitrec_error(error: BaseException) -> DigitrecError | None:
    """The error as one of ours, or None if it is a bug: also what other people's settings for a library have caused."""
    if isinstance(error, DigitrecError):
        return error
    if is_interrupt(type(error)):
        return Interrupted(INTERRUPTED)
    if isinstance(error, CycloptsError):
        return UsageError(refusal(error))
    if isinstance(error, OSError) and error.errno:
        return told_by_system(error, "use")
    from digitrec.foreign import blame

    return blame(error)


def refusal(error: CycloptsError) -> str:
    """What was wrong with the command line, in one line that ends with where to look."""
    cause = error.__cause__
    if isinstance(error, RefusedOption) and cause is not None and hasattr(cause, "errors"):
        first = cause.errors()[0]
        option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        told = first["msg"].removeprefix("Value error, ")
        return f"{option} {first['input']}: {told[0].lower()}{told[1:]}; see --help"
    return f"{one_line(error).rstrip('.')}; see --help"


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def say(line: str) -> None:
    """One line for the person, on stderr, where it cannot be mistaken for the answer."""
    sys.stderr.write(printable_lines(line) + "\n")


def answer(context: Context, report: Report) -> None:
    """Print what a command found: lines for a person, or one JSON object for a script.

    What was done is done whether or not the answer arrives; that it did not is a note on stderr.
    """
    lines = [json.dumps(asdict(report), sort_keys=True, default=str)] if context.json else report.lines()
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)
    sys.stdout.flush()
    channel = channel_of(sys.stdout)
    if channel and channel.lost and channel.lost.errno != errno.EPIPE:  # who closes a pipe has seen enough
        say(f"note: the answer could not be written to standard output ({channel.lost.strerror}); what was done stands")


class PrintableFormatter(logging.Formatter):
    """Each record is one line, whatever its message holds; a trace below it keeps its lines, and nothing else."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def set_up_logging() -> None:
    """Send the library's log to stderr: coloured on a terminal, plain lines with times elsewhere."""
    if CONSOLE.is_terminal:
        handler: logging.Handler = RichHandler(
            console=CONSOLE, show_path=False, show_level=False, log_time_format="%X", markup=False
        )
        handler.setFormatter(PrintableFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """Progress as bars on a terminal, as a log line every few seconds otherwise."""
    if not CONSOLE.is_terminal:
        yield logged_progress()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    facts = TextColumn("{task.fields[facts]}", markup=False)
    with Bars(*columns, facts, console=CONSOLE, transient=True) as bars:
        yield bar_progress(bars)


def bar_progress(bars: Bars) -> Progress:
    """A bar for each stage, made when the stage first speaks."""
    tasks: dict[str, Any] = {}

    def show(step: Step) -> None:
        if step.stage not in tasks:
            tasks[step.stage] = bars.add_task(step.stage, total=step.total, facts="")
        bars.update(tasks[step.stage], completed=step.done, total=step.total, facts=facts_of(step))

    return show


def logged_progress() -> Progress:
    """A log line at most every `LOG_EVERY_S` seconds; none for what is done sooner, or what the stage logs itself."""
    last = time.monotonic()

    def show(step: Step) -> None:
        nonlocal last
        if not step.logged and time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            share = f" ({step.done / step.total:.0%})" if step.total else ""
            LOG.info("%s: %s %s%s %s", step.stage, f"{step.done:,.0f}", step.unit, share, facts_of(step))

    return show


def facts_of(step: Step) -> str:
    return printable(", ".join(f"{name} {value}" for name, value in step.facts.items()))
