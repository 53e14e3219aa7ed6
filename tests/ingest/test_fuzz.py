"""Thousands of files in every dialect, damaged or not: each row's verdict is the reference's, whatever the blocks."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digitrec.ingest import csv
from digitrec.options import ReadOptions

from . import files
from .judged import judge
from .reference import Spec, read

FILES = 2_000
SOAK_FILES = 20_000
BATCH = 500
WORDS = (
    b"-1 256 999 1.0 1.5 12. .5 NaN 1e2 1.2e1 2.55e+02 1e-1 1e999 +5 0x1F \xd9\xa3 \0 =1+1 true 1_0 007 0007 10 "
    b'255 255.5 "12" " "" "1"2 1"2 "1,2" "1;2" 1,0 \' \r \xff \xc3 \xe2\x82\xac \xed\xa0\x80 "a""b" """ key,1 '
    b"? nan None 0.5 0.125"
)
ODD = [*WORDS.split(b" "), b"", b" ", b" 12", b"12 ", b"\t12", b"9" * 400, b"\n", b"\r\n", b",", b'"\n', b"x" * 257]
PREFIXES = ("pixel", "Pixel", "p", "px_", "", "feature-", "x")
LABELS = ("label", "Label", "class", "target", " y ", "digit")
KEYS = ("id", "ImageId", "image_id", "Key", "filename")


@dataclass(frozen=True)
class Made:
    """A file, what its columns are, and how it must be read."""

    data: bytes
    spec: Spec
    options: ReadOptions


def columns(chance: random.Random) -> tuple[list[str], list[str | int]]:
    """Names and roles: pixels in one of the usual namings, others at random places, at times all of them shuffled."""
    first, prefix = chance.randrange(2), chance.choice(PREFIXES)
    names = [f"{prefix}{first + number}" for number in range(784)]
    if chance.random() < 0.2:
        names = [f"{first + number // 28}x{first + number % 28}" for number in range(784)]
    pairs: list[tuple[str, str | int]] = [(name, number) for number, name in enumerate(names)]
    if chance.random() < 0.15:
        chance.shuffle(pairs)
    others = [(LABELS, "label", 0.6), (KEYS, "key", 0.5), (("", "Unnamed: 0", "index"), "ignored", 0.15)]
    for usual, role, share in others:
        if chance.random() < share:
            place = chance.choice((0, len(pairs), chance.randrange(len(pairs) + 1)))
            pairs.insert(place, (chance.choice(usual), role))
    return [name for name, _ in pairs], [role for _, role in pairs]


def number(value: int, chance: random.Random, separator: bytes, pixel_max: Fraction | None) -> bytes:
    """A pixel in one of the forms that people write."""
    if pixel_max:
        return f"{float(value * pixel_max / 255):.{chance.choice((0, 1, 3, 6))}f}".encode()
    form = chance.choice((b"%d", b"%d.0", b"%d.", b'"%d"', b" %d ", b"%03d", b"%d.00", b"%de0"))
    text = form % value
    return text.replace(b".", b",") if separator != b"," and chance.random() < 0.5 else text


def key(chance: random.Random) -> bytes:
    """Keys of all kinds, often doubled, sometimes empty."""
    some = (b"%d" % chance.randrange(1000), b"%d" % chance.randrange(10), b"key-%d" % chance.randrange(50), b'"a b"')
    return b"" if chance.random() < 0.05 else chance.choice(some)


def row(roles: Sequence[str | int], seed: int, chance: random.Random, spec: Spec, plain: bool) -> list[bytes]:
    """The fields of one digit."""
    images, labels = files.digits()
    image, label = images[seed % 500], labels[seed % 500]
    fields = []
    for role in roles:
        if isinstance(role, int):
            pixel = int(image[role])
            common = plain and not spec.pixel_max
            fields.append(b"%d" % pixel if common else number(pixel, chance, spec.separator, spec.pixel_max))
        elif role == "label":
            fields.append(b"%d" % label)
        else:
            fields.append(key(chance) if role == "key" else b"%d" % (seed % 70_000))
    return fields


def mutate_fields(rows: list[list[bytes]], chance: random.Random) -> None:
    """Replace, drop, double or quote some fields."""
    for _ in range(chance.randint(1, 6)):
        fields = chance.choice(rows)
        place = chance.choice((0, len(fields) - 1, chance.randrange(len(fields))))
        action = chance.randrange(4)
        if action == 0:
            fields[place] = chance.choice(ODD)
        elif action == 1:
            fields[place : place + 1] = [fields[place]] * chance.choice((0, 2))
        elif action == 2:
            fields[place] = b'"' + fields[place] + b'"'
        else:
            fields[:] = [b'"' + field + b'"' for field in fields]
        fields[:] = fields or [b""]


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
            raw[place] = chance.choice(b',;"\r\n0129 \0.')
    return bytes(raw)


