"""Row keys and labels: wherever their column stands, whatever their values look like, whatever options name them."""

import pytest

from digitrec.catalog.store import Store

from .conftest import Reads, Refuses, Takes
from .files import KAGGLE, UNLABELLED, labelled_rows, pixel_rows, table
from .outcomes import LABELLED_CSV, PLAIN_CSV, ROWS, one_reject, rejects, with_field

LOOKS = {
    "a pixel": "{}",
    "a float": "{}.0",
    "savetxt": "{}e+00",
    "negative": "-{}",
    "zeros": "{:05}",
    "a date": "2024-01-{:02}",
    "a file": "img_{}.png",
    "a long number": "9" * 30 + "{}",
    "a pixel's name": "pixel{}",
    "words": "a {} b",
    "a letter": "ключ-{}",
}


def keyed(keys: list[str], place: int, name: str = "id", *, labelled: bool = False) -> bytes:
    names, rows = (list(KAGGLE), labelled_rows()) if labelled else (list(UNLABELLED), pixel_rows())
    return table(
        [*names[:place], name, *names[place:]],
        [[*row[:place], key, *row[place:]] for key, row in zip(keys, rows, strict=True)],
    )


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("place", [0, 1, 400, 784])
def test_keys_may_stand_anywhere_and_look_like_anything(look: str, place: int, reads: Reads) -> None:
    """F1: each row keeps its own key, quoted or not, with a label beside it or none."""
    keys = [look.format(n + 1) for n in range(ROWS)]
    assert reads(keyed(keys, place), "a.csv", expect={"keys": keys}) == ""
    assert reads(keyed([f'"{key}"' for key in keys], place), "b.csv", expect={"keys": keys}) == ""
    assert reads(keyed(keys, place, labelled=True), "c.csv", expect={"keys": keys, "labels": True}) == ""


@pytest.mark.parametrize("place", [0, 1, 400, 784])
def test_an_empty_key_is_a_rejected_row(place: int, reads: Reads, take: Takes, store: Store) -> None:
    """Empty, blank, quoted: and no row has the key of another one."""
    keys = [str(n) for n in range(ROWS)]
    kept = [key for n, key in enumerate(keys) if n not in (3, 7, 9)]
    keys[3], keys[7], keys[9] = "", '""', "  "
    reads(keyed(keys, place), expect={"keys": kept, "without": [4, 8, 10]})
    found = {(row["column"], row["reason"], row["value"]) for row in rejects(store, take(keyed(keys, place)))}
    assert found == {("id", "empty_key", "")}


def test_doubled_keys_are_kept_counted_and_said(reads: Reads, take: Takes, store: Store) -> None:
    """Exactly: how many rows, how many keys."""
    keys = [str(n % 10) for n in range(ROWS)]
    said = reads(keyed(keys, 1, labelled=True), expect={"keys": keys, "labels": True})
    assert "30 rows have a row key that a row before them has (10 keys repeat)" in said
    assert reads(keyed([str(n) for n in range(ROWS)], 0), "other.csv", expect={"keys": map(str, range(ROWS))}) == ""


@pytest.mark.parametrize("name", ["id", "ID", "ImageId", "image_id", " key ", "FileName", '"id"'])
def test_the_key_has_one_of_its_usual_names(name: str, reads: Reads) -> None:
    """In any case, padded, quoted."""
    keys = [str(n) for n in range(ROWS)]
    reads(keyed(keys, 0, name), expect={"keys": keys})


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (b"k" * 256, "k" * 256),
        (b'"a,b ""c"""', 'a,b "c"'),
        (b'" a "', " a "),
        (b" a ", "a"),
        ("ключ".encode(), "ключ"),
        (b"k" * 257, None),
        (b'"first', None),
        (b'a"b', None),
        (b"a\0b", None),
        (b"\xff", None),
    ],
)
def test_keys_are_short_text_on_one_line(
    key: bytes, found: str | None, reads: Reads, take: Takes, store: Store
) -> None:
    """Longer than 256 bytes, an open quote, NUL or no UTF-8: bad_key."""
    keys = [str(n) for n in range(ROWS)]
    data = with_field(key, 0, data=keyed(keys, 0))
    if found is None:
        reads(data, expect={"keys": keys[:5] + keys[6:], "without": [6]})
        assert one_reject(store, take(data))[:3] == (7, "id", "bad_key")
    else:
        reads(data, expect={"keys": [*keys[:5], found, *keys[6:]]})


def test_two_columns_that_may_be_the_key_are_refused(refused: Refuses, reads: Reads) -> None:
    """Naming both and the option; which decides it, and leaves the other one out."""
    data = table(["id", "filename", *UNLABELLED], [[n, f"f{n}", *row] for n, row in enumerate(pixel_rows())])
    told = refused(data)
    assert "2 columns may be the key: 'id' 'filename'" in told
    assert "--key id" in told
    names = [f"f{n}" for n in range(ROWS)]
    assert "left out: 'id'" in reads(data, "a.csv", key="FileName", expect={"keys": names})
    assert reads(data, "b.csv", ignore=("id",), expect={"keys": names}) == ""
    assert "left out: 'id' 'filename'" in reads(data, "c.csv", key="none")


