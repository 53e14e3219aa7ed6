"""A command's process: it ends in time on a signal, and what becomes of its output says nothing about its outcome."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from digitrec.catalog.listing import published
from digitrec.catalog.store import Store

ROOT = Path(__file__).parents[1]
PRELUDE = """
import os, signal, sys, time
from digitrec.process import prepare_process
from digitrec.terminal import outcome
prepare_process()
"""
LOST_IN_A_FINALIZER = """
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            time.sleep(0.0001)
def command():
    Last()
    time.sleep(60)
sys.exit(outcome(command))
"""
SWALLOWED = """
def command():
    while True:
        try:
            os.write(1, b"ready\\n")
            time.sleep(60)
        except BaseException:
            pass
sys.exit(outcome(command))
"""
MADE_A_BUG = """
import logging
def command():
    try:
        os.write(1, b"ready\\n")
        time.sleep(60)
    except BaseException:
        logging.getLogger("library").exception("half made")
        raise UnboundLocalError("task_run")
sys.exit(outcome(command))
"""
IN_ORDER = """
def command():
    try:
        os.write(1, b"ready\\n")
        time.sleep(60)
    finally:
        print("tidied up", flush=True)
sys.exit(outcome(command))
"""
IMPORTING = """
import pathlib, resource, tempfile, threading
threading.stack_size(1 << 30)
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29),) * 2)  # no memory for another thread
folder = tempfile.mkdtemp()
pathlib.Path(folder, "blames_others.py").write_text(
    "import os, time\\n"
    "try:\\n"
    "    os.write(1, b'ready\\\\n'); time.sleep(0.3)\\n"
    "except BaseException as error:\\n"
    "    raise ImportError('the field has no schema') from error\\n"
)
sys.path.insert(0, folder)
def command():
    import blames_others
    try:
        time.sleep(60)
    finally:
        print("imported whole, tidied up", flush=True)
sys.exit(outcome(command))
"""
BEFORE_THE_COMMAND = """
os.write(1, b"ready\\n")
time.sleep(60)
"""
RAISED_BY_PREFECT = """
from prefect.exceptions import TerminationSignal
def command():
    raise TerminationSignal(signal.SIGTERM)
sys.exit(outcome(command))
"""
AFTER_THE_COMMAND = """
import atexit
from digitrec.errors import BadData
from digitrec.process import end_process
def stop():
    os.kill(os.getpid(), {number})
    time.sleep(60)
atexit.register(stop)
def command():
    print("the answer")
    if {fails}:
        raise BadData("no digits")
end_process(outcome(command))
"""
WHILE_PYTHON_ENDS = """
import atexit
from digitrec.process import end_process
class Kept:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):
        kill(pid, number)
kept = Kept()
atexit.register(print, "tidied up")
end_process(outcome(lambda: print("the answer")))
"""
LOG_IS_HELD_BACK = """
import logging
from logging.handlers import MemoryHandler
from digitrec.process import end_process
log = logging.getLogger("somebody's")
log.addHandler(MemoryHandler(9, target=logging.StreamHandler(sys.stdout)))
log.warning("said at last")
end_process(outcome(lambda: None))
"""
EXIT_IN_A_FINALIZER = """
class Last:
    def __del__(self):
        sys.exit(5)
def command():
    Last()
    time.sleep(0.2)
sys.exit(outcome(command))
"""
CHILD_IS_SIGNALLED = """
def command():
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    time.sleep(3)  # longer than a parent that was told would go on
    print(ended)
sys.exit(outcome(command))
"""
REDIRECTIONS = [
    ">&-",
    ">/dev/full",
    "| true",
    "2>&-",
    "2>/dev/full",
    ">&- 2>&-",
    ">/dev/full 2>/dev/full",
    "<&- >&- 2>&-",
]


def run(program: str, *signals: signal.Signals) -> tuple[int, str, str]:
    """Run a program, send it the signals once it is ready; exit code, stdout, stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    if signals:
        process.stdout.readline()
    for number in signals:
        process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_command_in_order(number: signal.Signals) -> None:
    """What a command does at its end is done; exit 130, one line."""
    code, stdout, stderr = run(IN_ORDER, number)
    assert (code, stdout) == (130, "tidied up\n")
    assert stderr == "error: interrupted; nothing half-done is visible, the same command goes on\n"


@pytest.mark.parametrize("program", [SWALLOWED, BEFORE_THE_COMMAND], ids=["swallowed", "before the command"])
def test_a_signal_ends_whatever_is_done(program: str) -> None:
    """A library that catches everything, or imports that have not come to an end: exit 130, one line, no trace."""
    code, _, stderr = run(program, signal.SIGINT)
    assert (code, stderr.count("\n")) == (130, 1)
    assert stderr.startswith("error: interrupted")


def test_what_an_interrupt_broke_is_no_bug() -> None:
    """A library that is interrupted in its midst may raise and log anything: exit 130, no trace."""
    code, _, stderr = run(MADE_A_BUG, signal.SIGTERM)
    assert code == 130
    assert stderr.splitlines() == [
        "half made", "error: interrupted; nothing half-done is visible, the same command goes on",
    ]  # fmt: skip


