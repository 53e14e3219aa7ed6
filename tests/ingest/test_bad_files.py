"""Bad files and what they get: the contract's table of bad input, in its order, from other formats on."""

import gzip
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from digitrec.errors import AlreadyPublished, BadData, NoInput, StorageFailed, TryAgain
from digitrec.ingest import csv
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.run import IngestReport, ingest
from digitrec.options import IngestOptions
from digitrec.progress import Step
from digitrec.store.layout import Store
from digitrec.store.manifest import read_manifest
from digitrec.store.reading import read_dataset

from . import files
from .files import KAGGLE, KEYED, csv_of, lines_of, write
from .outcomes import PLAIN, one_reject, published, rejects, with_field


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (csv_of().decode().encode("utf-16"), "a.csv", "UTF-16"),
        (csv_of().decode().encode("utf-16-le"), "a.csv", "UTF-16"),
        (csv_of().replace(b",", b";"), "a.csv", "separated by ;"),
        (csv_of().replace(b",", b"\t"), "a.csv", "separated by tabs"),
        (gzip.compress(csv_of()), "a.csv", "its name must end in .gz"),
        (b"PK\x03\x04" + bytes(100), "a.csv", "a zip archive"),
        (b"PAR1" + bytes(100), "a.csv", "Parquet"),
        (csv_of(), "a.csv.gz", "damaged"),
        (csv_of(), "a.csv.zst", "damaged"),
    ],
)
def test_other_formats_are_refused_by_what_they_look_like(
    data: bytes, name: str, words: str, refused: Callable[..., str]
) -> None:
    """UTF-16, another separator, compression that the name does not tell, a zip, Parquet."""
    assert words in refused(data, name)


@pytest.mark.parametrize("data", [b"", b"\n"])
def test_an_empty_file_is_refused(data: bytes, refused: Callable[..., str]) -> None:
    """Exit 65."""
    assert "is empty" in refused(data)


def test_a_header_alone_makes_an_empty_dataset_with_a_warning(take: Callable[..., IngestReport], store: Store) -> None:
    """Exit 0; the manifest names no shard."""
    report = take(csv_of(rows=0))
    assert (report.rows, report.rejects, report.labelled) == (0, 0, True)
    assert any("empty" in warning for warning in report.warnings)
    assert read_manifest(store, report.folder).data_files == ()


@pytest.mark.parametrize("length", [65_537, 1_000_000, 9_000_000])
def test_a_line_above_64_kib_is_a_reject(length: int, take: Callable[..., IngestReport], store: Store) -> None:
    """Reading goes on behind its newline."""
    header, first, second = lines_of(KAGGLE, 2)
    report = take(b"\n".join([header, first, b"1" * length, second, b""]))
    assert one_reject(store, report) == (3, None, "line_too_long")
    (reject,) = rejects(store, report)
    assert reject["text"] == "1" * 200
    assert reject["byte_offset"] == len(header) + len(first) + 2


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-5], lambda data: data[: len(data) // 2], lambda data: data + b"garbage"],
    ids=["end", "half", "garbage"],
)
def test_damaged_compression_refuses_the_file_whole(
    name: str, damage: Callable[[bytes], bytes], tmp_path: Path, refused: Callable[..., str]
) -> None:
    """Cut short, or garbage behind the end."""
    data = write(tmp_path / f"whole-{name}", csv_of(rows=50)).read_bytes()
    assert "damaged or cut short" in refused(damage(data), name)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])
def test_a_wrong_checksum_refuses_the_file(name: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    """The bytes unpack, and are not what was packed."""
    data = bytearray(write(tmp_path / f"whole-{name}", csv_of(rows=50)).read_bytes())
    data[-7 if name.endswith("gz") else -2] ^= 1
    assert "damaged or cut short" in refused(bytes(data), name)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])
def test_compressed_files_in_several_pieces_are_one(
    name: str, tmp_path: Path, take: Callable[..., IngestReport]
) -> None:
    """gzip members and zstd frames, as `cat a.gz b.gz` makes them."""
    first = write(tmp_path / f"first-{name}", csv_of(rows=3)).read_bytes()
    second = write(tmp_path / f"second-{name}", b"\n".join([*lines_of(KAGGLE, 3)[1:], b""])).read_bytes()
    path = tmp_path / f"both-{name}"
    path.write_bytes(first + second)
    assert ingest(Store.at(tmp_path / "other"), [path], PLAIN).rows == 6


@pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.csv.zst"])
def test_a_decompression_bomb_is_stopped(
    name: str, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the bytes are implausible for what lies there; here beyond 4 MiB instead of 1 GiB."""
    monkeypatch.setattr(csv, "BOMB_BYTES", 4 << 20)
    row = b",".join([b"0"] * 785) + b"\n"
    plain = lines_of(KAGGLE, 0)[0] + b"\n" + row * 20_000
    data = gzip.compress(plain, 9) if name.endswith(".gz") else write(tmp_path / name, plain).read_bytes()
    assert "implausible" in refused(data, name)


def test_a_folder_or_a_missing_file_is_no_input(tmp_path: Path, store: Store) -> None:
    """One line, exit 66; a symlink loop too."""
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    for path, words in ((tmp_path, "a folder"), (tmp_path / "nowhere.csv", "No such file"), (loop, "symbolic links")):
        with pytest.raises(NoInput, match=words) as told:
            ingest(store, [path], PLAIN)
        assert "\n" not in str(told.value)
    assert published(store) == []


def test_a_name_that_is_not_utf8_is_no_input(tmp_path: Path, store: Store) -> None:
    """A manifest could not name it; exit 66, and the name is shown escaped."""
    path = write(tmp_path / os.fsdecode(b"bad\xff.csv"), csv_of())
    for source in (path, tmp_path / "bad*.csv"):
        with pytest.raises(NoInput, match=r"bad\\xff\.csv: its name is not UTF-8"):
            ingest(store, [source], PLAIN)
    assert published(store) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_no_permission_is_a_storage_failure(tmp_path: Path, store: Store) -> None:
    """One line, exit 74."""
    path = write(tmp_path / "secret.csv", csv_of())
    path.chmod(0)
    with pytest.raises(StorageFailed, match="check the permissions"):
        ingest(store, [path], PLAIN)


def test_a_pipe_a_socket_and_a_device_are_refused_without_waiting(tmp_path: Path, store: Store) -> None:
    """Regular files only, opened without blocking."""
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.csv"))
        for path in (tmp_path / "pipe.csv", tmp_path / "socket.csv", Path("/dev/zero")):
            with pytest.raises(NoInput, match="expected a CSV file"):
                ingest(store, [path], PLAIN)


@pytest.mark.parametrize("change", ["grown", "cut", "replaced", "touched", "removed"])
def test_a_source_that_changes_while_it_is_read_must_be_tried_again(
    change: str, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 75, nothing published."""
    monkeypatch.setattr(csv, "BLOCK_BYTES", 20_000)
    path = write(tmp_path / "moving.csv", csv_of(rows=60))

    def meddle(step: Step) -> None:
        if change == "removed":
            path.unlink(missing_ok=True)
        elif change == "replaced":
            write(tmp_path / "new.csv", csv_of(rows=60)).rename(path) if path.exists() else None
        elif change == "cut":
            os.truncate(path, 90_000)
        elif change == "touched":
            os.utime(path, ns=(1, 1))
        else:
            with open(path, "ab") as file:
                file.write(b"1")

    with pytest.raises(TryAgain, match="while it was read"):
        ingest(store, [path], PLAIN, progress=meddle)
    assert published(store) == []


def test_too_many_rejects_publish_nothing_and_show_the_first_ten(refused: Callable[..., str]) -> None:
    """More than max(3, share × rows)."""
    header, *rows = lines_of(KAGGLE, 100)
    bad = [b"oops" if number % 5 == 0 else row for number, row in enumerate(rows)]
    told = refused(b"\n".join([header, *bad, b""]))
    assert told.startswith("20 of 100 rows were refused, 3 may be")
    assert len(re.findall(r"source\.csv:\d+: column_count", told)) == 10


def test_three_rejects_are_free_and_a_share_beyond_that(take: Callable[..., IngestReport]) -> None:
    """--max-rejects 0.2 of 100 rows are 20."""
    header, *rows = lines_of(KAGGLE, 100)
    bad = [b"oops" if number % 5 == 0 else row for number, row in enumerate(rows)]
    few = [b"oops" if number < 3 else row for number, row in enumerate(rows)]
    assert take(b"\n".join([header, *few, b""]), "few.csv").reasons == {"column_count": 3}
    assert take(b"\n".join([header, *bad, b""]), "bad.csv", IngestOptions(max_rejects=0.2)).rejects == 20


def test_a_rejects_text_is_short_with_its_note(take: Callable[..., IngestReport], store: Store) -> None:
    """At most 200 bytes, the number of columns counted in."""
    header, *rows = lines_of(KAGGLE, 3)
    report = take(b"\n".join([header, *rows, rows[0].rpartition(b",")[0], b""]))
    text = str(rejects(store, report)[0]["text"])
    assert text.startswith("784 columns: ")
    assert len(text.encode()) == 200


def test_no_row_left_publishes_nothing(refused: Callable[..., str]) -> None:
    """Even below the free rejects, whatever the share."""
    told = refused(lines_of(KAGGLE, 0)[0] + b"\noops\n", options=IngestOptions(max_rejects=1))
    assert told.startswith("all 1 rows were refused, no row is left")


def test_the_same_file_again_is_already_ingested(take: Callable[..., IngestReport]) -> None:
    """Exit 0, and nothing is written."""
    first, again = take(csv_of()), take(csv_of())
    assert (first.already, again.already) == (False, True)
    assert again.dataset == first.dataset
    assert again.lines()[0].startswith("already ingested")


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        (b"k" * 256, False),
        (b"k" * 257, True),
        (b'"a,b ""c"""', False),
        (b'"first', True),
        (b'a"b', True),
        (b"a\rb", True),
        (b"a\0b", True),
        (b"\xff", True),
        ("ключ".encode(), False),
    ],
)
def test_keys_are_short_text_on_one_line(
    key: bytes, bad: bool, take: Callable[..., IngestReport], store: Store
) -> None:
    """Longer than 256 bytes, with a newline in its quotes, NUL or no UTF-8: bad_key."""
    report = take(with_field(key, 0, KEYED))
    if bad:
        assert one_reject(store, report) == (3, "id", "bad_key")
    else:
        expected = key.decode() if key[:1] != b'"' else 'a,b "c"'
        assert read_dataset(store.full(report.folder))["key"].tolist() == ["key-0", expected, "002"]


