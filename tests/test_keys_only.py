"""Nothing outside digitrec/storage touches a path of a store, read off the syntax tree of every module.

Two rules that hold each other up:

- *Places are for people.* What names a place in a store (`.url`, `.address(…)`, `settings.store`, and variables made of
  them) may stand in messages and reports, and be opened as a store. It is joined with nothing, and no function gets it
  that is not known to leave the place alone. `.local_path(…)`, for memory mapping, is `catalog/reader.py`'s alone.
- *Modules without a reason have no files.* Only those in `FILES` use the file system at all, each for files that are
  no store's.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("digitrec", "digitrec_prefect", "flows")
    for path in (ROOT / folder).rglob("*.py")
    if "digitrec/storage/" not in path.as_posix()
)

FILES = {
    "digitrec/caches.py": "names the folders of other libraries' caches",
    "digitrec/catalog/bundled.py": "reads the model inside the package",
    "digitrec/catalog/champion.py": "remembers in this user's cache how far it has read the log",
    "digitrec/catalog/leases.py": "looks for processes of this machine in /proc",
    "digitrec/catalog/reader.py": "hands Arrow what `local_path` gives it; takes folders from users",
    "digitrec/catalog/store.py": "takes a folder from a user",
    "digitrec/cli.py": "takes files from a user",
    "digitrec/doctor.py": "looks for Kaggle's credentials",
    "digitrec/engines/choice.py": "reads /proc/cpuinfo",
    "digitrec/errors.py": "explains errors of the system",
    "digitrec/foreign.py": "reads the settings of other programs",
    "digitrec/ingest/compiled.py": "keeps compiled code in this user's cache",
    "digitrec/ingest/containers.py": "unpacks into an unnamed temporary file",
    "digitrec/ingest/origins.py": "opens users' source files",
    "digitrec/ingest/run.py": "finds users' source files",
    "digitrec/ingest/sources.py": "writes CSV files for a user",
    "digitrec/limits.py": "reads what the control group allows",
    "digitrec/overview.py": "names CSV files that were written for a user",
    "digitrec/private.py": "makes folders that nobody else can write",
    "digitrec/process.py": "reads /proc",
    "digitrec/scoring/cluster.py": "looks for a user's TLS certificates",
    "digitrec/scoring/scratch.py": "gives Dask's workers folders of this machine",
    "digitrec/settings.py": "reads the file of settings",
    "digitrec/training/checkpoints.py": "takes Lightning's names of checkpoints apart",
    "digitrec/training/comparison.py": "writes a picture for a user",
    "digitrec/training/fitting.py": "gives Lightning's loggers a folder of this machine",
    "digitrec/training/runs.py": "reads /proc/cpuinfo",
    "digitrec/training/saving.py": "stages checkpoints in scratch",
    "digitrec_prefect/checkout.py": "knows where the checkout lies",
    "flows/_quick.py": "asks whether it was started as a script",
    "flows/_server.py": "starts a process",
}
"""Who has to do with files, and with which."""

MAPS_FILES = "digitrec/catalog/reader.py"
OTHER_URLS = {"flows/_server.py": "the URLs in it are a Prefect server's"}

LEAVES_ALONE = {
    "in_markdown": "makes text for a person of it",
    "Store.at": "opens it as a store",
    "storage.at": "opens it as a store",
    "is_relative": "looks at its text",
    "cls": "`Store`",
    "parse_json": "names it in an error",
    "storage_errors": "names it in an error",
    "open_int8": "names it in an error",
    "hashlib.sha256": "of its text, for a name in a cache",
    "_tell.published": "names it in an event",
    "_tell.promoted": "names it in an event",
    "ingest": "a flow, which opens it as a store",
    "score": "a flow, which opens it as a store",
    "train": "a flow, which opens it as a store",
}
"""Functions, beside the classes of digitrec's own reports and errors, that may be given a place."""

STILL_PLACES = {"str", "tuple", "list", "printable", "quote"}
"""What these return of a place is one too."""

FILE_MODULES = {"shutil", "glob", "fcntl", "tempfile", "mmap", "fileinput", "pathlib", "os.path", "posixpath"}
HARMLESS_OS = {
    "WNOHANG",
    "_exit",
    "close",
    "environ",
    "fork",
    "getpgrp",
    "getpid",
    "kill",
    "killpg",
    "preadv",
    "read",
    "strerror",
    "waitpid",
    "waitstatus_to_exitcode",
    "write",
}
"""What a module without files may ask of the system: nothing that is given a path."""


def problems(source: str, module: str) -> list[str]:
    """Every breach of the two rules in a module, with its line."""
    tree = ast.parse(source)
    found = [*_places_misused(tree, module)]
    if module not in FILES:
        found += _files_used(tree)
    return [f"{module}:{line}: {what}" for line, what in found]


