"""`make soak` can be interrupted: what has passed is not run again, and the summary tells how it went."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = """
import pathlib, pytest

@pytest.mark.parametrize("number", range(3))
def test_number(number):
    assert number != 1 or pathlib.Path("mended").exists()
"""


def soak(folder: Path) -> dict:
    """Run the tests of a folder, and read the summary."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.soak", "--rootdir", ".", "-c", os.devnull, "test_it.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    found: dict = json.loads((folder / "soak.json").read_text())
    return found


def test_a_soak_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What failed is named and run again; what passed keeps its first time; a change of the code begins anew."""
    (tmp_path / "test_it.py").write_text(TESTS)
    first = soak(tmp_path)
    assert first["outcomes"] == {"passed": 2, "failed": 1}
    assert first["failed"] == ["test_it.py::test_number[1]"]
    (tmp_path / "mended").touch()
    second = soak(tmp_path)
    assert second["by_test"] == {"test_it.py::test_number: passed": 3}
    assert second["tests"]["test_it.py::test_number[0]"] == first["tests"]["test_it.py::test_number[0]"]
    older = second | {"code": "older", "tests": {"gone": {"outcome": "passed"}}}
    (tmp_path / "soak.json").write_text(json.dumps(older))
    assert soak(tmp_path)["outcomes"] == {"passed": 3}
