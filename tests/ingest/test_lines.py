"""Bad input, "Lines": line ends, blank lines, headers in mid-file, joined files, separators, lines of any length."""

import pytest

from digitrec.catalog.store import Store

from .conftest import Reads, Refuses, Takes
from .files import KAGGLE, UNLABELLED, labelled_rows, pixel_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV, ROWS, check_read, one_reject, rejects, with_line

BOM = b"\xef\xbb\xbf"
HEADER = PLAIN_CSV.partition(b"\n")[0]
LINES = PLAIN_CSV.splitlines()
TWICE = {"times": 2}


@pytest.mark.parametrize("end", ["\r\n", "\r\r\n", "\n"])
def test_line_ends_and_a_byte_order_mark_are_read(end: str, reads: Reads) -> None:
    """CRLF, CR CR LF; nothing is said of them."""
    assert reads(table(UNLABELLED, pixel_rows(), end=end)) == ""
    assert reads(BOM + table(KAGGLE, labelled_rows(), end=end), "b.csv", expect={"labels": True}) == ""


def test_mixed_line_ends_are_read(reads: Reads) -> None:
    """Also a header that ends in another way than the rows."""
    ends = [b"\n", b"\r\n", b"\r\r\n"] * ROWS
    assert reads(b"".join(line + end for line, end in zip(LINES, ends, strict=False))) == ""
    assert reads(PLAIN_CSV.replace(b"\n", b"\r\n", 1), "b.csv") == ""


@pytest.mark.parametrize("rows", [2, 40])
def test_cr_alone_refuses_the_file(rows: int, refused: Refuses) -> None:
    """Below and above 64 KiB; also if only the header, or only some rows, end so: then rows would be lost in one."""
    assert "CR line ends" in refused(table(UNLABELLED, pixel_rows(range(rows)), end="\r"))
    assert "CR line ends" in refused(b"\r".join(LINES[:rows]) + b"\n")
    assert "CR line ends" in refused(LINES[0] + b"\r" + b"\n".join(LINES[1:rows]) + b"\n")
    told = refused(PLAIN_CSV + b"\r".join(LINES[1 : rows + 1]) + b"\n", "b.csv", max_rejects=1)
    assert "source.csv" not in told
    assert "b.csv:42: several rows in one line, with CR between them" in told


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_utf_16_is_refused_and_named(encoding: str, separator: str, refused: Refuses) -> None:
    """With and without byte order mark; Excel's "Unicode text" is that with tabs."""
    data = table(UNLABELLED, pixel_rows(range(3)), separator).decode().encode(encoding)
    assert "UTF-16 text: save it as UTF-8" in refused(data)
    assert "UTF-16 text" in refused(b"\xfe\xff" + data, no_header=True)


@pytest.mark.parametrize("blank", [b"", b"  \t ", b"," * 783, b",,,", b"\r", b" , ,"])
def test_blank_lines_are_skipped_counted_and_said(blank: bytes, reads: Reads) -> None:
    """Lines of nothing, of blanks, of separators: before the header, between all rows, at the end. No id is spent."""
    spaced = b"".join(line + b"\n" + blank + b"\n" for line in LINES)
    said = reads(blank + b"\n\n" + spaced + blank + b"\n\n")
    assert "skipped 45 blank lines" in said


def test_the_header_again_is_skipped_counted_and_said(reads: Reads) -> None:
    """Files that were joined, the header in other case or quotes too, with byte order marks or without."""
    quoted = table([f' "{name.upper()}" ' for name in UNLABELLED], pixel_rows())
    for number, data in enumerate((PLAIN_CSV * 2, BOM + PLAIN_CSV + BOM + PLAIN_CSV, PLAIN_CSV + quoted)):
        assert "skipped 1 repeated headers" in reads(data, f"{number}.csv", expect=TWICE)
    numbers = table(range(784), pixel_rows())  # type: ignore[arg-type]
    reads(numbers * 2, "n.csv", expect=TWICE)
    reads(LABELLED_CSV * 2, "l.csv", expect={**TWICE, "labels": True})
    reads(PLAIN_CSV + HEADER, "end.csv")


def test_a_key_behind_a_byte_order_mark_is_the_key(reads: Reads) -> None:
    """Joined files: the mark in mid-file is no part of a key or a name."""
    data = BOM + table(["id", *UNLABELLED], [[n, *row] for n, row in enumerate(pixel_rows())])
    keys = [str(n) for n in range(ROWS)] * 2
    reads(data + data, expect={**TWICE, "keys": keys})
    reads(data + BOM + data.partition(b"\n")[2], "b.csv", expect={**TWICE, "keys": keys})