def test_two_columns_that_may_be_the_label_are_refused(refused: Refuses, reads: Reads) -> None:
    """The same for labels."""
    data = table(["class", *KAGGLE], [[9, *row] for row in labelled_rows()])
    assert "2 columns may be the label: 'class' 'label'; say which one with --label class" in refused(data)
    assert "left out: 'class'" in reads(data, "a.csv", label="label", expect={"labels": True})


def test_options_name_columns_with_other_names(reads: Reads, refused: Refuses) -> None:
    """In any case; other unknown columns are left out by --ignore, several with commas between them."""
    rows = [[f"u{n}", row[0], "x", *row[1:]] for n, row in enumerate(labelled_rows())]
    data = table(["uuid", "number", "note", *UNLABELLED], rows)
    told = refused(data)
    assert "unknown 'uuid' 'number' 'note'" in told
    assert "--ignore 'uuid,number,note'" in told
    keys = [f"u{n}" for n in range(ROWS)]
    reads(data, "a.csv", key="UUID", label="Number", ignore=("note",), expect={"labels": True, "keys": keys})
    reads(data, "b.csv", ignore=("uuid,number", "Note"))


def test_labels_first_or_last_among_numbered_columns(reads: Reads, refused: Refuses) -> None:
    """R's V1…V785, pandas' 0…784: one is the label, and the remedy works, with an index or a key before it too."""
    last = [[*row[1:], row[0]] for row in labelled_rows()]
    for number, names in enumerate(([f"V{n}" for n in range(1, 786)], [str(n) for n in range(785)])):
        told = refused(table(names, labelled_rows()))
        assert "--label first or --label last" in told
        for before, some in ([], {}), ([""], {}), (["id"], {"keys": list(map(str, range(ROWS)))}):
            rows = [[n, *row] if before else row for n, row in enumerate(labelled_rows())]
            name = f"{number}{before}.csv"
            reads(table([*before, *names], rows), name, label="First", expect={"labels": True, **some})
        reads(table(names, last), f"{number}last.csv", label="last", expect={"labels": True})
        reads(table(names, last), f"{number}name.csv", label=names[-1], expect={"labels": True})


def test_labels_are_left_out_if_asked(reads: Reads) -> None:
    """--label none, in any case, and it is said."""
    assert "left out: 'label'" in reads(LABELLED_CSV, "a.csv", label="none")
    reads(LABELLED_CSV, "b.csv", label="NONE")
    reads(LABELLED_CSV, "c.csv", ignore=("label",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "uuid"}, "there is no column 'uuid' for --key"),
        ({"label": "digit"}, "there is no column 'digit' for --label; columns that are no pixels: 'label'"),
        ({"key": "pixel0"}, "missing 'pixel0'"),
        ({"key": "label", "label": "label"}, "another option names that column too"),
        ({"key": "label", "ignore": ("label",)}, "another option names that column too"),
        ({"member": ("a.csv",)}, "is no archive"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], words: str, refused: Refuses) -> None:
    """A column that is not there, or that is wanted twice; nothing is left out without a word."""
    assert words in refused(LABELLED_CSV, **options)


@pytest.mark.parametrize("word", ["", "?", "NaN", "nan", "NA", "N/A", "None", "null", '""', '"?"', " ? "])
@pytest.mark.parametrize("place", [0, 300, 784])
def test_a_label_column_without_labels_is_unlabelled(word: str, place: int, reads: Reads) -> None:
    """Decided by the first data row, and said."""
    rows = [[*row[:place], word, *row[place:]] for row in pixel_rows()]
    said = reads(table([*UNLABELLED[:place], "label", *UNLABELLED[place:]], rows))
    assert "in the first row: read as unlabelled" in said


def test_a_label_behind_an_empty_one_is_a_rejected_row(
    reads: Reads, refused: Refuses, take: Takes, store: Store
) -> None:
    """With its value, and --label none as the remedy; which reads all."""
    rows = [["", *row[1:]] for row in labelled_rows()]
    rows[5][0] = 3
    reads(table(KAGGLE, rows), expect={"without": [6]})
    assert one_reject(store, take(table(KAGGLE, rows))) == (7, "label", "unexpected_value", "3")
    half = [["" if n < 3 else row[0], *row[1:]] for n, row in enumerate(labelled_rows())]
    assert "--label none leaves out a label column" in refused(table(KAGGLE, half), "half.csv")
    reads(table(KAGGLE, half), "half.csv", label="none")


def test_a_missing_label_behind_others_is_a_rejected_row(reads: Reads, refused: Refuses) -> None:
    """And if there are many, or if they are -1, the hint is about that column, not about pixels."""
    reads(with_field(b"?", 0), expect={"labels": True, "without": [6]})
    for word in ("?", -1):
        half = [[row[0] if n < 9 else word, *row[1:]] for n, row in enumerate(labelled_rows())]
        assert "column 'label'" in refused(table(KAGGLE, half), "half.csv")
        assert "--label none" in refused(table(KAGGLE, half), "half.csv")


def test_the_plain_file_has_neither(reads: Reads) -> None:
    """Kaggle's test.csv and train.csv, for comparison."""
    assert reads(PLAIN_CSV) == ""
    assert reads(LABELLED_CSV, "train.csv", expect={"labels": True}) == ""
