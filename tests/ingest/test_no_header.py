"""Files without a header: refused naming --no-header, which reads them; and a line of names is never data."""

import numpy as np
import pytest

from digitrec.catalog.store import Store

from .conftest import Reads, Refuses, Takes
from .files import KAGGLE, UNLABELLED, digits, labelled_rows, pixel_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV, images_of

FIRST = table(None, labelled_rows())
LAST = table(None, [[*row[1:], row[0]] for row in labelled_rows()])
BARE = table(None, pixel_rows())


def test_a_file_without_header_is_refused_with_the_remedy(refused: Refuses, reads: Reads) -> None:
    """Which works: 784 columns, or 785 and where the label is."""
    assert refused(BARE).endswith("there is no header: --no-header reads it")
    assert "--no-header with --label first or --label last" in refused(FIRST)
    assert reads(BARE, "a.csv", no_header=True) == ""
    reads(FIRST, "b.csv", no_header=True, label="first", expect={"labels": True})
    reads(LAST, "c.csv", no_header=True, label="last", expect={"labels": True})


def test_other_forms_without_header(reads: Reads) -> None:
    """numpy.savetxt, semicolons with decimal commas, behind `sep=`, a separator at the end of each line, BOM."""
    floats = table(None, [[f"{value:.18e}" for value in row] for row in pixel_rows()])  # type: ignore[str-format]
    commas = table(None, [[f"{value},0" for value in row] for row in pixel_rows()], ";")
    trailing = table(None, [[*row, ""] for row in pixel_rows()])
    for name, data in (("a", floats), ("b", commas), ("c", b"sep=;\r\n" + commas), ("d", trailing)):
        reads(data, f"{name}.csv", no_header=True)
    reads(b"\xef\xbb\xbf" + BARE, "e.csv", no_header=True)
    labelled = table(None, [[*row, ""] for row in labelled_rows()])
    reads(labelled, "f.csv", no_header=True, label="first", expect={"labels": True})


@pytest.mark.parametrize(
    "names",
    [
        UNLABELLED,
        KAGGLE,
        [str(n) for n in range(784)],
        [str(n) for n in range(1, 785)],
        [f"{n}.0" for n in range(784)],
        [f"V{n}" for n in range(1, 786)],
        [f"{n // 28}x{n % 28}" for n in range(784)],
    ],
    ids=["pixel0", "label", "0", "1", "0.0", "V1", "0x0"],
)
def test_a_line_of_names_is_never_data(names: list[str], refused: Refuses) -> None:
    """Not the first one, and none that stands among rows without header."""
    rows = labelled_rows() if len(names) == 785 else pixel_rows()
    options = {"no_header": True, "label": "first" if len(names) == 785 else None, "max_rejects": 1}
    assert "looks like a header" in refused(table(names, rows), **options)
    assert "another header" in refused(table(None, rows) + table(names, rows), "b.csv", **options)


def test_names_of_numbers_are_no_image_where_pixels_may_be_as_large(refused: Refuses) -> None:
    """0 … 783 as a row of pixels up to 1023."""
    for first in (0, 1):
        joined = BARE + table(range(first, first + 784), pixel_rows())  # type: ignore[arg-type]
        told = refused(joined, f"{first}.csv", no_header=True, pixel_max=1023, max_rejects=1)
        assert "row 41 is a header of numbers" in told


@pytest.mark.parametrize(("data", "taken", "right"), [(FIRST, "last", "first"), (LAST, "first", "last")])
def test_a_label_at_the_wrong_end_is_refused(data: bytes, taken: str, right: str, refused: Refuses) -> None:
    """The column taken for it looks like a pixel, the other one like labels: says which."""
    told = refused(data, no_header=True, label=taken, max_rejects=1)
    assert f"the {taken} column looks like a pixel" in told
    assert told.endswith(f"--label {right}")


def test_labels_all_alike_are_labels(take: Takes) -> None:
    """A file of one digit each, as people sort them; nothing else looks like labels there."""
    data = table(None, [[3, *row] for row in pixel_rows()])
    assert take(data, no_header=True, label="first").labelled


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (labelled_rows(), {}, "785 columns: say which one is the label, --label first or --label last"),
        (labelled_rows(), {"label": "label"}, "--label first or --label last"),
        (pixel_rows(), {"label": "first"}, "there is none for --label first"),
        (pixel_rows(), {"key": "id"}, "--no-header says that there is none"),
        (pixel_rows(), {"ignore": ("x",)}, "--no-header says that there is none"),
        ([[n, *row] for n, row in enumerate(labelled_rows())], {"label": "first"}, "the first line has 786 columns"),
        ([row[:256] for row in pixel_rows()], {}, "256 columns (16×16 images? expected 28×28)"),
        ([(row * 2)[:1024] for row in pixel_rows()], {}, "1024 columns (32×32 images? expected 28×28)"),
    ],
)
def test_options_that_do_not_fit_the_columns_are_refused(
    rows: list[list[object]], options: dict[str, object], words: str, refused: Refuses
) -> None:
    """With what there is, and what there must be."""
    assert words in refused(table(None, rows), no_header=True, **options)


def test_other_sizes_are_named_before_anybody_tries_no_header(refused: Refuses) -> None:
    """No header line would help."""
    assert "16×16 images? expected 28×28" in refused(table(None, [row[:256] for row in pixel_rows()]))


def test_a_row_that_pandas_took_for_a_header_is_recognised(refused: Refuses) -> None:
    """5, 0, 0.1, 0.2, …: read without header=None and saved again, the first row is lost; the original is needed."""
    names = ["5", "0", *(f"0.{n}" for n in range(1, 784))]
    for options in ({}, {"no_header": True, "label": "first"}):
        told = refused(table(names, labelled_rows()), **options)
        assert "its first row is lost; go back to the original and read it with --no-header" in told


def test_unlabelled_columns_without_header(reads: Reads) -> None:
    """Question marks where the label would be."""
    data = table(None, [["?", *row] for row in pixel_rows()])
    assert "read as unlabelled" in reads(data, no_header=True, label="first")


def test_one_row_alone(take: Takes, store: Store) -> None:
    """With or without newline."""
    for name, data in (("a.csv", table(None, pixel_rows([7]))), ("b.csv", table(None, pixel_rows([7]))[:-1])):
        assert (images_of(store, take(data, name, no_header=True)) == digits()[0][7]).all()


def test_whole_numbers_with_pixel_max_255_are_the_same(reads: Reads) -> None:
    """--pixel-max 255 takes decimals too, and rounds half to even."""
    assert reads(PLAIN_CSV, pixel_max=255) == ""
    assert reads(LABELLED_CSV, "b.csv", pixel_max=255, expect={"labels": True}) == ""


@pytest.mark.parametrize("top", [0.001, 1.0, 16.0, 100.0, 1023.0, 65535.0])
def test_pixel_max_scales(top: float, take: Takes, store: Store) -> None:
    """Any decimals from 0 to M, rounded half to even; one beyond M is a rejected row."""
    values = np.array([0, top, top / 2, top / 3, top * 0.999])
    rows = [[value if column == 300 else 0 for column in range(784)] for value in values.tolist()]
    report = take(table(UNLABELLED, rows), pixel_max=top)
    expected = [0, 255, 128, 85, int(np.rint(255 * 0.999))]  # 127.5 is as near to 127
    assert images_of(store, report)[:, 300].tolist() == expected
    rows[2][300] = top * 1.001
    assert take(table(UNLABELLED, rows), "b.csv", pixel_max=top, max_rejects=1).reasons == {"pixel_out_of_range": 1}