def _files_used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in FILE_MODULES:
                    yield node.lineno, f"imports {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if node.module in FILE_MODULES and not all(
                name.startswith("PurePa") or name == "PurePosixPath" for name in names
            ):
                yield node.lineno, f"imports from {node.module}"
            if (node.module == "os" and names - HARMLESS_OS) or (node.module == "io" and names & {"open", "FileIO"}):
                yield node.lineno, f"imports from {node.module}"
        elif isinstance(node, ast.Call) and _name(node.func) in {"open", "io.open", "io.FileIO", "__import__"}:
            yield node.lineno, f"calls {_name(node.func)}"
        elif isinstance(node, ast.Attribute) and _name(node.value) == "os" and node.attr not in HARMLESS_OS:
            yield node.lineno, f"uses os.{node.attr}"


def _places_misused(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    places = _Places(tree, urls=module not in OTHER_URLS, local_paths=module != MAPS_FILES)
    allowed = {*LEAVES_ALONE, *STILL_PLACES, *_own_classes(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "local_path" and module != MAPS_FILES:
            yield node.lineno, "uses local_path"
        elif isinstance(node, ast.Call):
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            name = _name(node.func)
            if any(map(places.holds, arguments)) and name not in allowed and not name.startswith("LOG."):
                yield node.lineno, f"passes a place of a store to {name or 'something'}"
        elif isinstance(node, ast.BinOp) and (places.holds(node.left) or places.holds(node.right)):
            yield node.lineno, "joins a place of a store with something"
        elif isinstance(node, ast.JoinedStr):
            for part, following in zip(node.values, node.values[1:], strict=False):
                text = following.value if isinstance(following, ast.Constant) else ""
                if places.holds(part) and str(text).startswith("/"):
                    yield node.lineno, "joins a place of a store with a path"
        elif isinstance(node, ast.Attribute) and places.holds(node.value) and node.attr != "encode":
            yield node.lineno, f"uses .{node.attr} of a place of a store"
        elif isinstance(node, ast.withitem) and places.holds(node.context_expr):
            yield node.context_expr.lineno, "enters a place of a store"


class _Places:
    """Which expressions of a module hold a place in a store: read off each function, its variables followed."""

    def __init__(self, tree: ast.Module, *, urls: bool, local_paths: bool) -> None:
        self._urls, self._makers = urls, {"address", "local_path"} if local_paths else {"address"}
        self._names: dict[ast.AST, set[str]] = {}
        self._scope_of: dict[ast.AST, ast.AST] = {}
        self._enter(tree, tree)
        scopes = set(self._scope_of.values())
        self._names = {scope: set() for scope in scopes}
        while sum(self._follow(scope) for scope in scopes):
            pass

    def holds(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            scope: ast.AST | None = self._scope_of.get(node)
            while scope is not None:
                if node.id in self._names[scope]:
                    return True
                scope = self._scope_of.get(scope) if self._scope_of.get(scope) is not scope else None
            return False
        if isinstance(node, ast.Attribute):
            named = node.attr == "store" and _name(node.value).endswith("settings")
            return (node.attr == "url" and self._urls) or named or self.holds(node.value)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute) and (function.attr in self._makers or self.holds(function.value)):
                return True
            return _name(function) in STILL_PLACES and any(map(self.holds, node.args))
        if isinstance(node, ast.Compare | ast.Lambda | ast.comprehension):
            return False
        return any(map(self.holds, ast.iter_child_nodes(node)))

    def _enter(self, node: ast.AST, scope: ast.AST) -> None:
        self._scope_of[node] = scope
        inner = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) else scope
        for child in ast.iter_child_nodes(node):
            self._enter(child, inner)

    def _follow(self, scope: ast.AST) -> bool:
        """Add the names that are given a place in a scope; whether there were new ones."""
        names = self._names[scope]
        before = len(names)
        for node in ast.walk(scope):
            if self._scope_of.get(node) is not scope:
                continue
            value, targets = getattr(node, "value", None), []
            if isinstance(node, ast.Assign):
                targets = node.targets
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr | ast.AugAssign):
                targets = [node.target]
            elif isinstance(node, ast.For | ast.comprehension):
                value, targets = node.iter, [node.target]
            elif isinstance(node, ast.withitem):
                value, targets = node.context_expr, [node.optional_vars] if node.optional_vars else []
            if value is not None and targets and self.holds(value):
                names |= {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
        return len(names) > before


def _own_classes(tree: ast.Module) -> set[str]:
    """Classes of digitrec's that a module has or imports, but for those of storage, and errors of Python's."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and module.startswith("digitrec.") and "storage" not in module:
            names |= {alias.asname or alias.name for alias in node.names if alias.name[0].isupper()}
    return names


def _name(node: ast.AST) -> str:
    """`a.b.c` of names; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := _name(node.value)):
        return f"{start}.{node.attr}"
    return ""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_knows_keys_and_no_paths(module: str) -> None:
    """Of a store it has keys, bytes and opened objects."""
    assert problems((ROOT / module).read_text(), module) == []


def test_every_exception_is_needed() -> None:
    """A reason in `FILES` whose module has no files any more goes."""
    idle = [module for module in FILES if not list(_files_used(ast.parse((ROOT / module).read_text())))]
    assert idle == []
    assert set(FILES) | set(OTHER_URLS) <= set(MODULES)


MUTANTS = [
    'Path(store.url, "x").unlink()',
    "Path(self.store.url)",
    'Path(f"{store.url}/x").read_bytes()',
    "open(store.address(key))",
    "with open(store.address(key)) as file: pass",
    'os.replace(f"{store.url}/a", target)',
    "os.replace(source, f'{self.store.url}/a')",
    "shutil.rmtree(store.storage.local_path(key))",
    "store.storage.local_path(key).unlink()",
    "where = store.address(key)\nos.unlink(where)",
    "where = store.address(key)\npath = Path(where)",
    "first, second = store.url, 1\nos.listdir(first)",
    "if (where := store.address(key)):\n    os.unlink(where)",
    "for where in [store.address(key)]:\n    os.unlink(where)",
    "[os.unlink(where) for where in map(str, [store.url])]",
    "[os.unlink(where) for where in [store.url]]",
    "os.unlink(store.url + '/x')",
    "path = store.url + '/x'",
    "path = '%s/x' % store.url",
    "path = '{}/x'.format(store.url)",
    "path = '/'.join([store.url, 'x'])",
    "path = os.path.join(store.url, 'x')",
    "os.unlink(store.url.replace('a', 'b'))",
    "os.unlink(os.fsencode(store.url))",
    "os.unlink(store.url.encode())",
    "os.unlink(printable(store.url))",
    "subprocess.run(['rm', '-r', store.url])",
    "subprocess.run(['rm'], cwd=store.url)",
    "os.chdir(store.url)",
    "np.load(store.address(key))",
    "pq.ParquetFile(store.address(key))",
    "pa.memory_map(store.address(key))",
    "torch.save(weights, store.address(key))",
    "helper(store.address(key))",
    "scratch_folder(store.address(key))",
    "StagedFile(store.address(key))",
    "Path(settings.store)",
    "os.listdir(load_settings.settings.store)",
    "unlink = lambda: os.unlink(store.url)",
    "def inner():\n    where = store.url\n    def innermost():\n        os.unlink(where)",
    "class A:\n    def inner(self):\n        os.unlink(self.url)",
    "match store.address(key):\n    case str(where): os.unlink(store.url)",
    "await read(store.address(key))",
    "list(map(os.unlink, [store.url]))",
    "print(store.url, file=open(store.url))",
]


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("module", ["digitrec/scoring/run.py", "digitrec/ingest/run.py", "digitrec/catalog/store.py"])
def test_a_path_of_a_store_is_found_wherever_it_is_used(mutant: str, module: str) -> None:
    """In a module that has files of its own as in one that has none: by the first rule alone."""
    body = "\n".join(f"    {line}" for line in mutant.splitlines())
    source = (
        "from digitrec.storage.base import StagedFile, scratch_folder\n"
        "from digitrec.errors import Corrupt\n"
        f"async def mutant(self, store, key, settings, source, target):\n{body}\n"
    )
    assert list(_places_misused(ast.parse(source), module))


@pytest.mark.parametrize(
    "mutant",
    [
        "import shutil",
        "import os.path",
        "from pathlib import Path",
        "from pathlib import Path, PurePath",
        "from os import unlink",
        "from os import path",
        "import os\nos.unlink(anything)",
        "import os\nos.path.join(anything)",
        "open(anything)",
        "import io\nio.open(anything)",
        "from io import FileIO",
        "def inner():\n    import glob",
        "from tempfile import mkdtemp",
        "import fcntl",
        "__import__('shutil')",
    ],
)
def test_files_are_found_where_there_are_to_be_none(mutant: str) -> None:
    """The second rule: whatever they are used for."""
    assert problems(mutant, "digitrec/scoring/run.py")
    assert not problems(mutant, "digitrec/cli.py")


@pytest.mark.parametrize(
    "text",
    [
        'raise NoInput(f"nothing in {store.url}: see --store")',
        'raise NoInput(f"{store.address(key)} is missing")',
        "where = store.address(key)\nraise Corrupt(where)",
        "return Report(store=store.url, folder=store.address(key))",
        "again = Store.at(store.url)",
        "if store.url == other.url: pass",
        'LINES = "://" in store.url',
        "with store.storage.open(key) as file: file.read()",
        'store.storage.put(f"{folder}/x", b"")',
        "from pathlib import PurePosixPath\nname = PurePosixPath(key).name",
        "import os\nme = os.getpid()",
    ],
)
def test_what_is_meant_for_people_is_no_breach(text: str) -> None:
    """Messages and reports name the place."""
    body = "\n".join(f"    {line}" for line in text.splitlines())
    source = (
        f"from digitrec.errors import Corrupt, NoInput\nclass Report: pass\ndef fine(store, key, folder):\n{body}\n"
    )
    assert problems(source, "digitrec/scoring/run.py") == []
