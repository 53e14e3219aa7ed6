"""Bytes rot: whatever is flipped, cut, zeroed or swapped, it is found by its digest, named, and exits with 74."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog.store import Store
from digitrec.errors import Corrupt
from digitrec.options import ScoreOptions
from digitrec.scoring.run import score
from digitrec.verify import verify
from tests.faults.computing import FOLDER, NIGHT
from tests.faults.conftest import fill
from tests.places import full
from tests.scoring.making import settings_for

FILES = (
    "datasets/night/shard-*",
    "datasets/night/manifest.json",
    "models/quick-00000001/weights-*",
    "models/quick-00000001/card-*",
    "models/quick-00000001/manifest.json",
    f"{FOLDER}/part-*",
    f"{FOLDER}/manifest.json",
)
INPUTS = FILES[:5]


def flip(data: bytes, generator: np.random.Generator) -> bytes:
    place = int(generator.integers(len(data) * 8))
    return data[: place // 8] + bytes([data[place // 8] ^ 1 << place % 8]) + data[place // 8 + 1 :]


def cut(data: bytes, generator: np.random.Generator) -> bytes:
    return data[: int(generator.integers(len(data)))]


def zero(data: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(len(data)))
    return data[:start] + bytes(min(4096, len(data) - start)) + data[start + 4096 :]


def damage(path: Path, generator: np.random.Generator) -> bytes:
    """Change a file's bytes in one of these ways; return what they were."""
    before = path.read_bytes()
    after = before
    while after == before:
        after = (flip, cut, zero)[int(generator.integers(3))](before, generator)
    path.write_bytes(after)
    return before


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with published predictions; a test that damages a file puts it back."""
    store = fill(Store.at(tmp_path_factory.mktemp("store")))
    score(store, NIGHT, settings_for(store))
    return store


seeds = [*range(6), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 125))]
"""85 accidents a seed: 510 with every change, 10,000 more in a soak."""


@pytest.mark.parametrize("seed", seeds)
@pytest.mark.parametrize("pattern", FILES)
def test_verify_names_every_damaged_file(scored: Store, pattern: str, seed: int) -> None:
    """Ten accidents a file, by seed: each is found."""
    generator = np.random.default_rng([seed, *pattern.encode()])
    path = generator.choice(sorted(Path(scored.url).glob(pattern)))
    for _ in range(10):
        before = damage(path, generator)
        with pytest.raises(Corrupt, match=path.name):
            verify(scored)
        path.write_bytes(before)
    verify(scored)


@pytest.mark.parametrize("seed", seeds)
@pytest.mark.parametrize("pattern", INPUTS)
def test_scoring_names_what_it_cannot_trust(scored: Store, pattern: str, seed: int) -> None:
    """A damaged input is never scored: nothing is published, and the error names it. (Parts that were made before stay
    good, and would be used: so each accident finds none.)"""
    from digitrec.scoring.engine import loaded

    generator = np.random.default_rng([seed, *pattern.encode()])
    path = generator.choice(sorted(Path(scored.url).glob(pattern)))
    options = NIGHT.model_copy(update={"precision": "bf16"})
    for _ in range(3):
        loaded.cache_clear()
        before = damage(path, generator)
        with pytest.raises(Corrupt, match=path.name):
            score(scored, options, settings_for(scored))
        path.write_bytes(before)
        made = Path(full(scored, "predictions/night/quick-00000001.bf16"))
        assert not (made / "manifest.json").exists()
        shutil.rmtree(made, ignore_errors=True)


def test_swapped_shards_are_found(scored: Store) -> None:
    """Two whole shards under each other's names are not the dataset."""
    first, second = sorted(Path(full(scored, "datasets/night")).glob("shard-*"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    with pytest.raises(Corrupt, match=f"{first.name}|{second.name}"):  # whichever is read first
        score(scored, ScoreOptions(dataset="night", probabilities=True), settings_for(scored))
    first.write_bytes(one)
    second.write_bytes(two)
