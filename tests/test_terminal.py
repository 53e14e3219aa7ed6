"""Whatever happens, a person gets one line and a script gets the right exit code."""

import errno
import json
import logging
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated

import pytest
from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from digitrec import errors
from digitrec.options import TrainOptions
from digitrec.progress import Step
from digitrec.terminal import LOG, Here, answer, logged_progress, make_app, progress_shown, run_app, set_up_logging

LEAVES = [
    errors.UsageError, errors.BadData, errors.NoInput, errors.Unavailable, errors.ComputationFailed,
    errors.AlreadyPublished, errors.StorageFailed, errors.Corrupt, errors.TryAgain, errors.Misconfigured,
    errors.Interrupted,
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *tokens: str, raises: BaseException | None = None) -> tuple[int, str, str]:
    """Run a small application; `raises` is what its command `fail` raises. Returns exit code, stdout, stderr."""
    app = make_app("small", "An application.", "1.2.3")

    @app.command
    def fail(*, context: Here) -> None:
        if raises is not None:
            raise raises

    @app.command
    def train(*, options: Annotated[TrainOptions, Parameter(name="*")] = TrainOptions(), context: Here) -> None:
        answer(context, Told(options.seed, context.store.url))

    with pytest.raises(SystemExit) as ended:
        run_app(app, list(tokens))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@dataclass(frozen=True)
class Told:
    seed: int
    store: str

    def lines(self) -> list[str]:
        return [f"seed {self.seed}", f"in {self.store}"]


@pytest.mark.parametrize("kind", LEAVES)
def test_each_error_ends_with_its_code_and_one_line(
    kind: type[errors.DigitrecError], capsys: pytest.CaptureFixture[str]
) -> None:
    """No trace; the message as it was raised, after `error:`."""
    assert run(capsys, "fail", raises=kind("what, where; do this")) == (
        kind.exit_code,
        "",
        "error: what, where; do this\n",
    )


def test_details_stand_below_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that an error carries are shown to whoever runs the command; its message, which travels, is without them."""
    error = errors.BadData("2 of 3 rows were refused", details=("a.csv:2: 7,0,0", "a.csv:3: 8,0,0"))
    assert str(error) == "2 of 3 rows were refused"
    _, _, err = run(capsys, "fail", raises=error)
    assert err == "error: 2 of 3 rows were refused\n  a.csv:2: 7,0,0\n  a.csv:3: 8,0,0\n"


@pytest.mark.parametrize("kind", LEAVES)
def test_details_pass_from_process_to_process(kind: type[errors.DigitrecError]) -> None:
    """Pickled, as between workers and driver, an error keeps its class, message and details."""
    error = pickle.loads(pickle.dumps(kind("what", details=["a row"])))
    assert (type(error), str(error), error.details) == (kind, "what", ("a row",))


def test_the_codes_are_the_bsd_ones() -> None:
    """sysexits.h, and 130 for an interrupt."""
    assert {kind.exit_code for kind in LEAVES} == {64, 65, 66, 69, 70, 73, 74, 75, 78, 130}


def test_only_passing_troubles_are_worth_a_retry() -> None:
    """Storage, network and a moving source may pass; bad data never does."""
    assert {kind.__name__ for kind in LEAVES if kind.transient} == {"Unavailable", "StorageFailed", "TryAgain"}


def test_a_bug_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    """An unforeseen exception: exit 70, its type and text in one line, and how to see more."""
    code, _, err = run(capsys, "fail", raises=ZeroDivisionError("a\nb"))
    assert (code, err) == (70, "error: a bug in digitrec: ZeroDivisionError: a b; --debug shows the trace\n")


def test_debug_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """--debug adds where it happened."""
    _, _, err = run(capsys, "fail", "--debug", raises=errors.BadData("wrong"))
    assert "Traceback" in err
    assert err.startswith("error: wrong\n")


def test_the_operating_system_refusing_is_a_storage_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """An OSError that nobody foresaw is still told with file, reason and remedy."""
    error = PermissionError(errno.EACCES, "Permission denied", "/there/file")
    assert run(capsys, "fail", raises=error)[0::2] == (
        74, "error: cannot use /there/file: Permission denied; check the permissions\n",
    )  # fmt: skip


def test_an_interrupt_says_that_the_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C: exit 130."""
    code, _, err = run(capsys, "fail", raises=KeyboardInterrupt())
    assert code == 130
    assert "the same command goes on" in err


