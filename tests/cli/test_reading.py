"""How files are read, at the level of the command: options, outcomes, exit codes, what is said and where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from digitrec.options import ReadOptions
from tests.cli.conftest import Command, published, refused
from tests.ingest.files import KAGGLE, UNLABELLED, labelled_rows, pixel_rows, table
from tests.ingest.outcomes import LABELLED_CSV, PLAIN_CSV, with_field

ROOT = Path(__file__).parent.parent.parent
BARE, LABELLED_BARE = table(None, pixel_rows()), table(None, labelled_rows())
KEYED = table(["uuid", *UNLABELLED], [[f"u{n}", *row] for n, row in enumerate(pixel_rows())])
SCALED = table(UNLABELLED, [[f"{int(str(value)) / 255:.6f}" for value in row] for row in pixel_rows()])
FOUR_BAD = with_field(b"1012", 3, row=9, data=with_field(b"x", 3, row=7, data=with_field(b"", 5, row=5)))
FOUR_BAD = with_field(b"1.5", 4, row=11, data=FOUR_BAD)
NUMBERED = table([f"V{n}" for n in range(1, 786)], labelled_rows())


def run(*tokens: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`digitrec …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from digitrec.cli import main; main()", *map(str, tokens)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        env={name: value for name, value in os.environ.items() if not name.startswith("DIGITREC_")},
    )


@pytest.mark.parametrize("script", ["ingest", "score", "flows/score.py"])
def test_ingest_and_score_have_the_same_options_of_reading(script: str, digitrec: Command) -> None:
    """Every one of them, the flow's script too: the remedy that a message names is one that the same command has."""
    if script.endswith(".py"):
        help_text = subprocess.run(
            [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, timeout=200, check=True
        ).stdout
    else:
        help_text = digitrec(script, "--help").out
    for name in ReadOptions.model_fields:
        assert f"--{name.replace('_', '-')}" in help_text


@pytest.mark.parametrize(
    ("data", "options", "remedy"),
    [
        (BARE, ["--no-header"], "--no-header"),
        (LABELLED_BARE, ["--no-header", "--label", "first"], "--label first"),
        (NUMBERED, ["--label", "first"], "--label first"),
        (NUMBERED, ["--label", "V1"], "--label first"),
        (KEYED, ["--key", "uuid"], "--key uuid"),
        (KEYED, ["--ignore", "uuid"], "--ignore 'uuid'"),
        (SCALED, ["--pixel-max", "1"], "--pixel-max 1"),
        (FOUR_BAD, ["--max-rejects", "0.1"], "--max-rejects SHARE"),
        (FOUR_BAD, ["--max-rejects", "1"], "--max-rejects SHARE"),
        (
            table([*UNLABELLED, "id"], [[*row, 7] for row in pixel_rows()])[:-1],
            ["--allow-unterminated"],
            "--allow-unter",
        ),
    ],
)
def test_what_is_refused_is_read_with_the_remedy_by_ingest_and_score_alike(
    data: bytes, options: list[str], remedy: str, digitrec: Command, tmp_path: Path
) -> None:
    """Exit 65 and the remedy; then the same dataset, whichever command reads it (there is no model to score with)."""
    (tmp_path / "a.csv").write_bytes(data)
    for command in ("ingest", "score"):
        refused(digitrec(command, "a.csv"), 65, remedy)
        assert published(tmp_path) == []
    ended = digitrec("ingest", "a.csv", *options, "--json")
    assert ended.code == 0, ended.err
    scored = digitrec("score", "a.csv", *options)
    assert scored.code == 66
    assert f"already ingested: {ended.answer['dataset']}" in scored.out
    assert len(published(tmp_path)) == 1


@pytest.mark.parametrize(
    "cut", [PLAIN_CSV[:-30], PLAIN_CSV + table(KAGGLE, labelled_rows()), table(UNLABELLED, pixel_rows(), "|")]
)
@pytest.mark.parametrize("command", ["ingest", "score"])
def test_no_share_of_rejects_excuses_a_cut_file_or_another_dialect(
    cut: bytes, command: str, digitrec: Command, tmp_path: Path
) -> None:
    """F5, F34: whatever --max-rejects says."""
    (tmp_path / "a.csv").write_bytes(cut)
    for options in ([], ["--max-rejects", "1"]):
        refused(digitrec(command, "a.csv", *options), 65, "a.csv")
    assert published(tmp_path) == []


def test_a_refusal_is_one_line_and_the_rows_stand_below(digitrec: Command, tmp_path: Path) -> None:
    """Line, column, reason and value of the first ones."""
    (tmp_path / "a.csv").write_bytes(FOUR_BAD)
    ended = digitrec("ingest", "a.csv")
    refused(ended, 65, "4 of 40 rows were rejected, 3 may be", "nothing was published")
    error, *rows = ended.err.splitlines()
    assert "1012" not in error
    assert [row.strip() for row in rows] == [
        "The first ones:",
        "a.csv:6, column 'pixel4': not_a_number: ''",
        "a.csv:8, column 'pixel2': not_a_number: 'x'",
        "a.csv:10, column 'pixel2': pixel_out_of_range: '1012'",
        "a.csv:12, column 'pixel3': not_a_whole_number: '1.5'",
    ]


def test_rejects_are_read_by_a_command(digitrec: Command, tmp_path: Path) -> None:
    """As lines, as JSON, so many as asked; it says if there are none, and exit 66 without such a dataset."""
    (tmp_path / "a.csv").write_bytes(FOUR_BAD)
    (tmp_path / "b.csv").write_bytes(PLAIN_CSV)
    told = digitrec("ingest", "a.csv", "--dataset", "a", "--max-rejects", "0.1").out
    assert "rejected rows: 4; `digitrec rejects a` shows them" in told
    assert digitrec("rejects", "a").out.splitlines()[2] == "a.csv:10, column 'pixel2': pixel_out_of_range: '1012'"
    answer = digitrec("rejects", "a", "--limit", "3", "--json").answer
    assert (answer["dataset"], answer["total"], len(answer["rows"])) == ("a", 4, 3)
    assert answer["rows"][2]["value"] == "1012"
    assert (answer["rows"][2]["line"], answer["rows"][2]["image_id"]) == (10, 9)
    assert digitrec("rejects", "a", "--limit", "1").out.splitlines()[-1] == "and 3 more"
    digitrec("ingest", "b.csv", "--dataset", "b")
    assert digitrec("rejects", "b").out == "no row of b was rejected\n"
    refused(digitrec("rejects", "ghost"), 66, "ghost")


def test_what_was_noticed_is_said_once_and_again(digitrec: Command, tmp_path: Path) -> None:
    """Index, separator, blank lines, headers, doubled keys, order: on stdout, in JSON, and when asked again."""
    rows = [[n, n % 5, *row[::-1]] for n, row in enumerate(pixel_rows())]
    data = table(["", "id", *UNLABELLED[::-1]], rows, ";").replace(b"\n", b"\n\n", 3)
    (tmp_path / "a.csv").write_bytes(data + data.partition(b"\n")[0])
    for words in (digitrec("ingest", "a.csv").out, digitrec("ingest", "a.csv").out):
        for word in (
            "index column",
            "semicolons",
            "3 blank lines",
            "1 repeated headers",
            "35 rows have a row key",
            "order",
        ):
            assert word in words
    assert len(digitrec("ingest", "a.csv", "--json").answer["notes"]) == 6


def test_parts_are_read_in_natural_order_or_in_the_order_given(digitrec: Command, tmp_path: Path) -> None:
    """A pattern, a list of files; --in-order."""
    for number, rows in ((10, range(30, 40)), (2, range(10, 30)), (1, range(10))):
        (tmp_path / f"part{number}.csv").write_bytes(table(UNLABELLED, pixel_rows(rows)))
    assert digitrec("ingest", "part*.csv", "--dataset", "x").code == 0
    listed = ["part10.csv", "part2.csv", "part1.csv"]
    assert "already ingested" in digitrec("ingest", *listed, "--dataset", "x").out
    refused(digitrec("ingest", *listed, "--dataset", "x", "--in-order"), 73, "x")
    assert digitrec("ingest", *listed, "--dataset", "y", "--in-order").code == 0


@pytest.mark.parametrize(
    ("tokens", "word"),
    [
        (["--max-rejects", "2"], "--max-rejects"),
        (["--max-rejects", "-1"], "--max-rejects"),
        (["--pixel-max", "0"], "--pixel-max"),
        (["--pixel-max", "nan"], "--pixel-max"),
        (["--pixel-max", "white"], "--pixel-max"),
        (["--labels", "first"], "--labels"),
    ],
)
@pytest.mark.parametrize("command", ["ingest", "score"])
def test_options_out_of_range_are_refused(tokens: list[str], word: str, command: str, digitrec: Command) -> None:
    """Exit 64, naming the option."""
    refused(digitrec(command, "a.csv", *tokens), 64, word)


def test_options_of_reading_without_a_source_are_refused(digitrec: Command) -> None:
    """`score` alone reads landing/, whose folders say how: nothing is ignored without a word."""
    refused(digitrec("score", "--no-header"), 64, "--no-header")
    refused(digitrec("score", "--dataset", "x", "--max-rejects", "0.1"), 64, "--max-rejects")


def test_a_process_of_its_own(tmp_path: Path) -> None:
    """Exit codes and channels as a shell sees them; a file without header, scored with the bundled model."""
    (tmp_path / "a.csv").write_bytes(LABELLED_BARE)
    refusal = run("score", "a.csv", cwd=tmp_path)
    assert (refusal.returncode, refusal.stdout) == (65, "")
    assert "--no-header with --label first" in refusal.stderr
    (tmp_path / "b.csv").write_bytes(LABELLED_CSV + b"oops")
    cut = run("ingest", "b.csv", "--max-rejects", "1", cwd=tmp_path)
    assert (cut.returncode, cut.stdout) == (65, "")
    assert "b.csv:42: the file is cut short" in cut.stderr
    assert published(tmp_path) == []
    scored = run("score", "a.csv", "--no-header", "--label", "first", "--dataset", "digits", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    (submission,) = tmp_path.glob("store/predictions/digits/*/submission.csv")
    answers = [line.split(",") for line in submission.read_text().splitlines()[1:]]
    assert [int(number) for number, _ in answers] == list(range(1, 41))
    right = [int(answer) == row[0] for (_, answer), row in zip(answers, labelled_rows(), strict=True)]
    assert sum(right) >= 39