def make(seed: int) -> Made:
    """A header over a few rows, some of which are no longer valid; blank lines and the header again among them."""
    chance = random.Random(seed)
    names, roles = columns(chance)
    separator = chance.choice((b",", b",", b",", b";", b"\t"))
    top = chance.choice((None, None, None, None, 1.0, 16.0, 1023.0)) if chance.random() < 0.5 else None
    spec = Spec(tuple(names), tuple(roles), separator, Fraction(top) if top else None)
    plain = chance.random() < 0.5
    rows = [row(roles, seed + place, chance, spec, plain) for place in range(chance.randint(1, 4))]
    if "label" in roles and chance.random() < 0.15:
        for fields in rows[: chance.choice((1, len(rows)))]:
            fields[roles.index("label")] = chance.choice((b"", b"?", b"NaN", b"NA"))
    action = chance.randrange(4)
    if action == 0:
        mutate_fields(rows, chance)
    lines = [separator.join(fields) for fields in rows]
    header = separator.join(name.encode() for name in names)
    # A header that was damaged is another header; and one of numbers is a row where pixels go beyond 783.
    headers = () if action == 1 or (top and top > 783) else (header, header + b"\r")
    for extra in (b"", separator * 5, b"  ", *headers):
        if chance.random() < 0.15:
            lines.insert(chance.randrange(len(lines) + 1), extra)
    end = chance.choice((b"\n", b"\r\n", b"\n", b"\r\r\n"))
    body = end.join(lines) + chance.choice((end, end, end * 2, b""))
    if action == 1:
        body = mutate_bytes(body, chance)
    if chance.random() < 0.01:
        body += b"7" * chance.choice((65_535, 65_536, 65_537, 200_000)) + chance.choice((b"\n", b"", b"\r\n", b"\n1\n"))
    before = chance.choice((b"", b"", b"", b"\xef\xbb\xbf", b"\n", b"sep=" + separator + end))
    options = ReadOptions(max_rejects=1, pixel_max=top)
    return Made(before + header + end + body, spec, options)


def check(made: Made, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judge(files.write(path, made.data), made.options, monkeypatch)
    skip = made.data.partition(b"\n")[2] if made.data.startswith(b"sep=") else made.data
    before = len(made.data) - len(skip)
    assert found == shifted(read(skip, made.spec), before)


def shifted(outcome: object, before: int) -> object:
    """The same verdicts behind a `sep=` line of so many bytes."""
    from dataclasses import replace

    from .reference import Outcome, Refusal

    assert isinstance(outcome, Outcome)
    moved = [
        replace(verdict, line=verdict.line + (before > 0), byte_offset=verdict.byte_offset + before)
        if isinstance(verdict, Refusal)
        else verdict
        for verdict in outcome.verdicts
    ]
    return replace(outcome, verdicts=tuple(moved))


def check_seeds(seeds: range, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in seeds:
        monkeypatch.setattr(csv, "BLOCK_BYTES", (1 << 22, 500, 3000, 70_000)[seed % 4])
        try:
            check(make(seed), folder / ("fuzzed.csv" if seed % 50 else "fuzzed.csv.gz"), monkeypatch)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {str(error)[:2000]}") from error


@pytest.mark.parametrize("first", range(0, FILES, BATCH))
def test_every_row_of_fuzzed_files_gets_the_reference_verdict(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 files in blocks of 500 bytes to 4 MiB: same keys, labels, pixels and ids, same rejects."""
    check_seeds(range(first, first + BATCH), tmp_path, monkeypatch)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(FILES, FILES + SOAK_FILES, 10 * BATCH))
def test_many_more_fuzzed_files(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for 20,000."""
    check_seeds(range(first, first + 10 * BATCH), tmp_path, monkeypatch)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.lists(st.one_of(st.sampled_from(ODD), st.binary(max_size=6)), max_size=800),
    place=st.integers(0, 785),
    separator=st.sampled_from([b",", b";", b"\t"]),
)
def test_rows_of_anything_get_the_reference_verdict(
    fields: list[bytes], place: int, separator: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that hypothesis makes up from odd fields and random bytes, with the key anywhere."""
    names = [*files.KAGGLE[:place], "id", *files.KAGGLE[place:]]
    roles: list[str | int] = [*range(-1, place - 1), "key", *range(place - 1, 784)]
    roles[roles.index(-1)] = "label"
    spec = Spec(tuple(names), tuple(roles), separator)
    made = row(roles, len(fields), random.Random(0), spec, plain=True)
    good = separator.join(made)
    made[: len(fields)] = fields
    lines = [separator.join(name.encode() for name in names), good, separator.join(made), good, b""]
    check(Made(b"\n".join(lines), spec, ReadOptions(max_rejects=1)), tmp_path / "made.csv", monkeypatch)


@pytest.mark.parametrize("filler", [b"7", b",", b'"', b"\r", b"0,", b"\1"])
def test_a_line_of_ten_megabytes_is_one_reject(filler: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is skipped without keeping it, and the rows around it are taken."""
    header, first, last = files.lines_of(files.KAGGLE, 2)
    long = filler * (10_000_000 // len(filler))
    spec = Spec(files.KAGGLE, ("label", *range(784)))
    data = b"\n".join([header, first, long, last, b""])
    check(Made(data, spec, ReadOptions(max_rejects=1)), tmp_path / "long.csv", monkeypatch)
