"""What ingest asks of a storage, whichever it is: in which order, how often, and what a lost reply changes."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from digitrec.catalog.layout import landed_path, pending_key
from digitrec.catalog.manifest import read_manifest
from digitrec.catalog.marker import MARKER, mark_format
from digitrec.catalog.pending import noted
from digitrec.catalog.store import Store
from digitrec.errors import StorageFailed, TryAgain
from digitrec.ingest import origins, run
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.landing import ingest_landing
from digitrec.ingest.landing_records import book, read_record
from digitrec.ingest.origins import landed_object, local_file
from digitrec.ingest.run import IngestReport, ingest, ingest_origins
from digitrec.options import IngestOptions
from digitrec.progress import Step
from digitrec.storage import Storage, register
from digitrec.storage.faulty import FaultyStorage, When
from digitrec.storage.memory import MemoryStorage

from .files import KAGGLE, UNLABELLED, csv_of, digits, write
from .landed import land, refused, waiting
from .outcomes import PLAIN

LARGE = csv_of(rows=700)
"""Above 1 MiB."""
NAMED = IngestOptions(dataset="digits")


def faulty(inner: Storage | None = None, **faults: When) -> tuple[Store, FaultyStorage]:
    storage = FaultyStorage(inner or MemoryStorage(), **faults)
    return Store(register(storage).url), storage


def manifest_put(verb: str, key: str) -> bool:
    return verb == "put_if_absent" and key.endswith("manifest.json")


def record_put(verb: str, key: str) -> bool:
    return verb == "put_if_absent" and key.startswith("landed/")


def labels_of(store: Store, report: IngestReport) -> list[int]:
    manifest = read_manifest(store, report.folder)
    shards = [pq.read_table(store.storage.open(manifest.key(file))) for file in manifest.data_files]
    return [label for shard in shards for label in shard["label"].to_pylist()]


def test_a_storage_need_not_be_a_folder(tmp_path: Path) -> None:
    """The same bytes are published in memory as in a folder."""
    store, _ = faulty()
    path = write(tmp_path / "a.csv", csv_of(rows=50))
    stores = [store, Store.at(tmp_path / "store")]
    reports = [ingest(one, [path], PLAIN) for one in stores]
    assert labels_of(store, reports[0]) == digits()[1][:50].tolist()
    first, second = (read_manifest(one, report.folder) for one, report in zip(stores, reports, strict=True))
    assert replace(second, published=first.published) == first
    assert ingest(store, [path], PLAIN).already


@pytest.mark.parametrize("data", [csv_of(), LARGE, gzip.compress(csv_of()), gzip.compress(LARGE, 0)])
def test_a_source_may_be_an_object(data: bytes) -> None:
    """Small or large, packed or not, without a descriptor to read from."""
    store, storage = faulty()
    storage.put("landing/a.csv", data)
    report = ingest_origins(store, [landed_object(store, "landing/a.csv")], PLAIN)
    assert labels_of(store, report) == [digits()[1][row % 500] for row in range(report.rows)]
    assert report.sources[0].sha256 == hashlib.sha256(data).hexdigest()


def test_an_object_that_is_replaced_while_it_is_read_is_found_out() -> None:
    """Its state is not the one that was opened."""
    store, storage = faulty()
    for change in (lambda: storage.put("landing/a.csv", csv_of()), lambda: storage.delete("landing/a.csv")):
        storage.put("landing/a.csv", csv_of())
        with SourceFile(landed_object(store, "landing/a.csv")) as source:
            change()
            with pytest.raises(TryAgain, match="while it was read"):
                source.finish()


def test_landing_need_not_be_a_folder() -> None:
    """Objects are taken, refused, wait and are known like files."""
    store, storage = faulty()
    for name, data in {
        "a.csv": csv_of(),
        "day/b.csv": csv_of(UNLABELLED, rows=5).partition(b"\n")[2],
        "day/.digitrec.toml": b"no_header = true\n",
        "c.csv": b"hello\n",
        "d.csv.part": b"",
        ".up/e.csv": csv_of(),
    }.items():
        storage.put(f"landing/{name}", data)
    first = ingest_landing(store)
    assert (sorted(waiting(first)), first.uploads) == (["a.csv", "c.csv", "day/b.csv"], 2)
    second = ingest_landing(store)
    assert ([entry.rows for entry in second.ingested], list(refused(second))) == ([3, 5], ["c.csv"])
    assert [name.rpartition("-")[0] for name in noted(store)] == ["b"]
    assert ingest_landing(store).known == 2


@pytest.mark.parametrize("names", [KAGGLE, UNLABELLED])
def test_a_lost_reply_to_the_manifest_is_no_lost_race(names: tuple[str, ...], tmp_path: Path) -> None:
    """The put is sent again and finds its own manifest: this run has made the dataset, and it is published once."""
    store, storage = faulty(lose_reply_of=manifest_put)
    path = write(tmp_path / "a.csv", csv_of(names))
    report = ingest(store, [path], NAMED)
    assert not report.already
    assert len([key for verb, key in storage.calls if manifest_put(verb, key)]) == 1
    assert read_manifest(store, "datasets/digits").rows == 3
    assert noted(store) == ([] if names is KAGGLE else ["digits"])
    assert ingest(store, [path], NAMED).already


def test_a_run_that_ends_right_after_its_manifest_has_done_everything(tmp_path: Path) -> None:
    """The next one has nothing to do, and the dataset is noted as still to be scored."""
    inner = MemoryStorage()
    put: list[str] = []

    def fail(verb: str, key: str) -> bool:
        put.extend([key] * manifest_put(verb, key))
        return bool(put)

    store, _ = faulty(inner, fail_after=fail)
    path = write(tmp_path / "a.csv", csv_of(UNLABELLED))
    with pytest.raises(StorageFailed):
        ingest(store, [path], PLAIN)
    again, _ = faulty(inner)
    report = ingest(again, [path], PLAIN)
    assert report.already
    assert noted(again) == [report.dataset]


def test_everything_is_there_before_the_manifest_names_it(tmp_path: Path) -> None:
    """Shards and rejects, the note that the source is known, the note that it is to be scored, then the manifest; the
    latter note is looked for once more."""
    store, storage = faulty()
    report = ingest(store, [write(tmp_path / "a.csv", csv_of(UNLABELLED, rows=700))], PLAIN)
    changes = [(verb, key) for verb, key in storage.calls if verb in {"put", "put_if_absent", "upload", "delete"}]
    manifest = read_manifest(store, report.folder)
    uploads = {("upload", manifest.key(file)) for file in manifest.files}
    assert set(changes[: len(uploads)]) == uploads
    size = (tmp_path / "a.csv").stat().st_size
    assert changes[len(uploads) :] == [
        ("put", f"_index/sources/a-{size:016x}"),
        ("put", f"pending/{report.dataset}"),
        ("put_if_absent", MARKER),
        ("put_if_absent", f"{report.folder}/manifest.json"),
    ]
    published = storage.calls.index(changes[-1])
    assert ("stat", f"pending/{report.dataset}") in storage.calls[published:]


@pytest.mark.parametrize("options", [PLAIN, NAMED])
@pytest.mark.parametrize("data", [csv_of(), LARGE])
def test_what_was_ever_published_costs_nothing(options: IngestOptions, data: bytes, tmp_path: Path) -> None:
    """The same calls with 50 datasets of the same stem in the store as with none; only its own folder is listed."""
    called = []
    for others in (0, 50):
        store, storage = faulty()
        mark_format(Store(register(storage.inner).url))
        for number in range(others):
            storage.inner.put(f"datasets/a-{number:016x}/manifest.json", b"{}")
        report = ingest(store, [write(tmp_path / "a.csv", data)], options)
        called.append(sorted(storage.calls))
        assert {key for verb, key in storage.calls if verb == "list"} == {report.folder}
        manifests = [call for call in storage.calls if call[1].startswith("datasets/") and "manifest" in call[1]]
        assert {key for _, key in manifests} == {f"{report.folder}/manifest.json"}
    assert called[0] == called[1]


def forbidden(what: str) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError(what)

    return fail


def test_a_large_source_is_hashed_before_it_is_read_only_if_it_may_be_known(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one is read straight away; a repeated one is hashed and its rows are not read; one of the same stem and
    size as another is read after all."""
    path = write(tmp_path / "a.csv", LARGE)
    with monkeypatch.context() as patch:
        patch.setattr(run, "_hashed", forbidden("a new source was hashed"))
        first = ingest(store, [path], PLAIN)
        assert not ingest(store, [write(tmp_path / "b.csv", LARGE)], PLAIN).already
        assert not ingest(store, [path], NAMED).already
    with monkeypatch.context() as patch:
        patch.setattr(run, "make", forbidden("rows were read again"))
        for options in (PLAIN, NAMED):
            assert ingest(store, [path], options).already
    other = ingest(store, [write(path, LARGE.replace(b"\n0,", b"\n6,", 1))], PLAIN)
    assert (other.already, other.dataset == first.dataset) == (False, False)


