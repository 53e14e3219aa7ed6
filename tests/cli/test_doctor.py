"""`digitrec doctor`."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command


def test_the_doctor_finds_a_healthy_place(digitrec: Command) -> None:
    """Exit 0 where everything needed is there; the lack of a champion is a hint, with what to do."""
    ended = digitrec("doctor")
    assert ended.code == 0, ended.out
    assert "-- champion: none yet → digitrec ingest train.csv, then digitrec train" in ended.out


def test_the_doctor_names_what_is_ill(digitrec: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store that is a file, and servers that do not answer: exit 78, and a line each with what to do."""
    (tmp_path / "store").write_text("a file")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("DIGITREC_DASK", "tcp://127.0.0.1:9")
    ended = digitrec("doctor")
    assert ended.code == 78
    ill = [line.split(":")[0] for line in ended.out.splitlines() if line.startswith("!!")]
    assert ill == ["!! store", "!! dask", "!! prefect"]
    assert "3 of" in ended.err