OTHERS = {
    "reversed": table(UNLABELLED[::-1], pixel_rows()),
    "a label": LABELLED_CSV,
    "a column fewer": table(UNLABELLED[:-1], [row[:-1] for row in pixel_rows()]),
    "16×16": table(UNLABELLED[:256], [row[:256] for row in pixel_rows()]),
    "8×8": table(UNLABELLED[:64], [row[:64] for row in pixel_rows()]),
    "other names": table([f"px{n}" for n in range(784)], pixel_rows()),
    "numbers": table(range(1, 785), pixel_rows()),  # type: ignore[arg-type]
    "a grid": table([f"{n // 28}x{n % 28}" for n in range(784)], pixel_rows()),
    "semicolons": table(UNLABELLED, pixel_rows(), ";"),
    "tabs": table(UNLABELLED, pixel_rows(), "\t"),
    "rows with semicolons": table(None, pixel_rows(), ";"),
    "one row with tabs": table(None, pixel_rows([0]), "\t"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_layout_in_mid_file_refuses_it_whatever_the_budget(other: bytes, refused: Refuses) -> None:
    """F34: another header, other columns, another separator. All that follows would be misread, or lost."""
    for number, data in enumerate((PLAIN_CSV + other, PLAIN_CSV * 3 + b"\n\n" + other + PLAIN_CSV)):
        told = refused(data, f"{number}.csv", max_rejects=1)
        assert f"{number}.csv:{(42, 126)[number]}: " in told
        assert "several layouts were joined" in told
    assert "several layouts were joined" in refused(PLAIN_CSV + other)


def test_swapped_columns_in_mid_file_are_another_header(refused: Refuses) -> None:
    """The same names in another order, a label under another name."""
    swapped = [[row[1], row[0], *row[2:]] for row in labelled_rows()]
    assert "another header" in refused(LABELLED_CSV + table(["pixel0", "label", *UNLABELLED[1:]], swapped))
    assert "another header" in refused(LABELLED_CSV + table(["class", *UNLABELLED], labelled_rows()))
    assert "another header" in refused(LABELLED_CSV + PLAIN_CSV)


@pytest.mark.parametrize(
    "line", [b"oops", b"total: 40 rows", b"pixel", b"<EOF>", b"1,2,3", b"# done", b"a;b", b"x" * 60_000]
)
def test_a_line_of_something_else_is_a_rejected_row(line: bytes, reads: Reads) -> None:
    """A remark is no header: one row, whose id it takes."""
    rows = [line, *LINES[7:]]
    reads(b"\n".join([*LINES[:6], *rows, b""]), expect={"without": [6]})


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_semicolons_and_tabs_are_read_and_said(separator: str, word: str, reads: Reads) -> None:
    """With decimal commas too; Excel's `sep=` line, quoted or filled up; blanks behind separators."""
    plain = table(UNLABELLED, pixel_rows(), separator)
    assert f"separated by {word}" in reads(plain, "a.csv")
    for number, mark in enumerate(
        ("sep={}\r\n", '"sep={}"\n', "SEP={}\n", "\nsep={}\n", "sep={}" + separator * 9 + "\n")
    ):
        reads(mark.format(separator).encode() + plain, f"{number}.csv")
    commas = table(UNLABELLED, [[f"{value},0" for value in row] for row in pixel_rows()], separator)
    assert "decimal commas" in reads(BOM + commas, "b.csv")
    reads(plain.replace(separator.encode(), separator.encode() + b" "), "c.csv")


def test_an_empty_field_before_a_quote_is_one_field(reads: Reads) -> None:
    """Also beside tabs, which are no padding there: an index without a name, labels that are not known."""
    for number, separator in enumerate(",;\t"):
        names, rows = ["", '"label"', *(f'"{name}"' for name in UNLABELLED)], pixel_rows()
        data = table(names, [[n, "", *(f'"{value}"' for value in row)] for n, row in enumerate(rows)], separator)
        said = reads(data, f"{number}.csv")
        assert "left out an index column" in said
        assert "read as unlabelled" in said


def test_a_first_row_that_is_rejected_says_nothing_of_the_columns(reads: Reads) -> None:
    """One with an open quote, or too short: an index is no empty column for it, and labels are labels."""
    rows = [[*row, n] for n, row in enumerate(labelled_rows())]
    rows[0] = rows[0][:-1]
    reads(table([*KAGGLE, ""], rows), expect={"labels": True, "without": [1]})
    rows[0] = ["?", '"""', *rows[0][2:], 0]
    reads(table([*KAGGLE, ""], rows), "b.csv", expect={"labels": True, "without": [1]})


def test_commas_with_blanks_or_a_sep_line_are_read(reads: Reads) -> None:
    """`, ` between fields, also in the header."""
    assert reads(table(UNLABELLED, pixel_rows(), ", ")) == ""
    assert reads(b"sep=,\n" + PLAIN_CSV, "b.csv") == ""


@pytest.mark.parametrize(("separator", "mark"), [(" ", ""), ("|", ""), ("|", "sep=|\n")])
def test_other_separators_are_refused_with_the_remedy(separator: str, mark: str, refused: Refuses) -> None:
    """Spaces (numpy.savetxt, R's write.table) and pipes; with a header or without."""
    told = refused(mark.encode() + table(UNLABELLED, pixel_rows(), separator))
    assert f"separated by '{separator}': convert them to commas" in told
    assert "convert them to commas" in refused(mark.encode() + table(None, pixel_rows(), separator), no_header=True)


def test_an_empty_column_at_the_end_of_each_line_is_read(reads: Reads, take: Takes, store: Store) -> None:
    """In the header too or not, or in the header alone, or two; what stands there later is a rejected row."""
    empty = [[*row, ""] for row in pixel_rows()]
    for number, names in enumerate(([*UNLABELLED, ""], UNLABELLED)):
        assert reads(table(names, empty), f"{number}.csv") == ""
    assert reads(table([*UNLABELLED, ""], pixel_rows()), "2.csv") == ""
    assert reads(table([*UNLABELLED, "", ""], [[*row, ""] for row in empty]), "3.csv") == ""
    assert "semicolons" in reads(table([*UNLABELLED, ""], empty, ";"), "4.csv")
    empty[5][-1] = "note"
    reads(table([*UNLABELLED, ""], empty), "5.csv", expect={"without": [6]})
    report = take(table([*UNLABELLED, ""], empty), "5.csv")
    assert one_reject(store, report) == (7, "number 785", "unexpected_value", "note")


@pytest.mark.parametrize("length", [65_536, 65_537, 70_000, 1_000_000, 9_000_000])
@pytest.mark.parametrize("filler", [b"1", b",", b"x", b" "])
def test_a_line_of_any_length_is_one_row_at_most(length: int, filler: bytes, take: Takes, store: Store) -> None:
    """Above 64 KiB it is rejected unread, and reading goes on behind its newline."""
    blank = length <= 65_536 and filler in b", "
    report = take(with_line(filler * length))
    assert (report.rows, report.rejects) == (ROWS, 0 if blank else 1)
    if not blank:
        (reject,) = rejects(store, report)
        assert (reject["line"], reject["image_id"]) == (7, 6)
        assert reject["byte_offset"] == sum(len(line) + 1 for line in LINES[:6])
        assert reject["reason"] == ("line_too_long" if length > 65_536 else "column_count")
        assert len(str(reject["text"]).encode()) <= 200


@pytest.mark.parametrize("room", [64, 4096, 100_000, 6_000_000])
def test_room_that_was_never_written_refuses_the_file(room: int, refused: Refuses) -> None:
    """NUL where rows should be, at the end or in the middle, as interrupted downloads and crashed machines leave it."""
    half = PLAIN_CSV[: len(PLAIN_CSV) // 2]
    for name, data in (
        ("end.csv", half + bytes(room)),
        ("hole.csv", half + bytes(room) + PLAIN_CSV[len(half) + room :]),
    ):
        told = refused(data, name, max_rejects=1)
        assert "NUL" in told or "cut short" in told


@pytest.mark.parametrize("header", [True, False])
def test_files_joined_without_a_line_end_are_refused(header: bool, refused: Refuses) -> None:
    """The last row of one and the first line of the next are one line: two rows, or one and a header."""
    data = PLAIN_CSV if header else PLAIN_CSV.partition(b"\n")[2]
    told = refused(data[:-1] + data, max_rejects=1, no_header=not header)
    assert "several rows in one line" in told or "another header" in told


def test_excels_separator_line_again_is_skipped(reads: Reads) -> None:
    """As in files that were joined; an end-of-file mark between them too."""
    part = b"sep=;\r\n" + table(UNLABELLED, pixel_rows(), ";", end="\r\n")
    reads(part + part, expect=TWICE)
    reads(part + b"\x1a\r\n" + part, "b.csv", expect=TWICE)


def test_a_header_of_numbers_again_is_skipped_whatever_white_is(take: Takes) -> None:
    """Only its numbers above --pixel-max are no pixels."""
    numbers = table(range(784), pixel_rows())  # type: ignore[arg-type]
    report = take(numbers * 2, pixel_max=500)
    assert (report.rows, report.rejects) == (2 * ROWS, 0)
    assert "skipped 1 repeated headers" in report.notes


def test_a_long_row_with_all_its_columns_is_read(take: Takes, store: Store) -> None:
    """64 KiB of padding are no fault."""
    padded = LINES[7].replace(b",", b"," + b" " * 80)
    assert 60_000 < len(padded) < 65_536
    check_read(store, take(b"\n".join([*LINES[:7], padded, *LINES[8:], b""])))
