"""What is said of rejected rows: the first ten with their values, the likely cause, a remedy that the command has.

The message itself holds no row: rows are in the details, which stay on the terminal of whoever runs the command.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from digitrec.catalog.store import Store
from digitrec.errors import BadData
from digitrec.ingest import rejects as rules
from digitrec.ingest.run import ingest
from digitrec.options import IngestOptions

from .conftest import Refuses, Takes
from .files import KAGGLE, UNLABELLED, digits, labelled_rows, pixel_rows, table
from .outcomes import ANY, LABELLED_CSV, PLAIN_CSV, ROWS, rejects, with_field

Change = Callable[[int], object]


def pixels(change: Change, names: Iterable[str] = UNLABELLED) -> bytes:
    return table(list(names), [[change(int(value)) for value in row] for row in digits()[0][:ROWS]])


def labels(change: Change) -> bytes:
    return table(KAGGLE, [[change(int(str(row[0]))), *row[1:]] for row in labelled_rows()])


CAUSES: dict[str, tuple[bytes, str]] = {
    "0 to 1": (pixels(lambda value: f"{value / 255:.4f}"), "values from 0 to 1; --pixel-max 1 takes them"),
    "savetxt": (pixels(lambda value: f"{value / 255:.18e}"), "--pixel-max 1"),
    "decimals": (pixels(lambda value: value / 2), "--pixel-max 255 rounds"),
    "16 bits": (pixels(lambda value: value * 257), "pixels of more than 8 bits"),
    "10 bits": (pixels(lambda value: value * 4), "perhaps 1023"),
    "signed bytes": (pixels(lambda value: np.int8(np.uint8(value))), "signed bytes (-1 for 255)"),
    "NaN": (pixels(lambda value: value or "NaN"), "missing values (blank or NaN): write 0"),
    "blank": (pixels(lambda value: value or ""), "missing values"),
    "10 for 0": (labels(lambda label: label or 10), "10 stands for the digit 0"),
    "letters": (labels(lambda label: label + 10), "are letters (EMNIST)"),
    "letters to 61": (labels(lambda label: label + 52), "up to 61 are letters"),
    "other numbers": (labels(lambda label: label + 1000), "--label NAME names it"),
    "words": (labels(lambda label: ["zero", "one"][label % 2]), "column 'label' holds text"),
    "no label": (labels(lambda label: "?" if label else label), "--label none"),
    "no key": (table(["id", *UNLABELLED], [["", *row] for row in pixel_rows()]), "--key none reads without it"),
    "columns": (table(UNLABELLED, labelled_rows()), "785 columns"),
}


@pytest.mark.parametrize(("data", "words"), CAUSES.values(), ids=CAUSES)
def test_what_many_rows_share_is_the_likely_cause(data: bytes, words: str, refused: Refuses) -> None:
    """With the remedy, where there is one."""
    told = refused(data, max_rejects=0)
    assert "Likely cause: " in told
    assert words in told.partition("\n")[0]


def test_remedies_work(take: Takes) -> None:
    """--pixel-max as the message has it."""
    assert take(CAUSES["0 to 1"][0], pixel_max=1).rejects == 0
    assert take(CAUSES["10 bits"][0], "b.csv", pixel_max=1023).rejects == 0
    assert take(CAUSES["no key"][0], "c.csv", key="none").rejects == 0
    assert take(CAUSES["no label"][0], "d.csv", label="none").rejects == 0


def test_rows_without_a_common_fault_have_no_cause(refused: Refuses) -> None:
    """Nothing is made up."""
    data = with_field(b"x", 3, row=1, data=with_field(b"256", 500, row=2, data=with_field(b"", 9, row=3)))
    assert "Likely cause" not in refused(data, max_rejects=0)


def test_the_first_ten_are_shown_with_line_column_reason_and_value(refused: Refuses) -> None:
    """In file order; the value is the field itself, not the start of the line."""
    data = LABELLED_CSV
    for row in range(10, 30):
        data = with_field(b"10%d" % row, 300, row=row, data=data)
    told = refused(data)
    message, *details = told.split("\n")
    assert message.startswith("20 of the first 40 rows were rejected, 3 may be") or "20 of 40 rows" in message
    assert details[0] == "The first ones:"
    assert details[1:] == [
        f"source.csv:{row + 1}, column 'pixel299': pixel_out_of_range: '10{row}'" for row in range(10, 20)
    ]


@pytest.mark.parametrize("threads", [1, 8])
def test_the_first_ten_are_those_of_the_file_whatever_the_threads(threads: int, tmp_path: Path, store: Store) -> None:
    """In order."""
    path = tmp_path / "a.csv"
    path.write_bytes(pixels(lambda value: value + 200))
    with pytest.raises(BadData) as told:
        ingest(store, [path], IngestOptions(), threads=threads)
    assert re.findall(r"a\.csv:(\d+)", "\n".join(told.value.details)) == [str(line) for line in range(2, 12)]


def test_no_row_is_in_the_message_itself(tmp_path: Path, store: Store) -> None:
    """It goes to logs and notifications; what it holds of the data is names of columns and counts (F47)."""
    path = tmp_path / "a.csv"
    path.write_bytes(with_field(b"secret-4711", 0, row=1, data=with_field(b"secret-4711", 0, row=2)))
    with pytest.raises(BadData) as told:
        ingest(store, [path], IngestOptions(max_rejects=0))
    assert "secret" not in str(told.value)
    assert "secret-4711" in "\n".join(told.value.details)


def test_what_is_shown_is_harmless(refused: Refuses, take: Takes, store: Store) -> None:
    """Terminal codes, bad UTF-8, NUL in values and names of columns (F28)."""
    names = [*UNLABELLED, '"\x1b]0;owned\x07"']
    told = refused(table(names, pixel_rows()))
    assert "\\x1b]0;owned\\x07" in told
    data = with_field(b"\x1b[2J\xff\0", 300, row=1, data=with_field("\u202e`<b>".encode(), 4, row=2))
    told = refused(data, max_rejects=0)
    assert all(line.isprintable() for line in told.split("\n"))
    assert all(str(value).isprintable() for row in rejects(store, take(data)) for value in row.values())


def test_all_rows_rejected_are_refused_whatever_the_share(refused: Refuses) -> None:
    """No row is left, so there is no dataset."""
    told = refused(PLAIN_CSV.partition(b"\n")[0] + b"\noops\n", **ANY.model_dump(exclude_defaults=True))
    assert told.startswith("all 1 rows were rejected, no row is left")
    assert "oops" in told


def test_a_cause_is_looked_for_among_the_first_ones_only() -> None:
    """So that a hundred thousand rejects cost no more."""
    assert rules.JUDGED_REJECTS < rules.STORED_MAX
