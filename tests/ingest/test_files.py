"""Bad input, "Files": what is no regular file, what moves while it is read, what was there before, in which order."""

import os
import socket
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from digitrec.errors import AlreadyPublished, BadData, NoInput, StorageFailed, TryAgain, UsageError
from digitrec.ingest import csv
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.origins import local_file
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions
from digitrec.progress import Step

from . import files
from .conftest import Takes
from .files import KEYED, csv_of, manifest_of, pixel_rows, table, write
from .outcomes import PLAIN, PLAIN_CSV, ROWS, check_read, published

PARTS = IngestOptions(dataset="parts")


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
    """A manifest could not name it; exit 66, and the name is shown escaped (F28)."""
    path = write(tmp_path / os.fsdecode(b"bad\xff.csv"), PLAIN_CSV)
    for source in (path, tmp_path / "bad*.csv"):
        with pytest.raises(NoInput, match=r"bad\\xff\.csv: its name is not UTF-8"):
            ingest(store, [source], PLAIN)
    assert published(store) == []


@pytest.mark.parametrize("name", ["\x1b[31mred.csv", "a\nb.csv", "\u202egpj.csv"])
def test_a_name_of_control_characters_is_shown_harmless(name: str, take: Takes, store: Store) -> None:
    """In notes, in refusals, in what rejects say; and it is read (F28)."""
    report = take(PLAIN_CSV[:-1].replace(b",", b";"), name)
    check_read(store, report)
    assert len(report.lines()) == 3
    assert all(line.isprintable() for line in report.lines())
    with pytest.raises(BadData) as told:
        take(b"hello\n", name)
    assert str(told.value).isprintable()
    with pytest.raises(BadData) as told:
        take(PLAIN_CSV.replace(b",0,", b",x,"), name)
    assert all(line.isprintable() for line in told.value.details)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_no_permission_is_a_storage_failure(tmp_path: Path, store: Store) -> None:
    """One line, exit 74."""
    path = write(tmp_path / "secret.csv", PLAIN_CSV)
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


