"""The rooms import one another only as ARCHITECTURE.md says. Each case runs in a fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from digitrec.ingest.sources import fetch_sample

ROOT = Path(__file__).parents[1]
HEAVY = ("prefect", "pytorch_lightning", "torch", "distributed", "pandas")
STAGES = ("digitrec.ingest", "digitrec.training", "digitrec.scoring")

MODULES_AFTER = """
import importlib, pkgutil, sys
room = importlib.import_module({room!r})
for module in pkgutil.walk_packages(getattr(room, "__path__", []), {room!r} + "."):
    importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


def modules_after_importing(room: str) -> set[str]:
    """Everything loaded once `room` and all modules in it are imported."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES_AFTER.format(room=room)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("digitrec.contract", {*HEAVY, *STAGES, "digitrec.store"}),
        ("digitrec.errors", {*HEAVY, *STAGES, "numpy", "pyarrow", "digitrec.store"}),
        ("digitrec.settings", {*HEAVY, *STAGES, "numpy", "pyarrow", "digitrec.store"}),
        ("digitrec.store", {*HEAVY, *STAGES, "digitrec.network"}),
        ("digitrec.network", {"prefect", "pytorch_lightning", "distributed", *STAGES}),
        ("digitrec.engines", {"prefect", "pytorch_lightning", "distributed", *STAGES}),
        ("digitrec.ingest", {"prefect", "pytorch_lightning", "torch", "distributed", *STAGES[1:]}),
        ("digitrec.training", {"prefect", "distributed", "digitrec.ingest", "digitrec.scoring"}),
        ("digitrec.scoring", {"prefect", "pytorch_lightning", "digitrec.ingest", "digitrec.training"}),
        ("digitrec.verify", {"prefect", "pytorch_lightning", "distributed", "digitrec.ingest", "digitrec.training"}),
        ("digitrec.cli", {*HEAVY, *STAGES}),
    ],
)
def test_a_room_imports_only_what_the_rule_allows(room: str, forbidden: set[str]) -> None:
    """Loading a whole room loads none of the packages and rooms that it must not know."""
    assert not modules_after_importing(room) & forbidden


@pytest.mark.parametrize("stage", STAGES)
def test_the_stages_never_name_one_another(stage: str) -> None:
    """Also not inside a function, where an import would show only when it is called."""
    others = tuple(other for other in STAGES if other != stage)
    for path in (ROOT / stage.replace(".", "/")).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith((*others, "prefect", "digitrec_prefect"))], path


def test_the_package_itself_is_light() -> None:
    """`import digitrec` loads neither torch nor pandas nor pyarrow; public names come when first used."""
    code = "import digitrec, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {*HEAVY, "numpy", "pyarrow"}


@pytest.mark.parametrize("command", ["ingest", "score"])
def test_no_command_waits_for_pandas(command: str, tmp_path: Path) -> None:
    """pyarrow imports it for the simplest conversion: a quarter of a second of every process that works on digits."""
    csv = fetch_sample(tmp_path)[1]
    code = (
        f"import sys; sys.argv = ['digitrec', {command!r}, {str(csv)!r}, '--store', {str(tmp_path / 'store')!r}]\n"
        "from digitrec.cli import main\ntry: main()\nfinally: print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_public_names_resolve() -> None:
    """Everything in `digitrec.__all__` is there, and an unknown name is an AttributeError."""
    import digitrec

    assert all(hasattr(digitrec, name) for name in digitrec.__all__)
    assert not hasattr(digitrec, "nothing_of_this_name")