def test_an_interrupt_in_the_words_of_prefect_is_one() -> None:
    """Its handler of SIGTERM stands for a moment before ours, and raises what is no `Exception`: exit 130, one line."""
    assert run(RAISED_BY_PREFECT) == (
        130, "", "error: interrupted; nothing half-done is visible, the same command goes on\n",
    )  # fmt: skip


def test_an_interrupt_that_hits_a_finalizer_is_not_lost() -> None:
    """Where nothing can be raised Python would print a trace and go on; it is raised a moment later instead."""
    code, _, stderr = run(LOST_IN_A_FINALIZER)
    assert (code, stderr.count("\n")) == (130, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_import_inside_a_command_is_not_interrupted(number: signal.Signals) -> None:
    """It would leave half a module, or end as another error of a library: the interrupt comes right after it, also
    where no thread can be started."""
    assert run(IMPORTING, number) == (
        130,
        "imported whole, tidied up\n",
        "error: interrupted; nothing half-done is visible, the same command goes on\n",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize(("fails", "code", "said"), [(False, 0, ""), (True, 65, "error: no digits\n")], ids=[0, 65])
def test_a_signal_after_the_command_changes_nothing(number: signal.Signals, fails: bool, code: int, said: str) -> None:
    """It cuts short what is done at exit, as stopping a server; exit code, output and the one line of error stay."""
    assert run(AFTER_THE_COMMAND.format(number=int(number), fails=fails)) == (code, "the answer\n", said)


def test_a_signal_while_python_ends_changes_nothing() -> None:
    """When handlers of signals are gone already, the exit code stays, exit handlers have run, and output is whole."""
    assert run(WHILE_PYTHON_ENDS) == (0, "the answer\ntidied up\n", "")


def test_what_a_log_holds_back_is_said_at_the_end() -> None:
    """Logging's exit handler is older than ours, and runs all the same."""
    assert run(LOG_IS_HELD_BACK) == (0, "said at last\n", "")


def test_only_an_interrupt_is_raised_again() -> None:
    """What else a finalizer raises is told, as Python does, and is nobody's Ctrl-C."""
    code, _, stderr = run(EXIT_IN_A_FINALIZER)
    assert code == 0, stderr
    assert "SystemExit: 5" in stderr


def test_a_signal_to_a_forked_child_is_its_own() -> None:
    """A child ends by it, and its parent goes on."""
    assert run(CHILD_IS_SIGNALLED) == (0, "-15\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_command_while_it_is_imported(number: signal.Signals, tmp_path: Path) -> None:
    """Exit 130, one line, no trace."""
    process = subprocess.Popen(
        [sys.executable, "-m", "digitrec", "list", "datasets"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([waiting("cyclopts", tmp_path), str(ROOT)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.readline()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr.count("\n")) == (130, 1), stderr


def waiting(package: str, folder: Path) -> str:
    """A folder with a package that says on standard output that it is being imported, which then takes for ever."""
    (folder / f"{package}.py").write_text("import os, time; os.write(1, b'ready\\n'); time.sleep(100)")
    return str(folder)


def test_under_nohup_a_hang_up_is_ignored() -> None:
    """A signal that the caller ignores stays ignored."""
    program = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nprepare_process()\nos.kill(os.getpid(), signal.SIGHUP)"
    assert run(program) == (0, "", "")


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "digits.csv"
    path.write_text("label," + ",".join(f"pixel{n}" for n in range(784)) + "\n" + "7," + ",".join(["200"] * 784) + "\n")
    return path


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_what_was_published_is_published(redirection: str, csv: Path, tmp_path: Path) -> None:
    """Closed, full or broken standard channels: exit 0, the dataset is there, and nobody speaks of a bug."""
    command = Path(sys.executable).with_name("digitrec")
    shell = f"set -o pipefail; '{command}' --store store ingest '{csv}' {redirection}"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "bug" not in done.stderr + done.stdout
    assert len(published(Store.at(tmp_path / "store"), "dataset")) == 1
    if redirection in (">&-", ">/dev/full"):
        assert "could not be written to standard output" in done.stderr


def test_a_failure_keeps_its_code_without_channels(tmp_path: Path) -> None:
    """With nowhere to say it, bad data is still 65."""
    (tmp_path / "bad.csv").write_text("nonsense\n")
    command = Path(sys.executable).with_name("digitrec")
    shell = f"'{command}' --store store ingest bad.csv >&- 2>/dev/full"
    assert subprocess.run(["bash", "-c", shell], cwd=tmp_path, timeout=120).returncode == 65


def test_no_file_gets_the_number_of_a_closed_channel() -> None:
    """Numbers 0 to 2 are taken before anything is opened."""
    program = "import os\nfrom digitrec.process import prepare_process\nprepare_process()\n" + (
        "raise SystemExit(0 if os.open('/', os.O_RDONLY) > 2 else 'taken')"
    )
    shell = f"'{sys.executable}' -c \"{program}\" <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", shell], env=dict(os.environ), timeout=60).returncode == 0
