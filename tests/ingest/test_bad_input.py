"""Bad input and what it gets: every row of the contract's table, in its order."""

import gzip
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from digitrec.errors import AlreadyPublished, BadData, DigitrecError, NoInput, StorageFailed, TryAgain
from digitrec.ingest import csv
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.run import IngestReport, ingest
from digitrec.options import IngestOptions
from digitrec.progress import Step
from digitrec.store.layout import Store
from digitrec.store.manifest import read_manifest
from digitrec.store.reading import read_dataset

from . import files
from .files import KAGGLE, KEYED, csv_of, lines_of, row_of, write

PLAIN = IngestOptions()


@pytest.fixture
def take(tmp_path: Path, store: Store) -> Callable[..., IngestReport]:
    """Ingest the bytes of one source."""

    def run(data: bytes, name: str = "source.csv", options: IngestOptions = PLAIN) -> IngestReport:
        return ingest(store, [write(tmp_path / name, data)], options, threads=1)

    return run


@pytest.fixture
def refused(tmp_path: Path, store: Store) -> Callable[..., str]:
    """Ingest what must be refused: what is said. Nothing is published, nothing staged remains."""

    def run(
        data: bytes, name: str = "source.csv", options: IngestOptions = PLAIN, error: type[DigitrecError] = BadData
    ) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(error) as told:
            ingest(store, [path], options, threads=1)
        assert published(store) == []
        return str(told.value)

    return run


def published(store: Store) -> list[Path]:
    base = Path(store.url)
    return [*base.glob("datasets/*"), *base.glob("_staging/*")]


def rejects(store: Store, report: IngestReport) -> list[dict[str, object]]:
    manifest = read_manifest(store, report.folder)
    (path,) = [file.path for file in manifest.files if "rejects" in file.path]
    rows: list[dict[str, object]] = pq.read_table(store.full(path)).to_pylist()
    return rows


def with_field(field: bytes, column: int = 1, names: tuple[str, ...] = KAGGLE) -> bytes:
    """Three rows, of which the second has `field` in `column`."""
    header, first, _, third = lines_of(names, 3)
    fields = row_of(names, 1)
    fields[column] = field
    return b"\n".join([header, first, b",".join(fields), third, b""])


def one_reject(store: Store, report: IngestReport) -> tuple[object, object, object]:
    (reject,) = rejects(store, report)
    assert report.rows == 2
    return reject["line"], reject["column"], reject["reason"]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + csv_of(),
        csv_of(end=b"\r\n"),
        b"".join(line + end for line, end in zip(lines_of(KAGGLE, 3), [b"\n", b"\r\n", b"\n", b"\r\n"], strict=True)),
    ],
    ids=["bom", "crlf", "mixed"],
)
def test_bom_and_any_line_ends_are_accepted(data: bytes, take: Callable[..., IngestReport], store: Store) -> None:
    """Same rows as in plain LF."""
    report, plain = take(data), take(csv_of(), "plain.csv")
    assert read_dataset(store.full(report.folder)).equals(read_dataset(store.full(plain.folder)))


@pytest.mark.parametrize("rows", [2, 60])
def test_cr_alone_refuses_the_file(rows: int, refused: Callable[..., str]) -> None:
    """Below and above 64 KiB."""
    data = csv_of(rows=rows, end=b"\r")
    assert f"one line of {len(data):,} bytes; CR line ends?" in refused(data)


def test_an_unterminated_last_line_is_a_reject(take: Callable[..., IngestReport], store: Store) -> None:
    """255 may have become 25. A header alone may lack its newline."""
    assert one_reject(store, take(csv_of()[:-1])) == (4, None, "unterminated")
    assert take(csv_of(rows=0)[:-1], "header.csv").rows == 0


def test_an_unterminated_last_line_can_be_allowed(take: Callable[..., IngestReport]) -> None:
    """--allow-unterminated; gzip and zstd prove their own end."""
    data = csv_of()[:-1]
    assert take(data, "a.csv", IngestOptions(allow_unterminated=True)).rows == 3
    assert take(data, "b.csv.gz").rows == 3
    assert take(data, "c.csv.zst").rows == 3


def test_a_quoted_number_is_accepted(take: Callable[..., IngestReport], store: Store) -> None:
    """ "12" is 12, in the header too."""
    header, *rows = lines_of(KAGGLE, 2)
    quoted = [b'"' + line.replace(b",", b'","') + b'"' for line in (header, *rows)]
    report = take(b"\n".join([*quoted, b""]))
    assert (report.rows, report.rejects) == (2, 0)
    assert read_dataset(store.full(report.folder)).equals(
        read_dataset(store.full(take(csv_of(rows=2), "plain.csv").folder))
    )


@pytest.mark.parametrize("field", [b" 12", b"12 ", b"\t12"])
def test_padded_numbers_are_no_integers(field: bytes, take: Callable[..., IngestReport], store: Store) -> None:
    """' 12' and '12 '."""
    assert one_reject(store, take(with_field(field))) == (3, "pixel0", "not_an_integer")


def test_an_unterminated_quote_costs_one_line(take: Callable[..., IngestReport], store: Store) -> None:
    """Not the rest of the file."""
    assert one_reject(store, take(with_field(b'"12', 5))) == (3, "pixel4", "unterminated_quote")


@pytest.mark.parametrize(("change", "found"), [(b"", 784), (b"1,2", 786), (b"1,", 786)])
def test_short_and_long_rows_are_rejects_with_the_number_found(
    change: bytes, found: int, take: Callable[..., IngestReport], store: Store
) -> None:
    """A field too few, one too many, a trailing comma."""
    header, first, second, third = lines_of(KAGGLE, 3)
    changed = b",".join([*second.split(b",")[:-1], *([change] if change else [])])
    report = take(b"\n".join([header, first, changed, third, b""]))
    assert one_reject(store, report) == (3, None, "column_count")
    assert str(rejects(store, report)[0]["text"]).startswith(f"{found} columns: ")


