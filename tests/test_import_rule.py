"""Packages import one another only as ARCHITECTURE.md says: read off the syntax tree, seen in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from digitrec.ingest.sources import fetch_sample

ROOT = Path(__file__).parents[1]
HEAVY = ("prefect", "pytorch_lightning", "torch", "distributed", "pandas")
STAGES = ("digitrec.ingest", "digitrec.training", "digitrec.scoring")

BASICS = {
    "addresses", "caches", "contract", "errors", "findings", "foreign", "init", "limits", "options", "private",
    "process", "progress", "settings", "shown",
}  # fmt: skip
"""What all agree on. They know one another, and nothing above."""
PUBLISHED = {"storage", "catalog"}
MAY_IMPORT: dict[str, set[str]] = {
    **{basic: set() for basic in BASICS},
    "storage": set(),
    "catalog": {"storage"},
    "network": set(),
    "engines": {"network"},
    "ingest": PUBLISHED,
    "training": {*PUBLISHED, "network", "engines"},
    "scoring": {*PUBLISHED, "network", "engines"},
    "night": {*PUBLISHED, "ingest", "scoring"},
    "verify": {*PUBLISHED, "scoring"},
    "overview": {*PUBLISHED, "ingest", "scoring"},
    "gallery": {*PUBLISHED, "scoring"},
    "orchestration": {"storage"},
    "doctor": {*PUBLISHED, "scoring", "orchestration"},
    "terminal": {*PUBLISHED},
    "cli": {*PUBLISHED, *(stage.removeprefix("digitrec.") for stage in STAGES), "doctor", "night", "overview"}
    | {"terminal", "verify"},
    "__main__": {"cli"},
    "__init__": {"catalog"},
}
"""For each package or module of digitrec's, which others it may name, beside the basics."""

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
        ("digitrec.contract", {*HEAVY, *STAGES, "digitrec.catalog"}),
        ("digitrec.errors", {*HEAVY, *STAGES, "numpy", "pyarrow", "digitrec.catalog"}),
        ("digitrec.settings", {*HEAVY, *STAGES, "numpy", "pyarrow", "digitrec.catalog"}),
        ("digitrec.storage", {*HEAVY, *STAGES, "digitrec.catalog", "digitrec.contract"}),
        ("digitrec.catalog", {*HEAVY, *STAGES, "digitrec.network"}),
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


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, also inside a function, where it shows only when it is called."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: an import that is relative"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    """The package or module of digitrec's that a file belongs to: `catalog`, `cli`."""
    return path.relative_to(ROOT / "digitrec").parts[0].removesuffix(".py")


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_names_only_what_lies_below(room: str) -> None:
    """The layers, lowest first: the basics, storage, the catalog, the stages (which never name one another), what spans
    stages, what talks to people. Prefect is nobody's, Lightning is training's."""
    allowed = {room, "__version__", *BASICS, *MAY_IMPORT[room]}
    paths = [path for path in (ROOT / "digitrec").rglob("*.py") if room_of(path) == room]
    assert paths
    for path in paths:
        names = imported(path)
        ours = {name.split(".")[1] for name in names if name.startswith("digitrec.")}
        assert ours <= allowed, path
        foreign = {name.split(".")[0] for name in names} - {"digitrec"}
        assert not foreign & {"prefect", "digitrec_prefect"}, path
        assert room == "training" or not foreign & {"lightning", "pytorch_lightning"}, path


def test_every_room_has_its_rule() -> None:
    """A new package or module is put into a layer here."""
    assert {room_of(path) for path in (ROOT / "digitrec").rglob("*.py")} == set(MAY_IMPORT)


def test_what_is_for_tests_is_imported_by_tests() -> None:
    """Storage that fails on purpose, storage in memory, and the contract, which needs pytest."""
    only_tests = ("digitrec.storage.faulty", "digitrec.storage.testing", "digitrec.storage.memory")
    for path in (*(ROOT / "digitrec").rglob("*.py"), *(ROOT / "flows").rglob("*.py")):
        assert not [name for name in imported(path) if name.startswith(only_tests)], path


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
