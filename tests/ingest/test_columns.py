"""Bad input, "Columns": other headers are read by name and number, or refused with their differences and a remedy."""

import random

import pytest

from digitrec.catalog.manifest import read_manifest
from digitrec.catalog.store import Store

from .conftest import Reads, Refuses, Takes
from .files import KAGGLE, UNLABELLED, labelled_rows, pixel_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV

NUMBERED = {
    "pixel1": [f"pixel{n}" for n in range(1, 785)],
    "pixel_0": [f"pixel_{n}" for n in range(784)],
    "p0": [f"p{n}" for n in range(784)],
    "Pixel 0": [f"Pixel {n}" for n in range(784)],
    "pixel000": [f"pixel{n:03}" for n in range(784)],
    "V1": [f"V{n}" for n in range(1, 785)],
    "0": [str(n) for n in range(784)],
    "1": [str(n) for n in range(1, 785)],
    "0.0": [f"{n}.0" for n in range(784)],
    "1x1": [f"{n // 28 + 1}x{n % 28 + 1}" for n in range(784)],
    "0x0": [f"{n // 28}x{n % 28}" for n in range(784)],
    "X1x1": [f"X{n // 28 + 1}x{n % 28 + 1}" for n in range(784)],
}


@pytest.mark.parametrize("names", NUMBERED.values(), ids=NUMBERED)
@pytest.mark.parametrize("label", [None, 0, 300, 784])
def test_pixels_of_any_prefix_are_read_by_number(names: list[str], label: int | None, reads: Reads) -> None:
    """From 0 or 1, or by row and column, as R and pandas change the names too; with a label anywhere, or none."""
    rows = labelled_rows()
    place = label or 0
    if label is None:
        assert reads(table(names, pixel_rows())) == ""
    else:
        moved = [[*row[1 : place + 1], row[0], *row[place + 1 :]] for row in rows]
        reads(table([*names[:place], "label", *names[place:]], moved), expect={"labels": True})


def test_columns_in_another_order_are_taken_by_name_and_said(reads: Reads) -> None:
    """Reversed or shuffled: each pixel goes to its place."""
    order = list(range(785))
    random.Random(1).shuffle(order)
    shuffled = [[row[n] for n in order] for row in labelled_rows()]
    said = reads(table([KAGGLE[n] for n in order], shuffled), expect={"labels": True})
    assert "unusual order" in said


@pytest.mark.parametrize("name", ["label", "Label", "LABEL", " label ", '"label"', "class", "target", "y", "Digit"])
def test_the_label_has_one_of_its_usual_names(name: str, reads: Reads) -> None:
    """In any case, padded, quoted; first or last."""
    reads(table([name, *UNLABELLED], labelled_rows()), expect={"labels": True})
    last = [[*row[1:], row[0]] for row in labelled_rows()]
    reads(table([*UNLABELLED, name], last), "last.csv", expect={"labels": True})


@pytest.mark.parametrize("names", [["", *KAGGLE], ["Unnamed: 0", *KAGGLE], ["index", *KAGGLE], ["INDEX", *KAGGLE]])
def test_an_index_column_is_left_out_and_said(names: list[str], reads: Reads) -> None:
    """pandas' to_csv, also read and written again; R's write.csv."""
    rows = [[n, *row] for n, row in enumerate(labelled_rows())]
    assert "left out an index" in reads(table(names, rows), expect={"labels": True})


def test_two_index_columns_are_left_out(reads: Reads) -> None:
    """What pandas makes of a file that was read and written twice, or of a MultiIndex."""
    rows = [[n, n, *row] for n, row in enumerate(labelled_rows())]
    for number, names in enumerate((["", "Unnamed: 0"], ["Unnamed: 0.1", "Unnamed: 0"], ["", ""])):
        assert "left out an index" in reads(table([*names, *KAGGLE], rows), f"{number}.csv", expect={"labels": True})


@pytest.mark.parametrize("name", ['"{}"', "row{}", '"img_{}.png"'])
def test_row_names_without_a_heading_are_left_out(name: str, reads: Reads) -> None:
    """R's write.table: each row has one field more than the header, and it is the first."""
    rows = [[name.format(n + 1), *row] for n, row in enumerate(labelled_rows())]
    assert "one field more than the header" in reads(table(KAGGLE, rows), expect={"labels": True})


def test_row_names_of_a_sample_are_left_out(reads: Reads) -> None:
    """R keeps the numbers of the rows that were drawn: no pixel is as large as they are."""
    rows = [[f'"{n * 7919 % 60_000}"', *row] for n, row in enumerate(labelled_rows())]
    assert "one field more than the header" in reads(table(KAGGLE, rows), expect={"labels": True})


