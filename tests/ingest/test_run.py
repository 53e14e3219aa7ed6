"""`ingest()`: what a dataset is, and that the same request gives the same bytes, once."""

import fcntl
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import digitrec
from digitrec.catalog import manifest as manifests
from digitrec.catalog.manifest import Manifest, check_file
from digitrec.catalog.publish import Published
from digitrec.catalog.reader import open_verified, read_dataset
from digitrec.catalog.store import Store
from digitrec.contract import ids_digest, shard_schema
from digitrec.errors import AlreadyPublished, Corrupt, NoInput, StorageFailed, UsageError
from digitrec.ingest import csv, run, shards
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions
from digitrec.progress import Step
from digitrec.storage import StagedFile, base
from tests.places import full

from . import files
from .files import KAGGLE, KEYED, csv_of, lines_of, manifest_of, write

PLAIN = IngestOptions()
NAMED = IngestOptions(dataset="digits")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of 40 rows, shards of 80."""
    monkeypatch.setattr(shards, "ROW_GROUP_ROWS", 40)
    monkeypatch.setattr(shards, "GROUPS_PER_SHARD", 2)


def everything(store: Store) -> dict[str, bytes]:
    """All files of a store but for the manifests, which say when they were published."""
    base = Path(store.url)
    files = [path for path in base.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("names", [KAGGLE, files.UNLABELLED, files.GRID, files.OPENML, KEYED])
def test_every_dialect_gives_the_same_images(names: tuple[str, ...], tmp_path: Path, store: Store) -> None:
    """Kaggle's header with and without label, 1x1…, OpenML's, and one with an id."""
    report = ingest(store, [write(tmp_path / "a.csv", csv_of(names, 30))], PLAIN)
    frame = read_dataset(full(store, report.folder))
    images, labels = files.digits()
    assert (frame[[f"pixel{index}" for index in range(784)]].to_numpy() == images[:30]).all()
    assert (report.labelled, report.keyed) == (names != files.UNLABELLED, names == KEYED)
    if report.labelled:
        assert (frame["label"] == labels[:30]).all()
    if report.keyed:
        assert frame["key"].tolist() == [files.key_of(number).decode() for number in range(30)]


@pytest.mark.parametrize("place", [0, 1, 400, 785])
def test_a_key_may_stand_anywhere_and_look_like_a_pixel(place: int, tmp_path: Path, store: Store) -> None:
    """Ids of one to three digits, also behind a refused row and in a full row group: each row keeps its own."""
    names = [*KAGGLE[:place], "id", *KAGGLE[place:]]
    header, *rows = lines_of(names, 200)
    rows[50:50] = [rows[7] + b",999"]
    report = ingest(store, [write(tmp_path / "a.csv", b"\n".join([header, *rows, b""]))], PLAIN)
    frame = read_dataset(full(store, report.folder))
    assert frame["key"].tolist() == [files.key_of(number).decode() for number in range(200)]
    assert (frame["label"] == files.digits()[1][:200]).all()


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("names", [KAGGLE, files.UNLABELLED, KEYED])
def test_shards_keep_the_contract(names: tuple[str, ...], tmp_path: Path, store: Store) -> None:
    """Schema, zstd, no statistics of images, row groups as the manifest tells, digests in the names."""
    report = ingest(store, [write(tmp_path / "a.csv", csv_of(names, 200))], NAMED)
    manifest = manifest_of(store, report.dataset)
    assert [file.rows for file in manifest.data_files] == [80, 80, 40]
    first_id = 1
    for index, file in enumerate(manifest.data_files):
        check_file(store, manifest.key(file), file)
        assert file.path == f"shard-{index:05d}-{file.sha256[:16]}.parquet"
        shard = open_verified(store, manifest.key(file), file)
        assert shard.schema_arrow == shard_schema(labelled=report.labelled, keyed=report.keyed)
        for index, group in enumerate(file.row_groups):
            image = shard.metadata.row_group(index).column(shard.metadata.num_columns - 1)
            assert (image.compression, image.is_stats_set) == ("ZSTD", False)
            ids = shard.read_row_group(index, ["image_id"])["image_id"].to_numpy()
            assert ids.tolist() == list(range(first_id, first_id + group.rows))
            assert (group.first_id, group.last_id, group.ids) == (ids[0], ids[-1], ids_digest(ids))
            first_id += group.rows


def test_ids_count_data_lines_over_all_sources_rejects_too(tmp_path: Path, store: Store) -> None:
    """So an id is Kaggle's ImageId, and a glob is in the order of names."""
    for name in "cab":
        header, *rows = lines_of(KAGGLE, 2, first=ord(name))
        write(tmp_path / f"{name}.csv", b"\n".join([header, b"oops", *rows, b""]))
    report = ingest(store, [tmp_path / "*.csv"], IngestOptions(dataset="abc", max_rejects=0.5))
    frame = read_dataset(full(store, report.folder))
    assert frame["image_id"].tolist() == [2, 3, 5, 6, 8, 9]
    assert [source.name for source in manifest_of(store, "abc").sources] == ["a.csv", "b.csv", "c.csv"]
    images, _ = files.digits()
    assert (frame.to_numpy()[::2, 2:] == images[[97, 98, 99]]).all()
    assert digitrec.read_rejects(full(store, report.folder))["line"].to_list() == [2, 2, 2]