@pytest.mark.parametrize("other", [files.UNLABELLED, KEYED])
def test_sources_of_one_dataset_must_agree_in_label_and_id(
    other: tuple[str, ...], tmp_path: Path, store: Store
) -> None:
    """Exit 65, and both are named."""
    paths = [write(tmp_path / "one.csv", csv_of()), write(tmp_path / "two.csv", csv_of(other))]
    with pytest.raises(BadData, match=r"two\.csv has .* one\.csv has label"):
        ingest(store, paths, IngestOptions(dataset="both"))
    assert published(store) == []


def test_the_same_name_with_other_content_is_refused(tmp_path: Path, store: Store) -> None:
    """Exit 73; what is there stays as it is."""
    named = IngestOptions(dataset="digits")
    ingest(store, [write(tmp_path / "one.csv", csv_of())], named)
    before = sorted((path, path.read_bytes()) for path in Path(store.url).rglob("*") if path.is_file())
    with pytest.raises(AlreadyPublished, match="already holds something else"):
        ingest(store, [write(tmp_path / "one.csv", csv_of(first=7))], named)
    assert before == sorted((path, path.read_bytes()) for path in Path(store.url).rglob("*") if path.is_file())


def test_a_source_is_closed_whatever_happens(tmp_path: Path) -> None:
    """Also if nobody reads it to its end."""
    with SourceFile(write(tmp_path / "a.csv", csv_of())) as source:
        next(source.blocks())
    with pytest.raises(ValueError, match="closed"):
        source.read_raw(memoryview(bytearray(1)))