@pytest.mark.parametrize("name", ["moving.csv", "moving.csv.gz", "moving.csv.zst"])
@pytest.mark.parametrize("change", ["grown", "cut", "replaced", "touched", "removed"])
def test_a_source_that_changes_while_it_is_read_must_be_tried_again(
    change: str, name: str, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 75, nothing published; packed or not. A file that grows or is cut may also look damaged."""
    monkeypatch.setattr(csv, "BLOCK_BYTES", 20_000)
    path = write(tmp_path / name, csv_of(rows=60))

    def meddle(_: Step) -> None:
        if change == "removed":
            path.unlink(missing_ok=True)
        elif change == "replaced":
            write(tmp_path / f"new-{name}", csv_of(rows=60)).rename(path)
        elif change == "cut":
            os.truncate(path, path.stat().st_size // 2)
        elif change == "touched":
            os.utime(path, ns=(1, 1))
        else:
            with open(path, "ab") as file:
                file.write(b"1")

    allowed = (TryAgain, BadData) if change in {"grown", "cut"} else TryAgain
    with pytest.raises(allowed, match=r"while it was read|cut short"):
        ingest(store, [path], PLAIN, progress=meddle)
    assert published(store) == []


@pytest.mark.parametrize("other", [files.UNLABELLED, KEYED])
def test_sources_of_one_dataset_must_agree_in_label_and_id(
    other: tuple[str, ...], tmp_path: Path, store: Store
) -> None:
    """Exit 65, both are named, and the remedy works."""
    paths = [write(tmp_path / "one.csv", csv_of()), write(tmp_path / "two.csv", csv_of(other))]
    with pytest.raises(BadData, match=r"two\.csv has .* one\.csv has labels; .* --label none and --key none"):
        ingest(store, paths, PARTS)
    assert published(store) == []
    left_out = IngestOptions(dataset="parts", label="none", key="none")
    assert ingest(store, paths, left_out).rows == 6


def test_numbered_parts_are_read_in_natural_order_and_the_manifest_says_which_rows_are_whose(
    tmp_path: Path, store: Store
) -> None:
    """part2 before part10, however they were given; each with its own separator, order and bad rows."""
    for number in range(10):
        rows = pixel_rows(range(number * 4, number * 4 + 4))
        data = table(
            files.UNLABELLED[:: 1 - number % 2 * 2], [row[:: 1 - number % 2 * 2] for row in rows], ",;\t"[number % 3]
        )
        write(tmp_path / f"part{number + 1}.csv", data)
    report = ingest(store, [tmp_path / "part*.csv"], PARTS)
    check_read(store, report)
    expected = [
        {"source": f"part{n + 1}.csv", "member": None, "first_id": n * 4 + 1, "last_id": n * 4 + 4} for n in range(10)
    ]
    assert manifest_of(store, "parts").facts["spans"] == expected
    given = [tmp_path / f"part{number}.csv" for number in (10, 9, 1, 3, 2, 8, 7, 6, 5, 4)]
    assert ingest(store, given, PARTS).already


def test_in_order_takes_the_sources_as_they_are_given(tmp_path: Path, store: Store) -> None:
    """And that is another request."""
    second = write(tmp_path / "a.csv", table(files.UNLABELLED, pixel_rows(range(20, ROWS))))
    first = write(tmp_path / "b.csv", table(files.UNLABELLED, pixel_rows(range(20))))
    check_read(store, ingest(store, [first, second], IngestOptions(dataset="given", in_order=True)))
    with pytest.raises(AlreadyPublished):
        ingest(store, [first, second], IngestOptions(dataset="given"))


def test_spans_name_members_and_empty_sources(tmp_path: Path, store: Store) -> None:
    """A source with a header alone has no rows; rejected rows have their ids."""
    import zipfile

    write(tmp_path / "a.csv", PLAIN_CSV.partition(b"\n")[0] + b"\n")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("x/10.csv", table(files.UNLABELLED, pixel_rows(range(30, ROWS))))
        archive.writestr("x/9.csv", table(files.UNLABELLED, pixel_rows(range(30))).replace(b"0,0\n", b"0,x\n", 1))
    report = ingest(store, [tmp_path / "b.zip", tmp_path / "a.csv"], PARTS)
    check_read(store, report, without=[1])
    spans = manifest_of(store, "parts").facts["spans"]
    found = [tuple(span[name] for name in ("source", "member", "first_id", "last_id")) for span in spans]
    assert found == [("a.csv", None, 1, 0), ("b.zip", "x/9.csv", 1, 30), ("b.zip", "x/10.csv", 31, 40)]


def test_keys_doubled_over_sources_are_said(tmp_path: Path, store: Store) -> None:
    """The manifest has their number."""
    names = ["id", *files.UNLABELLED]
    write(tmp_path / "a.csv", table(names, [[n, *row] for n, row in enumerate(pixel_rows(range(20)))]))
    write(tmp_path / "b.csv", table(names, [[n + 10, *row] for n, row in enumerate(pixel_rows(range(20, ROWS)))]))
    report = ingest(store, [tmp_path / "*.csv"], PARTS)
    check_read(store, report, keys=[*map(str, range(20)), *map(str, range(10, 30))])
    assert "10 rows have a row key that a row before them has (10 keys repeat)" in report.notes[0]
    assert manifest_of(store, "parts").facts["doubled_keys"] == 10


def test_a_source_given_twice_is_refused(tmp_path: Path, store: Store) -> None:
    """By a pattern and its name, by a link: its rows would be there twice."""
    path = write(tmp_path / "a.csv", PLAIN_CSV)
    (tmp_path / "b.csv").symlink_to(path)
    for sources in ([path, path], [path, tmp_path / "a*.csv"], [tmp_path / "*.csv"]):
        with pytest.raises(UsageError, match="twice"):
            ingest(store, sources, PARTS)


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "a?.csv", "[ab].csv"])
def test_what_exists_under_its_literal_name_is_no_pattern(name: str, tmp_path: Path, store: Store) -> None:
    """Even in a folder that is called like one."""
    folder = tmp_path / "runs[1]"
    folder.mkdir()
    for other in ("a1.csv", "a.csv", "b.csv"):
        write(folder / other, b"hello\n")
    check_read(store, ingest(store, [write(folder / name, PLAIN_CSV)], PLAIN))
    (folder / name).rename(folder / "digits.csv")
    check_read(store, ingest(store, [folder / "digits*"], PLAIN))


def test_a_source_is_closed_whatever_happens(tmp_path: Path) -> None:
    """Also if nobody reads it to its end."""
    with SourceFile(local_file(write(tmp_path / "a.csv", csv_of()))) as source:
        (text,) = source.texts()
        next(source.blocks(text))
    with pytest.raises(ValueError, match="closed"):
        source.read_raw(memoryview(bytearray(1)))
