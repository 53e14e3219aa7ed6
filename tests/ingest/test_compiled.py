"""The kernel's machine code: kept, never stale, and the same answers on any processor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import digitrec
from digitrec.ingest import compiled

PARSE = """
import sys, hashlib, numba
sys.path.insert(0, {tests!r})
import pytest
from pathlib import Path
from digitrec.options import ReadOptions
from tests.ingest.files import csv_of, write, KEYED
from tests.ingest.judged import judge
import tempfile
with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
    data = csv_of(KEYED, 40) + b'"k",3,' + b",".join([b'"7"'] * 784) + b"\\n" + b"x" * 700 + b"\\n"
    found = judge(write(Path(folder) / "a.csv", data), ReadOptions(max_rejects=1), patch)
    assert len(found.verdicts) == 42
print(hashlib.sha256(repr(found).encode()).hexdigest())
from digitrec.ingest.pixels import parse
print(parse.stats.cache_path, bool(parse.stats.cache_hits))
"""
ROOT = Path(digitrec.__file__).parent.parent


def start(**environment: str) -> subprocess.Popen[str]:
    code = PARSE.format(tests=str(ROOT))
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | environment, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def answer(process: subprocess.Popen[str]) -> tuple[str, str, bool]:
    """Digest of the verdicts, cache folder, whether the machine code was there already."""
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    digest, place = out.splitlines()
    folder, _, hit = place.rpartition(" ")
    return digest, folder, hit == "True"


def test_two_processes_may_compile_at_once_and_a_third_need_not(tmp_path: Path) -> None:
    """In an empty cache, under NUMBA_CACHE_DIR."""
    both = [start(NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    answers = [answer(process) for process in both]
    third = answer(start(NUMBA_CACHE_DIR=str(tmp_path)))
    assert len({digest for digest, _, _ in [*answers, third]}) == 1
    assert third[1].startswith(str(tmp_path))
    assert third[2]


def test_a_processor_without_wide_vectors_gives_the_same_verdicts() -> None:
    """Numba told to build for the least x86-64 there is."""
    here = answer(start())
    generic = answer(start(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=""))
    assert generic[0] == here[0]


def test_the_cache_moves_on_where_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Package folder and home read-only, as in a container: a temporary folder serves."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, in which no folder can be made, even by root")
    monkeypatch.setattr(compiled, "candidates", lambda: iter([blocked / "a", tmp_path / "free"]))
    compiled.cache_folder.cache_clear()
    try:
        assert compiled.cache_folder().startswith(str(tmp_path / "free" / "digitrec-"))
        compiled.cache_folder.cache_clear()
        monkeypatch.setattr(compiled, "candidates", lambda: iter([blocked / "a"]))
        made = Path(compiled.cache_folder())
        assert made.is_dir()
        shutil.rmtree(made)
    finally:
        compiled.cache_folder.cache_clear()


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_cache_that_others_may_replace_is_passed_over(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in it is run; so is what somebody puts in its place, if a folder above is open."""
    planted, ours = tmp_path / "open" / "planted", tmp_path / "ours"
    monkeypatch.setattr(compiled, "candidates", lambda: iter([planted, ours]))
    compiled.cache_folder.cache_clear()
    try:
        believed = Path(compiled.cache_folder())
        assert believed.parent == planted
        compiled.cache_folder.cache_clear()
        planted.parent.chmod(mode)
        assert Path(compiled.cache_folder()) == ours / believed.name
    finally:
        compiled.cache_folder.cache_clear()


def test_the_digest_covers_every_file_the_kernel_is_made_of() -> None:
    """Numba would not notice a change in a file that the kernel only imports from."""
    imported = set()
    for name in ("pixels.py", "fields.py", "simd.py"):
        for line in (compiled.HERE / name).read_text().splitlines():
            if line.startswith("from digitrec."):
                imported.add(line.split()[1].rpartition(".")[2] + ".py")
    assert imported <= {Path(source).name for source in compiled.SOURCES}