@pytest.mark.parametrize(
    ("tokens", "word"),
    [
        (["nonsense"], "nonsense"),
        (["train", "--nonsense"], "--nonsense"),
        (["train", "--seed", "-1"], "--seed -1: input should be greater than or equal to 0"),
        (["train", "--preset", "huge"], "--preset huge: input should be 'quick', 'default' or 'best'"),
        (["train", "surplus"], "surplus"),
    ],
)
def test_a_wrong_command_line_is_quoted(tokens: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 64, one line that quotes what was wrong and points to --help."""
    code, out, err = run(capsys, *tokens)
    assert (code, out, err.count("\n")) == (64, "", 1)
    assert word in err
    assert err.endswith("see --help\n")


def test_a_wrong_setting_names_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 78: the variable, what it holds, what was expected."""
    monkeypatch.setenv("DIGITREC_THREADS", "many")
    code, _, err = run(capsys, "train")
    assert code == 78
    assert err.startswith("error: DIGITREC_THREADS is 'many': ")


def test_option_before_variable_before_file_before_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The store: --store, then DIGITREC_STORE, then the file that DIGITREC_ENV_FILE names, then ./store."""
    assert f"in {tmp_path}/store\n" in run(capsys, "train")[1]
    (tmp_path / "mine.env").write_text("DIGITREC_STORE=from-file\n")
    monkeypatch.setenv("DIGITREC_ENV_FILE", "mine.env")
    assert f"in {tmp_path}/from-file\n" in run(capsys, "train")[1]
    monkeypatch.setenv("DIGITREC_STORE", "from-variable")
    assert f"in {tmp_path}/from-variable\n" in run(capsys, "train")[1]
    assert "in /from/option\n" in run(capsys, "train", "--store", "/from/option")[1]


def test_scripts_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    """--json: one object on stdout with every field of the report."""
    _, out, _ = run(capsys, "train", "--seed", "3", "--json", "--store", "/s")
    assert json.loads(out) == {"seed": 3, "store": "/s"}


def test_progress_off_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log line every few seconds; none for what is done at once, none for what the stage logs itself."""
    now = [0.0]
    monkeypatch.setattr("digitrec.terminal.time.monotonic", lambda: now[0])
    monkeypatch.setattr(LOG, "propagate", True)
    monkeypatch.setattr(LOG, "handlers", [])
    with caplog.at_level(logging.INFO, "digitrec"):
        show = logged_progress()
        for second in range(12):
            now[0] = float(second)
            show(Step("ingest", second * 10, 120, "bytes", {"rejects": "0"}))
            show(Step("train", second, 12, "epochs", logged=True))
    assert [record.getMessage() for record in caplog.records] == [
        "ingest: 50 bytes (42%) rejects 0", "ingest: 100 bytes (83%) rejects 0",
    ]  # fmt: skip


def test_a_terminal_shows_one_live_line_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share done, the time left, and the stage's own facts, such as rows/s and the share of unsure rows."""
    screen = StringIO()
    monkeypatch.setattr("digitrec.terminal.CONSOLE", Console(file=screen, force_terminal=True, width=120))
    with progress_shown() as show:
        show(Step("score", 250_000, 1_000_000, "rows", {"rows/s": "125,000", "unsure": "1.2%"}))
    line = Text.from_ansi(screen.getvalue()).plain
    assert re.search(r"score .* 25% (-|\d)+:..(:..)? rows/s 125,000, unsure 1\.2%", line)


def test_progress_can_be_shown_anywhere() -> None:
    """Without a terminal, showing progress does nothing harmful."""
    with progress_shown() as show:
        show(Step("train", 1, None, "epochs"))


HOSTILE = "a\x1b[2J\x1b]0;title\x07\u202e\r\x9b31m\ud800\udcff.csv"


@pytest.mark.parametrize("kind", [*LEAVES, ValueError])
def test_no_terminal_code_gets_out_of_an_error(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in the name of a file, error and trace show it as escapes."""
    for tokens in (["fail"], ["fail", "--debug"]):
        _, _, err = run(capsys, *tokens, raises=kind(f"{HOSTILE} is wrong"))
        assert all(line.isprintable() for line in err.split("\n"))
        assert "a\\x1b[2J" in err


def test_no_terminal_code_gets_out_of_a_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nor a forged line: each line of a report is one line."""
    _, out, _ = run(capsys, "train", "--store", f"{tmp_path}/s\nforged\x1b[31m")
    assert out == f"seed 0\nin {tmp_path}/s\\nforged\\x1b[31m\n"
    _, out, _ = run(capsys, "train", "--json", "--store", f"{tmp_path}/\x1b")
    assert json.loads(out)["store"] == f"{tmp_path}/\x1b"
    assert "\x1b" not in out


@pytest.mark.parametrize("terminal", [True, False])
def test_no_terminal_code_gets_out_of_the_log(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record is one line; markup in it is text; a trace keeps its lines."""
    screen = StringIO()
    console = Console(file=screen, force_terminal=terminal, width=400, color_system=None)
    monkeypatch.setattr("digitrec.terminal.CONSOLE", console)
    set_up_logging()
    LOG.info("looking at %s", f"[red]{HOSTILE}\n12:00:00 forged")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        LOG.exception("wrong")
    text = screen.getvalue() if terminal else capsys.readouterr().err
    assert all(line.isprintable() for line in text.split("\n"))
    assert "[red]a\\x1b[2J" in text
    assert "Traceback" in text
    assert not [line for line in text.splitlines() if line.startswith("12:00:00 forged")]


def test_a_character_that_the_terminal_lacks_is_no_bug(tmp_path: Path) -> None:
    """In an encoding without it, it is printed as an escape."""
    done = subprocess.run(
        [sys.executable, "-c", "from digitrec.cli import main; main()", "list", "datasets", "--store", tmp_path / "é≤"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout.decode()) == (0, f"no datasets in {tmp_path}/\\xe9\\u2264\n")