def test_a_blank_line_is_a_reject_except_at_the_very_end(take: Callable[..., IngestReport], store: Store) -> None:
    """And it counts as a row: ids go on behind it."""
    header, first, second = lines_of(KAGGLE, 2)
    report = take(b"\n".join([header, first, b"", second, b"", b""]))
    assert one_reject(store, report) == (3, None, "blank_line")
    assert read_dataset(store.full(report.folder))["image_id"].tolist() == [1, 3]
    assert take(csv_of(end=b"\r\n") + b"\r\n", "crlf.csv").rejects == 0


def test_the_header_again_is_a_reject(take: Callable[..., IngestReport], store: Store) -> None:
    """As in files that were concatenated."""
    header, first, second = lines_of(KAGGLE, 2)
    report = take(b"\n".join([header, first, header, second, b""]))
    assert one_reject(store, report) == (3, "label", "not_an_integer")


def test_a_missing_header_refuses_the_file(refused: Callable[..., str]) -> None:
    """With a word on --no-header."""
    assert "--no-header" in refused(csv_of()[len(lines_of(KAGGLE, 0)[0]) + 1 :])


@pytest.mark.parametrize(("names", "labelled"), [(KAGGLE, True), (files.UNLABELLED, False)])
def test_no_header_takes_the_first_line_as_data(
    names: tuple[str, ...], labelled: bool, take: Callable[..., IngestReport], store: Store
) -> None:
    """785 columns are a label and pixels, 784 are pixels."""
    data = csv_of(names)[len(lines_of(names, 0)[0]) + 1 :] + b"oops\n"
    report = take(data, options=IngestOptions(no_header=True))
    assert (report.rows, report.labelled) == (3, labelled)
    assert rejects(store, report)[0]["line"] == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: names[:-1], "missing 'pixel783'"),
        (lambda names: (*names, "mood"), "unknown 'mood'"),
        (lambda names: (*names, "pixel5"), "there twice 'pixel5'"),
        (lambda names: tuple(name.upper() for name in names), "'PIXEL0'"),
        (lambda names: (" label", *names[1:]), "unknown ' label'"),
    ],
    ids=["missing", "extra", "twice", "case", "padded"],
)
def test_another_header_refuses_the_file_and_lists_the_differences(
    change: Callable[[tuple[str, ...]], tuple[str, ...]], words: str, refused: Callable[..., str]
) -> None:
    """A column missing, extra, twice, in other case, padded."""
    assert words in refused(",".join(change(KAGGLE)).encode() + b"\n1,2,3\n")


def test_columns_in_another_order_are_taken_by_name(take: Callable[..., IngestReport], store: Store) -> None:
    """And the report says so."""
    report, plain = take(csv_of(KAGGLE[::-1])), take(csv_of(), "plain.csv")
    assert any("order" in warning for warning in report.warnings)
    assert read_dataset(store.full(report.folder)).equals(read_dataset(store.full(plain.folder)))


@pytest.mark.parametrize(
    ("field", "reason"), [(b"10", "label_out_of_range"), (b"-1", "not_an_integer"), (b"", "not_an_integer")]
)
def test_labels_are_0_to_9(field: bytes, reason: str, take: Callable[..., IngestReport], store: Store) -> None:
    """10, -1 and blank are rejects."""
    assert one_reject(store, take(with_field(field, 0))) == (3, "label", reason)


@pytest.mark.parametrize("field", [b"256", b"999"])
def test_pixels_are_at_most_255(field: bytes, take: Callable[..., IngestReport], store: Store) -> None:
    """256 and 999 are rejects."""
    assert one_reject(store, take(with_field(field, 784))) == (3, "pixel783", "pixel_out_of_range")


@pytest.mark.parametrize(
    "field", [b"-1", b"1.0", b"NaN", b"", b"1e2", b"+5", b"1_0", "٣".encode(), b"=1+1", b"true", b"0x1F"]
)
def test_what_is_no_integer_is_a_reject(field: bytes, take: Callable[..., IngestReport], store: Store) -> None:
    """Signs, points, words, other scripts' digits, formulas, hexadecimal."""
    assert one_reject(store, take(with_field(field, 300))) == (3, "pixel299", "not_an_integer")


def test_leading_zeros_are_accepted_to_three_digits(take: Callable[..., IngestReport], store: Store) -> None:
    """007 is 7."""
    report = take(with_field(b"007", 300))
    assert read_dataset(store.full(report.folder))["pixel299"][1] == 7


@pytest.mark.parametrize("field", [b"0007", b"1" * 400])
def test_longer_numbers_are_no_integers(field: bytes, take: Callable[..., IngestReport], store: Store) -> None:
    """0007, 400 digits."""
    assert one_reject(store, take(with_field(field, 300))) == (3, "pixel299", "not_an_integer")


@pytest.mark.parametrize(
    ("field", "shown"), [(b"\0", "\\x00"), (b"\xff\xfe", "\\xff\\xfe"), (b"\x1b[31m", "\\x1b[31m")]
)
def test_nul_and_invalid_utf8_are_rejects_and_escaped(
    field: bytes, shown: str, take: Callable[..., IngestReport], store: Store
) -> None:
    """The report can be printed on any terminal."""
    report = take(with_field(field, 2))
    assert one_reject(store, report) == (3, "pixel1", "not_an_integer")
    assert shown in str(rejects(store, report)[0]["text"])


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
        assert read_dataset(store.full(report.folder))["key"].tolist() == ["key-0", expected, "key-2"]


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
