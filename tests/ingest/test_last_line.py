"""A last line without newline: it counts if it has all its columns, or the file was cut short and is refused whole."""

import gzip

import pytest

from digitrec.catalog.store import Store

from .conftest import Reads, Refuses, Takes
from .files import KAGGLE, UNLABELLED, labelled_rows, pixel_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV, ROWS, check_read, one_reject, rejects

KEYS = [str(n) for n in range(ROWS)]
KEY_LAST = table([*UNLABELLED, "id"], [[*row, n] for n, row in enumerate(pixel_rows())])
LABEL_LAST = table([*UNLABELLED, "label"], [[*row[1:], row[0]] for row in labelled_rows()])
BODY = b"\n".join(PLAIN_CSV.splitlines()[:-1]) + b"\n"
LAST = PLAIN_CSV.splitlines()[-1]
STEM = LAST.rpartition(b",")[0]

CUT = {
    "in the first field": b"1",
    "in the middle": LAST[:300],
    "behind a comma": LAST[:301].rpartition(b",")[0] + b",",
    "a column short": STEM,
    "the last one empty": STEM + b",",
    "in a quote": STEM + b',"1',
    "in an early quote": b'"12',
    "in an exponent": STEM + b",1e",
    "zeros of a disk": LAST[:300] + bytes(5000),
    "nothing but zeros": bytes(5000),
    "an error message": b"Internal Server Error",
    "a web page": b"</body></html>",
    "half a header": b",".join(PLAIN_CSV.partition(b"\n")[0].split(b",")[:100]),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("rest", CUT.values(), ids=CUT)
def test_a_file_that_was_cut_short_is_refused_whatever_the_budget(rest: bytes, packed: bool, refused: Refuses) -> None:
    """F5, F34: half an upload is no file. A single reject would have been free before."""
    data = gzip.compress(PLAIN_CSV + rest) if packed else PLAIN_CSV + rest
    for options in ({}, {"max_rejects": 1}, {"max_rejects": 1, "allow_unterminated": True}):
        told = refused(data, **options)
        assert "source.csv:42: the file is cut short" in told
        assert "get the whole file" in told


@pytest.mark.parametrize("place", range(1, 30))
def test_a_file_cut_anywhere_is_refused(place: int, refused: Refuses) -> None:
    """Whatever its last byte was."""
    assert "cut short" in refused(PLAIN_CSV[: -len(LAST) - 1 + place * 50], max_rejects=1)


@pytest.mark.parametrize("end", [b"", b"\r", b" ", b"\t"])
def test_a_whole_last_line_counts_and_that_is_said(end: bytes, reads: Reads) -> None:
    """RFC 4180 allows it. A packed file proves its own end, so there is nothing to say."""
    assert "the last line has no line end; it has all its columns and counts" in reads(PLAIN_CSV[:-1] + end)
    assert reads(gzip.compress(PLAIN_CSV[:-1] + end), "b.csv") == ""
    reads(LABEL_LAST[:-1] + end, "c.csv", expect={"labels": True})
    reads(LABELLED_CSV[:-1] + end, "d.csv", expect={"labels": True})


@pytest.mark.parametrize("behind", [b"\x1a", b"  ", b"\r", b"\t \x1a"])
def test_what_editors_leave_behind_the_last_line_is_nothing(behind: bytes, reads: Reads) -> None:
    """Blanks, and the end of a file of DOS."""
    assert reads(PLAIN_CSV + behind) == ""


@pytest.mark.parametrize("form", [b'"0"', b"0.", b"0.0", b" 0", b"0e0"])
def test_a_whole_last_line_in_any_form_counts(form: bytes, reads: Reads) -> None:
    """Quotes are closed; a number with a point could have been longer, and is one."""
    assert "counts" in reads(BODY + STEM + b"," + form)


def test_a_last_line_with_all_its_columns_may_be_rejected(take: Takes, store: Store) -> None:
    """As any other row: it was not cut."""
    report = take(PLAIN_CSV + LAST.replace(b"0", b"x", 1))
    assert one_reject(store, report) == (42, "pixel0", "not_a_number", "x")
    assert take(PLAIN_CSV + LAST + b",0", "b.csv").reasons == {"column_count": 1}


def test_a_key_at_the_end_may_have_been_cut(refused: Refuses, reads: Reads) -> None:
    """1000 may have been 10001: refused, unless --allow-unterminated says it is whole; packed after that too."""
    for name, data in (
        ("a.csv", KEY_LAST[:-1]),
        ("b.csv", KEY_LAST[:-3] + b'"39"'),
        ("d.csv", gzip.compress(KEY_LAST[:-1])),
    ):
        told = refused(data, name, max_rejects=1)
        assert "its row key may be cut short" in told
        assert "--allow-unterminated" in told
    reads(KEY_LAST[:-1], "c.csv", allow_unterminated=True, expect={"keys": KEYS})
    reads(KEY_LAST, "e.csv", expect={"keys": KEYS})


def test_an_open_key_is_cut_whatever_is_allowed(refused: Refuses) -> None:
    """A quote that is open at the end."""
    assert "cut short" in refused(KEY_LAST[:-3] + b'"39', allow_unterminated=True, max_rejects=1)


def test_a_column_that_holds_nothing_may_be_last(reads: Reads, refused: Refuses) -> None:
    """An empty label column, an empty column at the end of each line: the separator must be there."""
    unknown = table([*UNLABELLED, "label"], [[*row, ""] for row in pixel_rows()])
    assert "counts" in reads(unknown[:-1])
    assert "cut short" in refused(unknown[:-2], "b.csv")
    trailing = table([*UNLABELLED, ""], [[*row, ""] for row in pixel_rows()])
    assert "counts" in reads(trailing[:-1], "c.csv")
    assert "cut short" in refused(trailing[:-2], "d.csv")


def test_one_row_and_no_newline(take: Takes, store: Store) -> None:
    """A file of one image, as people try first."""
    report = take(table(KAGGLE, labelled_rows([7]))[:-1])
    assert (report.rows, report.rejects) == (1, 0)


def test_a_cut_member_refuses_its_archive_and_a_cut_source_all(refused: Refuses) -> None:
    """Nothing of the sources before it is published either."""
    import io
    import zipfile

    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.csv", PLAIN_CSV)
        archive.writestr("b.csv", PLAIN_CSV[:-50])
    assert "source.zip!b.csv:41: the file is cut short" in refused(sink.getvalue(), "source.zip", max_rejects=1)


def test_the_last_line_is_judged_alone(take: Takes, store: Store) -> None:
    """Bad rows before it stay bad rows."""
    data = PLAIN_CSV.replace(LAST, LAST.replace(b"0", b"-1", 1))[:-1]
    report = take(data)
    check_read(store, report, without=[ROWS])
    assert rejects(store, report)[0]["value"] == "-1"
