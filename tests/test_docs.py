"""The README does not lie: its commands are run as they stand, in a fresh folder, and its Python too."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(word: str) -> list[str]:
    """The README's shell lines that begin with `word`, without their comments."""
    lines = [
        line.split("  #")[0].strip() for language, block in BLOCKS if language == "sh" for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith(word)]


def run(command: str, folder: Path) -> None:
    """Run a README line with this interpreter's `digitrec`; a failure shows what it printed."""
    program = f"PATH={Path(sys.executable).parent}:$PATH; {command}"
    done = subprocess.run(["bash", "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's `digitrec` commands were typed, in order."""
    folder = tmp_path_factory.mktemp("readme")
    for command in commands("digitrec"):
        run(command, folder)
    return folder


def test_the_commands_lead_where_the_readme_says(played: Path) -> None:
    """After the commands there are a dataset, a champion, published predictions and a submission."""
    store = played / "store"
    assert (store / "datasets/test/manifest.json").exists()
    assert (store / "models/champion/00001.json").exists()
    assert [path.name for path in store.glob("predictions/test/*/submission.csv")] == ["submission.csv"]


def test_the_python_of_the_readme_runs(played: Path) -> None:
    """The Python block works with the version that was trained."""
    predictions = next(played.glob("store/predictions/test/*")).name
    (code,) = [block for language, block in BLOCKS if language == "python"]
    script = re.sub(r"VERSION\.\w+", predictions, code) + "\nassert len(images) == len(predictions) == 1000\n"
    run(f"python -c '{script}'", played)


def test_the_flow_script_of_the_readme_runs(played: Path) -> None:
    """`python flows/score.py` with no server finds that the work is done."""
    (command,) = commands("python flows")
    run(command.replace("flows/", f"{ROOT}/flows/"), played)


def test_every_file_the_readme_names_is_there() -> None:
    """No dead reference: pages, and the targets of make."""
    for name in re.findall(r"`([\w/]+\.md)`", README):
        assert (ROOT / name).exists(), name
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in commands("make")} <= targets
