"""The file system says no: one clear line, exit 74, what was published before is untouched, and a rerun converges."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog import listing as catalog
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS
from digitrec.errors import StorageFailed
from digitrec.options import ScoreOptions
from digitrec.scoring import run as running
from digitrec.scoring.compute import Outcome, score_partition
from digitrec.scoring.executors import Execution
from digitrec.scoring.plan import DatasetPlan, plan_dataset
from digitrec.scoring.request import Request, Task
from digitrec.scoring.run import score, score_all
from digitrec.verify import verify
from tests.faults.computing import NIGHT
from tests.places import full
from tests.scoring.making import Shape, make_dataset, make_images, make_model, settings_for


def mount(*arguments: str) -> None:
    """mount(8); a test that is not allowed to is skipped."""
    ended = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"mount {' '.join(arguments)}: {ended.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Store]:
    """A store on a file system of 2 MB, with a champion, `small` already scored, and `night` to be scored."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m,nr_inodes=200", "tmpfs", str(disk))
    try:
        store = Store.at(disk)
        make_model(store)
        make_dataset(store, "small", make_images(10))
        make_dataset(store, "night", make_images(2000), Shape(((500,) * 4,)))
        score(store, ScoreOptions(dataset="small"), settings_for(store))
        yield store
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def published(store: Store) -> list[str]:
    return [path.parent.parent.name for path in Path(store.url).glob("predictions/*/*/manifest.json")]


def fill_up(store: Store, leave_bytes: int) -> Path:
    """Take what is free of a disk, but for a little."""
    ballast = Path(store.url, "ballast")
    ballast.write_bytes(bytes(shutil.disk_usage(store.url).free - leave_bytes))
    return ballast


def test_a_disk_too_small_is_told_before_the_work(small_disk: Store) -> None:
    """The estimate comes first; nothing is begun."""
    fill_up(small_disk, leave_bytes=8192)
    with pytest.raises(StorageFailed, match=r"predictions need about .* free some space"):
        score(small_disk, NIGHT, settings_for(small_disk))
    assert not Path(full(small_disk, "predictions/night")).exists()


def test_a_disk_that_fills_up_on_the_way(small_disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle: one line, nothing half-visible, nothing earlier hurt; with room, a rerun ends well."""
    monkeypatch.setattr(running, "_check_space", lambda *_: None)
    ballast = fill_up(small_disk, leave_bytes=16_384)
    with pytest.raises(StorageFailed, match="No space left on device; free some space"):
        score(small_disk, NIGHT, settings_for(small_disk))
    assert published(small_disk) == ["small"]
    ballast.unlink()
    verify(small_disk)
    assert score(small_disk, NIGHT, settings_for(small_disk)).datasets[0].rows == 2000
    verify(small_disk)


def test_room_for_the_rest_is_enough(small_disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ENOSPC at nine tenths the same run goes on once the disk has room for what is left, not for all of it."""
    shape = Shape(((1000,) * 20,))
    dataset = make_dataset(small_disk, "many", np.zeros((shape.rows, PIXELS), np.uint8), shape)
    many, execution = ScoreOptions(dataset="many"), Execution(processes=False, partition_rows=1000)
    request = Request.of(small_disk, dataset, catalog.model(small_disk, "quick-00000001"), many, "fp32")

    def rest() -> DatasetPlan:
        return plan_dataset(dataset, request, 1000, sizes=True)

    def too_much(task: Task) -> Outcome:
        if task.partition.index == 18:
            fill_up(small_disk, leave_bytes=0)
        return score_partition(task)

    with pytest.raises(StorageFailed, match="No space left on device"):
        score_all(small_disk, many, settings_for(small_disk, 1), replace(execution, compute=too_much)).raise_if_failed()
    assert len(rest().left) <= 4
    Path(small_disk.url, "ballast").unlink()
    fill_up(small_disk, leave_bytes=(rest().needed_bytes or 0) + 4096)
    (scored,) = score_all(small_disk, many, settings_for(small_disk, 1), execution).datasets
    assert scored.rows == shape.rows
    verify(small_disk)


def test_a_disk_without_inodes(small_disk: Store) -> None:
    """No name left for a file is a full disk too."""
    spare = Path(full(small_disk, "spare"))
    spare.mkdir()
    while os.statvfs(small_disk.url).f_ffree:
        (spare / uuid.uuid4().hex).touch()
    with pytest.raises(StorageFailed, match="No space left on device"):
        score(small_disk, NIGHT, settings_for(small_disk))
    assert published(small_disk) == ["small"]


def test_a_read_only_disk(small_disk: Store) -> None:
    """What is there can be verified and is reported as done; new work is refused in one line."""
    mount("-o", "remount,ro", small_disk.url)
    assert score(small_disk, ScoreOptions(dataset="small"), settings_for(small_disk)).datasets[0].already
    with pytest.raises(StorageFailed, match="read-only"):
        score(small_disk, NIGHT, settings_for(small_disk))
    verify(small_disk)