@pytest.mark.usefixtures("small_shards")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    threads=st.integers(1, 8),
    block=st.sampled_from([2_000, 9_999, 70_000, 1 << 22]),
    name=st.sampled_from(["", ".gz", ".zst"]),
)
def test_shards_are_byte_equal_for_any_threads_and_blocks(
    threads: int, block: int, name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compressed or not, the shards of one content are the same bytes."""
    folder = tmp_path_factory.mktemp("equal")
    header, *rows = lines_of(KEYED, 250)
    rows[100:100] = [b"", b'"', b"1,2"]
    data = b"\n".join([header, *rows, b""])
    with monkeypatch.context() as patch:
        patch.setattr(csv, "BLOCK_BYTES", block)
        other = ingest(Store.at(folder / "x"), [write(folder / f"a.csv{name}", data)], NAMED, threads=threads)
    plain = ingest(Store.at(folder / "y"), [write(folder / "a.csv", data)], NAMED, threads=2)
    found = [manifest_of(Store.at(folder / where), "digits").data_files for where in "xy"]
    assert found[0] == found[1]
    assert (other.rows, other.reasons) == (plain.rows, plain.reasons)


def test_the_manifest_says_what_was_asked_and_nothing_of_the_run(tmp_path: Path) -> None:
    """Two runs of one request write the same bytes, wherever they run, but for the time of publication."""
    path = write(tmp_path / "a.csv", csv_of())
    stores = [Store.at(tmp_path / name) for name in "xy"]
    for store in stores:
        ingest(store, [path], NAMED)
    assert everything(stores[0]) == everything(stores[1])
    manifest, other = (manifest_of(store, "digits") for store in stores)
    assert replace(other, published=manifest.published) == manifest
    assert manifest.kind == "dataset"
    (text,) = manifest.asked["texts"]
    assert (text["sha256"], text["member"]) == (manifest.sources[0].sha256, None)
    assert manifest.facts == {
        "labelled": True,
        "keyed": False,
        "rejects": {},
        "skipped": {},
        "doubled_keys": 0,
        "spans": [{"source": "a.csv", "member": None, "first_id": 1, "last_id": 3}],
        "notes": [],
    }


def test_several_sources_need_a_name(tmp_path: Path, store: Store) -> None:
    """Exit 64, before anything is read; a pattern that matches nothing is exit 66."""
    paths = [write(tmp_path / f"{name}.csv", csv_of()) for name in "ab"]
    with pytest.raises(UsageError, match="--dataset"):
        ingest(store, paths, PLAIN)
    with pytest.raises(UsageError, match="no dataset name"):
        ingest(store, paths[:1], IngestOptions(dataset="No Name"))
    with pytest.raises(NoInput, match="nothing matches"):
        ingest(store, [tmp_path / "*.tsv"], PLAIN)
    with pytest.raises(UsageError, match="no glob pattern"):
        ingest(store, [tmp_path / "a**.csv"], PLAIN)
    assert not Path(store.url).exists()


def test_what_dead_runs_left_is_swept_after_a_week(tmp_path: Path, store: Store) -> None:
    """Scratch, and files in the dataset's folder, by every ingest that ends there; what is younger may belong to a run
    that is alive, and what the manifest names is kept however old it is."""
    path = write(tmp_path / "a.csv", csv_of())
    left = [
        Path(full(store, key))
        for key in ("_staging/old/x", "_staging/new/x", "datasets/digits/shard-old", "datasets/digits/new")
    ]
    for _ in range(2):
        for place in left:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        for place in (left[0], left[0].parent, left[2]):
            os.utime(place, (0, 0))
        ingest(store, [path], NAMED)
        assert [place.exists() for place in left] == [False, True, False, True]
        for place in Path(full(store, "datasets/digits")).iterdir():
            os.utime(place, (0, 0)) if place != left[3] else None
    assert ingest(store, [path], NAMED).already
    assert len(read_dataset(full(store, "datasets/digits"))) == 3


def test_a_list_of_files_that_stands_apart_is_kept(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long one is in a file that no other list names."""
    monkeypatch.setattr(manifests, "INLINE_MAX_BYTES", 0)
    path = write(tmp_path / "a.csv", csv_of())
    ingest(store, [path], NAMED)
    for place in Path(full(store, "datasets/digits")).iterdir():
        os.utime(place, (0, 0))
    assert ingest(store, [path], NAMED).already
    assert len(read_dataset(full(store, "datasets/digits"))) == 3


def test_racing_ingests_of_one_request_publish_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both succeed; what stands there is whole."""
    path = write(tmp_path / "a.csv", csv_of(rows=50))
    gate = threading.Barrier(4)
    original = run.publish

    def together(store: Store, manifest: Manifest) -> Published:
        gate.wait()
        return original(store, manifest)

    monkeypatch.setattr(run, "publish", together)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: ingest(store, [path], NAMED), range(4)))
    assert sorted(report.already for report in reports) == [False, True, True, True]
    assert len(read_dataset(full(store, "datasets/digits"))) == 50


RACER = """
import sys, time
from pathlib import Path
import pyarrow.parquet as pq
from digitrec.catalog.store import Store
from digitrec.ingest import run, shards
from digitrec.options import IngestOptions

store, source, level, turn = sys.argv[1:]
original = run.publish

def open_writer(file, schema):
    return pq.ParquetWriter(file, schema, compression="zstd", compression_level=int(level))

def together(store, manifest):
    Path(f"{turn}-{level}").touch()
    while len(list(Path(turn).parent.glob(Path(turn).name + "-*"))) < 2:
        time.sleep(0.001)
    return original(store, manifest)

def report_of(published, seconds):
    global reported
    reported = published.manifest
    return told(published, seconds)

told = run.report_of
shards.open_writer, run.publish, run.report_of = open_writer, together, report_of
report = run.ingest(Store.at(store), [source], IngestOptions(dataset="digits"))
print(report.already, reported.published, *(file.path for file in reported.files))
"""


def test_the_loser_of_a_race_reports_what_is_published(tmp_path: Path, store: Store) -> None:
    """Two processes, whose zstd writes other bytes for the same rows: one is published and both report that one; the
    other's files stay for the sweep, as a third run may be about to reuse them."""
    path = write(tmp_path / "a.csv", csv_of(rows=50))
    program = tmp_path / "racer.py"
    program.write_text(RACER)
    racers = [
        subprocess.Popen(
            [sys.executable, program, store.url, path, level, tmp_path / "turn"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(digitrec.__file__).parents[1])},
        )
        for level in ("1", "19")
    ]
    said = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert sorted(already for already, *_ in said) == ["False", "True"]
    manifest = manifest_of(store, "digits")
    assert {tuple(rest) for _, *rest in said} == {(manifest.published, *(file.path for file in manifest.files))}
    assert len(read_dataset(full(store, "datasets/digits"))) == 50
    folder = Path(full(store, "datasets/digits"))
    strays = [place for place in folder.glob("shard-*") if place.name not in manifest.paths]
    assert len(strays) == 1
    os.utime(strays[0], (0, 0))
    assert ingest(store, [path], NAMED).already
    assert {place.name for place in folder.iterdir()} == manifest.paths


