"""Thousands of damaged files: the verdict on every row is the reference's, whatever the blocks, and nothing crashes."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digitrec.ingest import csv

from . import files, reference

FILES = 20_000
SOAK_FILES = 400_000
BATCH = 2_000
WORDS = (
    b'-1 256 999 1.0 NaN 1e2 +5 0x1F \xd9\xa3 \0 =1+1 true 1_0 007 0007 10 255 "12" " "" "1"2 1"2 "1,2" \' \r '
    b'\xff \xc3 \xe2\x82\xac \xed\xa0\x80 "a""b" """ key,1'
)
ODD = [*WORDS.split(b" "), b"", b" ", b" 12", b"12 ", b"9" * 400, b"\n", b"\r\n", b",", b'"\n', b"x" * 257]
IN_ORDER = (files.KAGGLE, files.UNLABELLED, files.GRID, files.OPENML, files.KEYED)
LAYOUTS = (*IN_ORDER, *(tuple(random.Random(7).sample(names, len(names))) for names in IN_ORDER))


def mutate_fields(lines: list[bytes], chance: random.Random) -> bytes:
    """Replace, drop, double or quote some fields."""
    rows = [line.split(b",") for line in lines]
    for _ in range(chance.randint(1, 6)):
        row = chance.choice(rows)
        place = chance.choice((0, len(row) - 1, chance.randrange(len(row))))
        action = chance.randrange(4)
        if action == 0:
            row[place] = chance.choice(ODD)
        elif action == 1:
            row[place : place + 1] = [row[place]] * chance.choice((0, 2))
        elif action == 2:
            row[place] = b'"' + row[place] + b'"'
        else:
            row[:] = [b'"' + field + b'"' for field in row]
        row = row or [b""]
    end = chance.choice((b"\n", b"\r\n", b"\n"))
    return end.join(b",".join(row) for row in rows) + chance.choice((end, end, end * 2, b""))


def mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flip, cut, double or insert some bytes."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(raw) + 1)
        action = chance.randrange(5)
        if action == 0 and place < len(raw):
            raw[place] ^= 1 << chance.randrange(8)
        elif action == 1:
            del raw[place : place + chance.choice((1, 2, 70, 5000))]
        elif action == 2:
            raw[place:place] = raw[place : place + chance.choice((1, 3, 64, 2000))]
        elif action == 3:
            raw[place:place] = chance.choice(ODD)
        elif place < len(raw):
            raw[place] = chance.choice(b',"\r\n0129 \0')
    return bytes(raw)


def fuzzed(seed: int) -> bytes:
    """A valid header over a few rows that are no longer valid."""
    chance = random.Random(seed)
    names = chance.choice(LAYOUTS)
    header, *rows = files.lines_of(names, chance.randint(1, 3), seed)
    if chance.random() < 0.5:
        body = mutate_fields(rows, chance)
    else:
        body = mutate_bytes(b"".join(row + b"\n" for row in rows), chance)
    if chance.random() < 0.01:
        body += b"7" * chance.choice((65_535, 65_536, 65_537, 200_000)) + chance.choice((b"\n", b"", b"\r\n", b"\n1\n"))
    return header + b"\n" + body


def check(data: bytes, path: Path) -> None:
    layout, found = files.verdicts(files.write(path, data))
    assert found == reference.read(data, layout, proves_its_end=path.suffix != ".csv")


def check_seeds(seeds: range, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in seeds:
        monkeypatch.setattr(csv, "BLOCK_BYTES", (1 << 22, 500, 3000, 70_000)[seed % 4])
        try:
            check(fuzzed(seed), folder / ("fuzzed.csv" if seed % 50 else "fuzzed.csv.gz"))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None


@pytest.mark.parametrize("first", range(0, FILES, BATCH))
def test_every_row_of_fuzzed_files_gets_the_reference_verdict(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 damaged files, in blocks of 500 bytes to 4 MiB: same rows, same rejects, same words."""
    check_seeds(range(first, first + BATCH), tmp_path, monkeypatch)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(FILES, FILES + SOAK_FILES, 10 * BATCH))
def test_many_more_fuzzed_files(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for hundreds of thousands."""
    check_seeds(range(first, first + 10 * BATCH), tmp_path, monkeypatch)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.lists(st.one_of(st.sampled_from(ODD), st.binary(max_size=6)), max_size=800), keyed=st.booleans())
def test_rows_of_anything_get_the_reference_verdict(fields: list[bytes], keyed: bool, tmp_path: Path) -> None:
    """Rows that hypothesis makes up from odd fields and random bytes."""
    names = files.KEYED if keyed else files.KAGGLE
    row = files.row_of(names, len(fields))
    row[: len(fields)] = fields
    check(b",".join(map(str.encode, names)) + b"\n" + b",".join(row) + b"\n", tmp_path / "made.csv")


@pytest.mark.parametrize("filler", [b"7", b",", b'"', b"\r", b"0,", b"\0"])
def test_a_line_of_ten_megabytes_is_one_reject(filler: bytes, tmp_path: Path) -> None:
    """It is skipped without keeping it, and the rows around it are taken."""
    header, first, last = files.lines_of(files.KAGGLE, 2)
    long = filler * (10_000_000 // len(filler))
    check(b"\n".join([header, first, long, last, b""]), tmp_path / "long.csv")
