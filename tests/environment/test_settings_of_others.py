"""What other people's settings break is exit 78, with the setting, what it holds and where it stands; never "a bug"."""

from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from tests.environment.conftest import ON_DASK, Run

SCORE = ("score", "--dataset", "night")
NONSENSE = "nonsense"


@pytest.mark.parametrize(
    "name", ["DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"]
)
def test_a_variable_with_which_dask_cannot_start_is_named(run: Run, ready: Store, name: str) -> None:
    """Its name, its value, and Dask's own words."""
    ended = run("--store", ready.url, *SCORE, command=ON_DASK, **{name: NONSENSE})
    assert ended.code == 78, ended.lines
    assert f"{name}='{NONSENSE}'" in ended.error
    assert "Invalid time unit" in ended.error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [b\n", "is malformed"),
        (b"- a\n- b\n", "must have a dict"),
        (b"caf\xe9: 1\n", "'utf-8' codec can't decode"),
        (
            b"distributed:\n  scheduler:\n    idle-timeout: nonsense\n",
            "distributed.scheduler.idle-timeout='nonsense' in ",
        ),
    ],
)
def test_a_file_of_dasks_settings_is_named(run: Run, ready: Store, tmp_path: Path, content: bytes, words: str) -> None:
    """Whether it cannot be read or only holds what cannot work, its path stands in the message."""
    (tmp_path / "dask").mkdir()
    (tmp_path / "dask" / "mine.yaml").write_bytes(content)
    ended = run("--store", ready.url, *SCORE, command=ON_DASK, DASK_CONFIG=str(tmp_path / "dask"))
    assert ended.code == 78, ended.lines
    assert words in ended.error
    assert str(tmp_path / "dask" / "mine.yaml") in ended.error


@pytest.mark.parametrize(("name", "value"), [("NUMBA_NUM_THREADS", "0"), ("NUMBA_DISABLE_JIT", "1")])
def test_a_variable_with_which_numba_cannot_work_is_named(run: Run, tmp_path: Path, name: str, value: str) -> None:
    """Reading CSV is compiled; what forbids that is named."""
    (tmp_path / "a.csv").write_text("label\n")
    ended = run("ingest", "a.csv", **{name: value})
    assert ended.code == 78, ended.lines
    assert name in ended.error
    assert f"'{value}'" in ended.error


@pytest.mark.parametrize(("name", "value"), [("OMP_NUM_THREADS", "abc"), ("MPLBACKEND", "abc"), ("TMPDIR", "/none")])
def test_what_does_no_harm_is_no_error(run: Run, ready: Store, name: str, value: str) -> None:
    """A nonsensical setting that the command can do without is not complained of."""
    assert run("--store", ready.url, *SCORE, **{name: value}).code == 0


def test_a_terminal_of_ascii_gets_ascii(run: Run) -> None:
    """What cannot be encoded is written as an escape."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    ended = run("doctor", **plain)
    assert ended.code == 0, ended.lines
    assert "\\u2192" in ended.out


def test_the_file_in_the_working_directory_is_not_read_but_mentioned(run: Run, tmp_path: Path) -> None:
    """Whoever may write there must not name a store or a scheduler; one note says how to use it."""
    (tmp_path / ".env").write_bytes(b"DIGITREC_STORE=elsewhere\nDIGITREC_DASK=tcp://192.0.2.1:1\n")
    ended = run("doctor")
    assert f"{tmp_path}/store" in ended.out
    assert "a local cluster" in ended.out
    assert len([line for line in ended.lines if "DIGITREC_ENV_FILE=.env" in line]) == 1


def test_a_file_of_others_is_not_mentioned(run: Run, tmp_path: Path) -> None:
    """Many programs keep a `.env`, in any encoding."""
    (tmp_path / ".env").write_bytes(b"CAF\xc9=1\n")
    assert run("list", "datasets").lines == ()


def test_a_named_file_is_read(run: Run, tmp_path: Path) -> None:
    """DIGITREC_ENV_FILE names it; the environment goes before it."""
    (tmp_path / "mine.env").write_text("DIGITREC_STORE=from-file\nDIGITREC_THREADS=3\n")
    ended = run("doctor", DIGITREC_ENV_FILE="mine.env", DIGITREC_THREADS="5")
    assert f"{tmp_path}/from-file" in ended.out
    assert "5 threads" in ended.out


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"DIGITREC_STORE=caf\xe9\n", "not UTF-8"), (b"DIGITREC_THREADS=many\n", "is 'many'")],
)
def test_a_named_file_that_is_wrong(run: Run, tmp_path: Path, content: bytes | None, words: str) -> None:
    """Missing, in another encoding, or with a value that is none: exit 78, and its name."""
    if content is not None:
        (tmp_path / "mine.env").write_bytes(content)
    ended = run("doctor", DIGITREC_ENV_FILE="mine.env")
    assert ended.code == 78, ended.lines
    assert words in ended.error
    assert "mine.env" in ended.error