def test_a_note_alone_decides_nothing(tmp_path: Path, store: Store) -> None:
    """As a run leaves it that was killed before its manifest."""
    store.storage.put(f"_index/sources/a-{len(LARGE):016x}", b"")
    report = ingest(store, [write(tmp_path / "a.csv", LARGE)], PLAIN)
    assert (report.already, report.rows) == (False, 700)


def test_a_small_source_is_opened_once(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """To learn its size, to hash it, to look whether it is packed, and to read its rows."""
    real, opened = origins._open_regular, []

    def count(path: Path) -> object:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(origins, "_open_regular", count)
    for data in (csv_of(), gzip.compress(csv_of(rows=5))):
        opened.clear()
        assert not ingest(store, [write(tmp_path / "a.csv", data)], PLAIN).already
        assert len(opened) == 1


def test_a_small_source_that_changes_after_it_was_opened_is_found_out(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes were read at once; what lies there now is not what was ingested."""
    path = write(tmp_path / "a.csv", csv_of())
    real = run.make

    def late(*args: object) -> object:
        write(path, csv_of(first=9))
        return real(*args)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(run, "make", late)
    with pytest.raises(TryAgain, match="changed while it was read"):
        ingest(store, [path], PLAIN)
    held = origins.held(local_file(path))
    path.unlink()
    with SourceFile(held) as source, pytest.raises(TryAgain, match="removed while it was read"):
        source.finish()


def test_a_note_that_was_lost_is_put_by_the_next_run(tmp_path: Path) -> None:
    """A run that ended between its manifest and the second look at its note: whoever ingests the source again notes
    that it waits, as long as it has no predictions."""
    store, _ = faulty()
    source = write(tmp_path / "a.csv", csv_of(UNLABELLED))
    report = ingest(store, [source], PLAIN)
    store.storage.delete(pending_key(report.dataset))
    assert ingest(store, [source], PLAIN).already
    assert noted(store) == [report.dataset]


DATASET = {"dataset": "a"}
REFUSED = {"refused": "no digits"}


@pytest.mark.parametrize(
    ("there", "outcome", "holds"),
    [
        (None, DATASET, DATASET),
        (None, REFUSED, REFUSED),
        (REFUSED, DATASET, DATASET),
        (DATASET, REFUSED, DATASET),
        (DATASET, {"dataset": "b"}, DATASET),
        (REFUSED, {"refused": "no header"}, REFUSED),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_the_landing_record_that_holds_is_reported(
    there: dict[str, str] | None, outcome: dict[str, str], holds: dict[str, str], lost: bool
) -> None:
    """The first one, whether or not replies are lost, unless what was refused has become a dataset."""
    key = landed_path("0" * 64)
    inner = MemoryStorage()
    if there:
        book(faulty(inner)[0], key, there)
    store, storage = faulty(inner, lose_reply_of=lambda verb, key: lost)
    assert book(store, key, outcome) == holds == read_record(store, key)
    assert [verb for verb, _ in storage.calls].count("put") == (there == REFUSED and outcome == DATASET)


def test_a_lost_reply_to_a_landing_record_changes_nothing() -> None:
    """What was ingested is known to the next run, what was refused is refused."""
    inner = MemoryStorage()
    store, storage = faulty(inner, lose_reply_of=record_put)
    storage.put("landing/a.csv", csv_of())
    storage.put("landing/b.csv", b"hello\n")
    ingest_landing(store)
    report = ingest_landing(store)
    assert (len(report.ingested), list(refused(report))) == (1, ["b.csv"])
    again = ingest_landing(store)
    assert (again.known, list(refused(again))) == (1, ["b.csv"])
    records = {name for name in inner.list("landed") if name != "cache.json"}
    assert records == {f"{hashlib.sha256(data).hexdigest()}.json" for data in (csv_of(), b"hello\n")}
    assert all("format" in json.loads(inner.read(f"landed/{name}")) for name in records)


def test_what_becomes_a_link_to_nowhere_meanwhile_stops_nobody(store: Store) -> None:
    """It waits like any file that has changed, although in the store itself such a link is an error."""
    land(store, "a.csv", csv_of())
    path = land(store, "large.csv", LARGE)

    def swap(step: Step) -> None:
        if step.stage == "landing" and not path.is_symlink():
            path.unlink()
            path.symlink_to("nowhere")

    report = ingest_landing(store, progress=swap)
    assert (list(waiting(report)), len(report.ingested)) == (["large.csv"], 1)
