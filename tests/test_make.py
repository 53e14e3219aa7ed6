"""`make` sets itself up with any Python from 3.11 on, and says which, or why there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "make", "head", "touch", "echo", "env", "mkdir", "cat", "chmod")
GOOD = f'exec "{sys.executable}" "$@"'
OLD = 'echo "it is Python 3.9" >&2; exit 1'
SHIM = 'echo "pyenv: python3.12: command not found" >&2; exit 127'
PIP = r"mkdir -p .venv/bin && printf '#!/bin/sh\nexit 0\n' > .venv/bin/pip && chmod +x .venv/bin/pip"
MAKES = f'case "$1" in -m) {PIP};; *) {GOOD};; esac'
BARE = f"""exec "{sys.executable}" -c 'import sys; sys.modules["ensurepip"] = None; exec(sys.argv[1])' "$2" """


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkout, as far as `make setup` looks at it, and a folder `bin` with nothing but tools."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    return tmp_path


def put(place: Path, **pythons: str) -> None:
    """Put scripts into `bin`, named `python3_12` for python3.12."""
    for name, script in pythons.items():
        path = place / "bin" / name.replace("_", ".")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


def run(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    of_make = {"PYTHON", "MAKEFLAGS", "MAKELEVEL"}
    environment = {name: value for name, value in os.environ.items() if name not in of_make}
    return subprocess.run(
        command,
        cwd=place,
        env=environment | {"PATH": str(place / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13", "python3", "python"])
def test_whatever_it_is_called(place: Path, name: str) -> None:
    """A machine has one Python; it is found, and its version is said."""
    put(place, **{name.replace(".", "_"): GOOD})
    found = run(place, ".ci/find-python")
    assert found.stdout == f"{name}\n"
    assert f"using {name} ({sys.version_info.major}.{sys.version_info.minor}." in found.stderr


def test_what_does_not_run_is_passed_by(place: Path) -> None:
    """A shim of pyenv without its version, and a Python that is too old."""
    put(place, python3_11=OLD, python3_12=SHIM, python3=GOOD)
    assert run(place, ".ci/find-python").stdout == "python3\n"


def test_none_at_all_is_one_line_with_each_reason(place: Path) -> None:
    """What was tried, why it does not do, and what to do."""
    put(place, python3_12=SHIM, python3=OLD)
    found = run(place, ".ci/find-python")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.count("\n") == 1
    assert "python3.12: pyenv: python3.12: command not found; python3: it is Python 3.9" in found.stderr
    assert "make PYTHON=" in found.stderr


def test_a_python_without_venv_is_told_apart(place: Path) -> None:
    """Debian's, without its package: the package is named."""
    put(place, python3=BARE)
    minor = sys.version_info.minor
    assert f"python3: it has no venv (Debian: apt install python3.{minor}-venv)" in run(place, ".ci/find-python").stderr


def test_make_says_which_and_makes_the_environment_with_it(place: Path) -> None:
    """`make setup`: the first that works, or the one that is named; an error of it ends make."""
    put(place, python3_11=OLD, python3_13=MAKES, python3=OLD)
    done = run(place, "make", "setup")
    assert done.returncode == 0, done.stderr
    assert "using python3.13 (" in done.stderr
    assert "python3.13 -m venv .venv" in done.stdout
    assert (place / ".venv" / ".complete").exists()
    (place / ".venv" / ".complete").unlink()
    done = run(place, "make", "setup", "PYTHON=python3.14")
    assert done.returncode != 0
    assert "python3.14: not found" in done.stderr


def test_the_package_is_a_command(tmp_path: Path) -> None:
    """`python -m digitrec`, where no console script is at hand."""
    done = subprocess.run([sys.executable, "-m", "digitrec", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: digitrec" in done.stdout


def test_ci_runs_on_each_python_with_that_python() -> None:
    """The matrix has what pyproject.toml promises, and make is told to use it."""
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert job["env"]["PYTHON"] == "python"
