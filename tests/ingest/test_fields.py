"""Bad input, "Fields": numbers in any usual form are read; others reject their row, with the field and a hint."""

import pytest

from digitrec.catalog.store import Store

from .conftest import Refuses, Takes
from .files import KAGGLE, UNLABELLED, labelled_rows, pixel_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV, ROWS, check_read, images_of, one_reject, rejects, with_field

TWELVE = [
    *(b"12", b'"12"', b" 12 ", b"\t12", b'" 12 "', b"12.0", b"12.", b"012", b"00000012", b"12.000000000000000000"),
    *(b"1.2e1", b"1.2E+01", b"1.200000000000000000e+01", b"0.12e2", b"120e-1", b'"12.0"', b"  1.2e1", b"12\t"),
]
NUMBERS = {b"007": 7, b"0": 0, b".0": 0, b"0e0": 0, b"000": 0, b"255": 255, b"255.0": 255, b"2.55e2": 255, b"1e2": 100}
WORDS = [
    *(b"-1", b"-0", b"-1.5", b"+5", b"NaN", b"nan", b"", b'""', b" ", b"0x1F", b"0b1", b"1_0", b"12L", b"1d2", b"5%"),
    *(b"=1+1", b"true", b"inf", b"NULL", b"#REF!", b"1 000", b"25 5", b"1;2", b"'12'", b'"12"3', b'1"2', b'"1,2"'),
    *(b"12.0.0", b".", b"e1", b"1e", b"1e+", b"1e1e1", b"--1", b"1-", b"9" * 400, b"0" * 400, b"1e9999", b"\\N"),
    *("٣".encode(), "１２".encode(), "½".encode(), b"\xc2\xa012", b"\xef\xbb\xbf12", b"12\r3", b"<b>1</b>", b"`1`"),
    *(b"\0", b"1\0", b"\0" * 40, b"\xff\xfe", b"\xc3", b"\x1b[31m", b"\x7f", b"\x80"),
]
OUTSIDE = {
    **dict.fromkeys(
        [b"256", b"999", b"1e3", b"1e999", b"65535", b"255.5", b"99999999999999999999"], "pixel_out_of_range"
    ),
    b"255.0000000000000000000001": "pixel_out_of_range",
    **dict.fromkeys([b"1.5", b"0.1", b"1e-1", b"0.0000000000000001", b"254.9999"], "not_a_whole_number"),
}


@pytest.mark.parametrize("place", [1, 300, 784])
def test_a_whole_number_in_any_usual_form_is_read(place: int, take: Takes, store: Store) -> None:
    """Quoted, padded, with a point, with zeros before it, as numpy.savetxt writes it; also at either end of the row."""
    data = LABELLED_CSV
    for row, form in enumerate(TWELVE, start=1):
        data = with_field(form, place, row=row, data=data)
    report = take(data)
    assert report.rejects == 0
    assert images_of(store, report)[: len(TWELVE), place - 1].tolist() == [12] * len(TWELVE)


def test_pixels_are_0_to_255(take: Takes, store: Store) -> None:
    """Both ends, in several forms."""
    data = LABELLED_CSV
    for row, form in enumerate(NUMBERS, start=1):
        data = with_field(form, 300, row=row, data=data)
    assert images_of(store, take(data))[: len(NUMBERS), 299].tolist() == list(NUMBERS.values())


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_beside_another_separator_are_read(separator: str, take: Takes, store: Store) -> None:
    """`12,0`, `"12,"`, `1,2e1`; beside commas a comma is no point."""
    data = table(KAGGLE, labelled_rows(), separator)
    forms = [form.replace(b".", b",") for form in TWELVE if b"\t" not in form]
    for row, form in enumerate(forms, start=1):
        data = with_field(form, 300, row=row, separator=separator.encode(), data=data)
    assert images_of(store, take(data))[: len(forms), 299].tolist() == [12] * len(forms)


@pytest.mark.parametrize("place", [1, 300, 784])
def test_what_is_no_number_rejects_its_row(place: int, take: Takes, store: Store) -> None:
    """Signs, words, formulas, other scripts' digits, 400 digits, NUL, bad UTF-8: line, column, value, reason."""
    fields = LABELLED_CSV.splitlines()[1].split(b",")
    bad = [b",".join([*fields[:place], word, *fields[place + 1 :]]) for word in WORDS]
    report = take(b"\n".join([*LABELLED_CSV.splitlines(), *bad, b""]), max_rejects=1)
    assert report.rows == ROWS
    found = rejects(store, report)
    assert [reject["line"] for reject in found] == list(range(ROWS + 2, ROWS + 2 + len(WORDS)))
    assert {reject["column"] for reject in found} == {f"pixel{place - 1}"}
    assert {reject["reason"] for reject in found} == {"not_a_number"}
    assert all(str(reject["value"]).isprintable() and len(str(reject["value"])) <= 40 for reject in found)


