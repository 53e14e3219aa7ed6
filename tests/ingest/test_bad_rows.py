"""Bad rows and what they get: the contract's table of bad input, in its order, as far as a row goes."""

from collections.abc import Callable

import pytest

from digitrec.ingest.run import IngestReport
from digitrec.options import IngestOptions
from digitrec.store.layout import Store
from digitrec.store.reading import read_dataset

from . import files
from .files import KAGGLE, csv_of, lines_of
from .outcomes import one_reject, rejects, with_field


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
