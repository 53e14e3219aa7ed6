"""`python flows/….py`, typed by a person: from any folder, with a server or without, quietly, with an exit code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import get_current_settings, temporary_settings

FLOWS = Path(__file__).parents[2] / "flows"
NOISE = ("Traceback", "database is locked", "telemetry", "Error")


def start(script: str, *arguments: str, home: Path, **variables: str) -> subprocess.Popen[str]:
    """A flow's script as a process of its own, with no server but what `variables` name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, FLOWS / script, *arguments],
        env=environment | {"PREFECT_HOME": str(home)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=180)
    return process.returncode, stdout, stderr


def test_two_at_once_with_no_server_and_nothing_to_do(tmp_path: Path) -> None:
    """Started together in an empty home, both start a server, find nothing to score, and leave no noise."""
    both = [start("score.py", "--store", str(tmp_path / "store"), home=tmp_path / "home") for _ in range(2)]
    for code, stdout, stderr in [finish(process) for process in both]:
        assert code == 0, stderr
        assert stdout.splitlines()[-1].startswith("nothing to score")
        assert not [word for word in NOISE if word in stderr]


def test_a_configured_server_that_does_not_answer(tmp_path: Path) -> None:
    """With PREFECT_API_URL set to nobody, the script says so and what to do, and exits 69."""
    code, _, stderr = finish(start("train.py", home=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api"))
    assert code == 69
    assert stderr.startswith("error: the Prefect server at http://127.0.0.1:9/api (PREFECT_API_URL, ")
    assert "does not answer" in stderr
    assert len(stderr.splitlines()) == 1


def test_no_server_and_none_allowed(tmp_path: Path) -> None:
    """Where Prefect may not start a server of its own, the script names both ways out, and exits 78."""
    code, _, stderr = finish(start("train.py", home=tmp_path, PREFECT_SERVER_EPHEMERAL_ENABLED="false"))
    assert code == 78
    assert "PREFECT_API_URL" in stderr
    assert "PREFECT_SERVER_EPHEMERAL_ENABLED" in stderr


def test_an_unknown_option_is_refused_before_any_server_starts(tmp_path: Path) -> None:
    """A slip on the command line costs no wait: exit 64, one line."""
    code, _, stderr = finish(start("score.py", "--modell", "x", home=tmp_path))
    assert code == 64
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["ingest", "train", "score"])
def test_a_script_takes_the_options_of_the_command(name: str, tmp_path: Path) -> None:
    """`python flows/train.py --help` lists every option that `digitrec train --help` lists."""
    command = subprocess.run(
        [Path(sys.executable).with_name("digitrec"), name, "--help"], capture_output=True, text=True, check=True
    )
    code, stdout, _ = finish(start(f"{name}.py", "--help", home=tmp_path))
    assert code == 0
    assert options_in(command.stdout) <= options_in(stdout)


def options_in(text: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", text))


@pytest.mark.usefixtures("server", "flows")
def test_what_the_user_set_goes_before() -> None:
    """Our quiet settings are defaults: a user's own value stays."""
    from _server import server_at_hand

    with temporary_settings({"server.analytics_enabled": True}), server_at_hand("digitrec"):
        assert get_current_settings().server.analytics_enabled is True
        assert get_current_settings().server.ephemeral.startup_timeout_seconds == 120