@pytest.mark.parametrize(("form", "reason"), OUTSIDE.items())
def test_what_is_no_whole_number_up_to_255_rejects_its_row(form: bytes, reason: str, take: Takes, store: Store) -> None:
    """And no other row; the value is the field itself."""
    report = take(with_field(form, 784))
    check_read(store, report, labels=True, without=[6])
    assert one_reject(store, report) == (7, "pixel783", reason, form.decode())


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        (b"\0", "\\x00"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"7" * 400, "7" * 39 + "…"),
        (b' "a b" ', "a b"),
        (b"1\r2", "1\\r2"),
        (b"\r", "\\r"),
        ("\u202e1".encode(), "\\u202e1"),
    ],
)
def test_the_value_is_shown_escaped_and_short(field: bytes, shown: str, take: Takes, store: Store) -> None:
    """At most 40 characters, and whatever cannot be seen is an escape (F28)."""
    assert one_reject(store, take(with_field(field, 300)))[3] == shown


@pytest.mark.parametrize(("field", "column"), [(b'"12', 5), (b'"12', 0), (b'"', 784), (b'"1""2', 300)])
def test_an_open_quote_rejects_its_line_alone(field: bytes, column: int, take: Takes, store: Store) -> None:
    """A quoted field never spans lines."""
    report = take(with_field(field, column))
    check_read(store, report, labels=True, without=[6])
    assert one_reject(store, report)[:3] == (7, KAGGLE[column], "unterminated_quote")


@pytest.mark.parametrize(
    ("change", "found"), [([], 784), ([b"1", b"2"], 786), ([b"1", b""], 786), ([b"0"] * 900, 1684)]
)
def test_short_and_long_rows_say_how_many_columns_they_have(
    change: list[bytes], found: int, take: Takes, store: Store
) -> None:
    """One too few, one too many; a newline that was lost would be two rows in one."""
    lines = LABELLED_CSV.splitlines()
    lines[6] = b",".join([*lines[6].split(b",")[:-1], *change])
    report = take(b"\n".join([*lines, b""]))
    check_read(store, report, labels=True, without=[6])
    assert one_reject(store, report) == (7, None, "column_count", None)
    assert str(rejects(store, report)[0]["text"]).startswith(f"{found} columns: ")


@pytest.mark.parametrize("label", [b"0", b'"7"', b" 3 ", b"9.0", b"5e0", b"04"])
def test_labels_are_whole_numbers_in_any_form(label: bytes, take: Takes) -> None:
    """pandas writes 9.0 where a label was once missing."""
    assert take(with_field(label, 0)).rejects == 0


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (b"10", "label_out_of_range"),
        (b"61", "label_out_of_range"),
        (b"1e3", "label_out_of_range"),
        (b"-1", "not_a_number"),
        (b"", "not_a_number"),
        (b"A", "not_a_number"),
        (b"1.5", "not_a_whole_number"),
    ],
)
def test_labels_are_0_to_9(label: bytes, reason: str, take: Takes, store: Store) -> None:
    """Others reject their rows."""
    report = take(with_field(label, 0))
    check_read(store, report, labels=True, without=[6])
    assert one_reject(store, report) == (7, "label", reason, label.decode())


@pytest.mark.parametrize("white", [1, 16])
def test_images_that_were_not_scaled_are_refused(white: int, refused: Refuses, take: Takes, store: Store) -> None:
    """Nothing above 16: --pixel-max, which reads them. All black is black."""
    rows = [[int(value) * white // 255 for value in row] for row in pixel_rows()]  # type: ignore[call-overload]
    told = refused(table(UNLABELLED, rows))
    assert "no pixel is above 16: these images are not scaled to 0…255; --pixel-max M" in told
    assert images_of(store, take(table(UNLABELLED, rows), pixel_max=white)).max() == 255
    assert take(table(UNLABELLED, [[0] * 784] * 5), "black.csv").rows == 5


def test_good_files_have_no_word_said_of_them(take: Takes) -> None:
    """So that a word is a word."""
    assert take(PLAIN_CSV).notes == take(LABELLED_CSV, "b.csv").notes == ()