def test_a_lost_race_for_a_name_changes_nothing(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loser says exit 73; its files are left to the sweep of the winner's folder."""
    paths = [write(tmp_path / f"{name}.csv", csv_of(first=ord(name))) for name in "ab"]
    original = run.publish

    def beaten(store: Store, manifest: Manifest) -> Published:
        monkeypatch.setattr(run, "publish", original)
        ingest(store, paths[:1], NAMED)
        return original(store, manifest)

    monkeypatch.setattr(run, "publish", beaten)
    with pytest.raises(AlreadyPublished):
        ingest(store, paths[1:], NAMED)
    manifest = manifest_of(store, "digits")
    assert manifest.sources[0].name == "a.csv"
    folder = Path(full(store, "datasets/digits"))
    for place in folder.iterdir():
        os.utime(place, (0, 0))
    ingest(store, paths[:1], NAMED)
    assert {place.name for place in folder.iterdir()} == manifest.paths


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(
    ("fails", "target"),
    [
        (StorageFailed("cannot write: No space left on device"), (StagedFile, "write")),
        (OSError(28, "No space left on device"), (base.os, "fsync")),
        (KeyboardInterrupt(), (run.Intake, "report")),
    ],
)
def test_a_failure_in_the_middle_leaves_nothing(
    fails: BaseException, target: tuple[object, str], tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk behind the writers, when they write and when they sync; Ctrl-C in front of them."""
    path = write(tmp_path / "a.csv", csv_of(rows=400))
    ingest(store, [write(tmp_path / "before.csv", csv_of())], NAMED)
    before = everything(store)

    def fail(*_: object) -> None:
        raise fails

    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        with pytest.raises((StorageFailed, KeyboardInterrupt)):
            ingest(store, [path], PLAIN)
    assert everything(store) == before
    assert list(Path(full(store, "_staging")).iterdir()) == []
    assert ingest(store, [path], PLAIN).rows == 400


def test_a_failure_at_the_very_start_leaves_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there is a file in the staging folder."""

    def fail(*_: object, **__: object) -> None:
        raise StorageFailed("cannot write: No space left on device")

    monkeypatch.setattr(run, "Intake", fail)
    with pytest.raises(StorageFailed):
        ingest(store, [write(tmp_path / "a.csv", csv_of())], PLAIN)
    assert list(Path(full(store, "_staging")).iterdir()) == []


def test_what_is_staged_is_synced_by_the_descriptor_that_wrote_it(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of a late write-back comes to that descriptor, and to no other (fsync(2))."""
    real, synced = os.fsync, set()

    def fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    ingest(store, [write(tmp_path / "a.csv", csv_of())], NAMED)
    assert {"shard-00000.parquet", "rejects.parquet"} <= synced


def test_digests_are_of_what_was_written_not_of_what_lies_there(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that changes a byte is found out, as its bytes were never asked for their digest."""
    real = StagedFile.close

    def damage(file: StagedFile) -> None:
        written = not file.closed
        real(file)
        if written:
            data = bytearray(file.path.read_bytes())
            data[len(data) // 2] ^= 1
            file.path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(StagedFile, "close", damage)
        ingest(store, [write(tmp_path / "a.csv", csv_of())], NAMED)
    manifest = manifest_of(store, "digits")
    for file in manifest.files:
        with pytest.raises(Corrupt, match="is damaged"):
            check_file(store, manifest.key(file), file)


def test_progress_tells_bytes_rows_and_rejects(tmp_path: Path, store: Store) -> None:
    """In bytes of all sources as they lie there."""
    steps: list[Step] = []
    paths = [write(tmp_path / f"{name}.csv.gz", csv_of(rows=20)) for name in "ab"]
    ingest(store, paths, NAMED, progress=steps.append)
    total = sum(path.stat().st_size for path in paths)
    assert (steps[-1].stage, steps[-1].done, steps[-1].total, steps[-1].unit) == ("ingest", total, total, "bytes")
    facts = dict(steps[-1].facts)
    assert float(facts.pop("MB/s").replace(",", "")) >= 0
    assert facts == {"rows": "40", "rejects": "0"}