def test_a_field_too_many_that_may_be_a_pixel_is_no_index(refused: Refuses) -> None:
    """Behind the pixels, or labels that the header forgot: nothing is shifted on a guess."""
    behind = [[*row, n % 9] for n, row in enumerate(pixel_rows())]
    assert "785 columns" in refused(table(UNLABELLED, behind))
    assert "785 columns" in refused(table(UNLABELLED, labelled_rows()))
    for labels in ([5, 0, 4, 1, 9], [256, 5]):
        few = [[label, *row] for label, row in zip(labels, pixel_rows(), strict=False)]
        assert "785 columns" in refused(table(UNLABELLED, few))


def test_a_single_row_with_a_field_too_many_is_a_reject(reads: Reads) -> None:
    """It says nothing of the others."""
    rows = pixel_rows()
    rows[5] = ["x", *rows[5]]
    reads(table(UNLABELLED, rows), expect={"without": [6]})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (KAGGLE[:-1], ["missing 'pixel783'"]),
        ([*KAGGLE[:6], *KAGGLE[7:]], ["missing 'pixel5'"]),
        ([*KAGGLE, "mood"], ["unknown 'mood'", "--ignore 'mood'"]),
        ([*KAGGLE, "pixel5"], ["there twice 'pixel5'"]),
        (["lable", *UNLABELLED], ["'lable' the label?", "--label lable"]),
        (["digit_label", *UNLABELLED], ["--label digit_label"]),
        ([*KAGGLE[:6], "pixle5", *KAGGLE[7:]], ["is 'pixle5' meant to be 'pixel5'?"]),
        (["a", "b"], ["missing 'pixel0'", "unknown 'a' 'b'"]),
    ],
    ids=["last", "middle", "extra", "twice", "misspelt", "near", "pixel", "others"],
)
def test_another_header_is_refused_with_its_differences(names: list[str], words: list[str], refused: Refuses) -> None:
    """Columns missing, extra, double, misspelt; and the likely rename."""
    told = refused(table(names, [[0] * len(names)] * 5))
    for word in words:
        assert word in told


@pytest.mark.parametrize(("side", "names"), [(16, "pixel{}"), (32, "pixel{}"), (32, "{}"), (20, "V{}")])
@pytest.mark.parametrize("label", [[], ["label"]])
def test_images_of_another_size_are_named(side: int, names: str, label: list[str], refused: Refuses) -> None:
    """And nobody is told to leave out pixels until 784 are left."""
    columns = [*label, *(names.format(n) for n in range(side * side))]
    told = refused(table(columns, [[0] * len(columns)] * 5))
    assert f"{side}×{side} images? expected 28×28" in told
    assert "--ignore" not in told


def test_a_grid_of_another_size_is_named(refused: Refuses) -> None:
    """32 rows and columns; and a column that is missing has the name that it would have there."""
    grid = [f"{n // 32}x{n % 32}" for n in range(1024)]
    told = refused(table(grid, [[0] * 1024] * 5))
    assert "32×32 images? expected 28×28" in told
    assert "--ignore" not in told
    assert "missing '5x6'" in refused(table([n for n in NUMBERED["0x0"] if n != "5x6"], [[0] * 783]))


def test_a_title_above_the_header_is_recognised(refused: Refuses) -> None:
    """So that nobody looks for 784 missing columns."""
    assert "if it is a title, remove it" in refused(b"MNIST digits, exported today\n" + PLAIN_CSV)


def test_lines_that_were_quoted_as_a_whole_are_recognised(refused: Refuses) -> None:
    """A file that went through a CSV writer twice."""
    quoted = b"".join(b'"' + line + b'"\n' for line in PLAIN_CSV.splitlines())
    assert "in quotes as a whole" in refused(quoted)


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n", b"  \n\t\n", b",,,\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data: bytes, refused: Refuses) -> None:
    """Nothing, blanks, separators."""
    assert "is empty" in refused(data)


@pytest.mark.parametrize("newline", [b"", b"\n", b"\r\n"])
def test_a_header_alone_makes_an_empty_dataset_and_says_so(newline: bytes, take: Takes, store: Store) -> None:
    """With or without newline; nothing else is said, and the manifest names no shard."""
    report = take(LABELLED_CSV.partition(b"\n")[0] + newline)
    assert (report.rows, report.rejects, report.labelled) == (0, 0, True)
    assert report.notes == ("the sources have a header and no rows: the dataset is empty",)
    assert read_manifest(store, report.folder).data_files == ()


def test_names_are_shown_harmless(refused: Refuses) -> None:
    """Control characters, marks that turn the text round, thousands of columns (F28)."""
    told = refused(table(["\x1b[31mred", "\u202elebal", "a`b", *UNLABELLED], [[0] * 787]))
    assert "\\x1b[31mred" in told
    assert "\\u202elebal" in told
    assert "\x1b" not in told
    many = refused(table([f"c{n}x" for n in range(3000)], [[0] * 3000]), max_rejects=1)
    assert len(many) < 1000
