"""The command line as its users meet it: what was asked for is done, what cannot be is refused in one line."""

import csv
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from digitrec.cli import app
from digitrec.contract import KAGGLE_PIXELS
from digitrec.terminal import run_app


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict:
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture
def digitrec(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `digitrec …` in this process, in the test's own folder."""

    def run(*tokens: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_app(app, [str(token) for token in tokens])
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


def write_csv(path: Path, rows: int = 3, *, header: tuple[str, ...] = KAGGLE_PIXELS, pixel: str = "0") -> Path:
    """A file of `rows` images; every pixel is `pixel`, but for the first, which tells the rows apart."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([str(row % 256), *[pixel] * (len(header) - 1)] for row in range(rows))
    return path


def published(folder: Path) -> list[str]:
    """Everything in the store that a reader could see."""
    return sorted(path.parent.name for path in folder.glob("store/*/**/manifest.json"))


def test_the_whole_way_on_real_digits(digitrec: Command, tmp_path: Path) -> None:
    """fetch, ingest, train, score, verify: at least 96.5 % of the sample's answers are right."""
    assert digitrec("fetch", "sample", "--to", "data").code == 0
    assert digitrec("ingest", "data/train.csv", "--dataset", "train").code == 0
    assert digitrec("train", "--preset", "quick").code == 0
    scored = digitrec("score", "data/test.csv", "--dataset", "test")
    assert scored.code == 0, scored.err
    (submission,) = tmp_path.glob("store/predictions/test/*/submission.csv")
    answers = (tmp_path / "data/answers.csv").read_text().splitlines()
    given = submission.read_text().splitlines()
    assert given[0] == answers[0] == "ImageId,Label"
    assert len(given) == len(answers) == 1001
    assert sum(a == b for a, b in zip(given[1:], answers[1:], strict=True)) >= 965
    assert digitrec("verify").code == 0
    again = digitrec("score", "data/test.csv", "--dataset", "test")
    assert (again.code, "already published" in again.out) == (0, True)
    damaged = next(tmp_path.glob("store/predictions/test/*/part-*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert digitrec("verify").code == 74


def refused(ended: Ended, code: int, *words: str) -> None:
    """One line on stderr with these words, nothing on stdout, the exit code."""
    assert ended.code == code, ended.err
    assert ended.out == ""
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in errors[0]


def test_a_missing_file(digitrec: Command, tmp_path: Path) -> None:
    """Exit 66, and its name."""
    refused(digitrec("ingest", "missing.csv"), 66, "missing.csv")
    assert published(tmp_path) == []


def test_a_folder_instead_of_a_file(digitrec: Command, tmp_path: Path) -> None:
    """Exit 66: a folder is no source."""
    (tmp_path / "folder.csv").mkdir()
    refused(digitrec("ingest", "folder.csv"), 66, "folder.csv")


def test_a_named_pipe_does_not_hang(digitrec: Command, tmp_path: Path) -> None:
    """Regular files only: nobody waits for a writer that may never come."""
    os.mkfifo(tmp_path / "pipe.csv")
    refused(digitrec("ingest", "pipe.csv"), 66, "pipe.csv", "expected a CSV file")


def test_an_empty_file(digitrec: Command, tmp_path: Path) -> None:
    """Exit 65."""
    (tmp_path / "empty.csv").touch()
    refused(digitrec("ingest", "empty.csv"), 65, "empty.csv")


def test_a_wrong_header(digitrec: Command, tmp_path: Path) -> None:
    """Exit 65, with the columns that are missing or surplus."""
    write_csv(tmp_path / "wrong.csv", header=(*KAGGLE_PIXELS[:-1], "colour"))
    refused(digitrec("ingest", "wrong.csv"), 65, "wrong.csv", "pixel783", "colour")


def test_all_rows_refused(digitrec: Command, tmp_path: Path) -> None:
    """Exit 65, the reason, and nothing is published."""
    write_csv(tmp_path / "bad.csv", rows=2, pixel="256")
    ended = digitrec("ingest", "bad.csv")
    refused(ended, 65, "all 2 rows were refused")
    assert "bad.csv" in ended.err
    assert "pixel_out_of_range" in ended.err
    assert published(tmp_path) == []


@pytest.mark.parametrize(
    ("tokens", "code", "word"),
    [
        (["ingest"], 64, "at least one"),
        (["fetch", "idx"], 64, "IDX"),
        (["fetch", "sample", "surplus"], 64, "takes no files"),
        (["ingest", "a.csv", "--dataset", "No Such Name"], 64, "No Such Name"),
        (["score", "--precision", "fp7"], 64, "fp7"),
        (["train"], 66, "digitrec ingest"),
        (["train", "--dataset", "ghost"], 66, "ghost"),
        (["train", "--resume", "quick-12345678"], 66, "quick-12345678"),
        (["score", "--dataset", "ghost"], 66, "ghost"),
        (["promote", "ghost"], 66, "ghost"),
        (["rollback"], 66, "no earlier champion"),
        (["verify", "nowhere"], 66, "nowhere"),
        (["list", "wishes"], 64, "wishes"),
    ],
)
def test_what_is_not_there_or_makes_no_sense(tokens: list[str], code: int, word: str, digitrec: Command) -> None:
    """In an empty store, each command says what is missing, in one line."""
    refused(digitrec(*tokens), code, word)


def test_an_unknown_model(digitrec: Command, tmp_path: Path) -> None:
    """A dataset is there, the model version is not: exit 66."""
    write_csv(tmp_path / "test.csv")
    assert digitrec("ingest", "test.csv", "--dataset", "test").code == 0
    refused(digitrec("score", "--dataset", "test", "--model", "ghost"), 66, "ghost")


def test_a_night_with_neither_champion_nor_data(digitrec: Command) -> None:
    """Exit 66, and the commands that would help."""
    ended = digitrec("score")
    assert ended.code == 66
    assert "train one with `digitrec ingest train.csv` and `digitrec train`" in ended.err


def test_a_night_without_champion_still_says_what_it_refused(digitrec: Command, tmp_path: Path) -> None:
    """The scoring cannot be done (exit 66); what became of landing/ is told all the same."""
    (tmp_path / "store/landing").mkdir(parents=True)
    wrong = write_csv(tmp_path / "store/landing/wrong.csv", header=(*KAGGLE_PIXELS[:-1], "colour"))
    os.utime(wrong, (0, 0))
    ended = digitrec("score")
    assert ended.code == 66
    assert "wrong.csv" in ended.out


def test_verifying_a_store_that_is_not_there_proves_nothing(digitrec: Command) -> None:
    """A mistyped --store is no input, not a whole store."""
    refused(digitrec("verify", "--store", "mistyped"), 66, "mistyped")


def test_training_needs_labels(digitrec: Command, tmp_path: Path) -> None:
    """An unlabelled dataset that is named for training is refused as such."""
    write_csv(tmp_path / "test.csv")
    digitrec("ingest", "test.csv", "--dataset", "test")
    refused(digitrec("train", "--dataset", "test"), 65, "test", "label")


def test_another_content_under_the_same_name(digitrec: Command, tmp_path: Path) -> None:
    """Exit 73, and the first content stays."""
    assert digitrec("ingest", write_csv(tmp_path / "a.csv", rows=3), "--dataset", "x").code == 0
    refused(digitrec("ingest", write_csv(tmp_path / "b.csv", rows=4), "--dataset", "x"), 73, "x")
    assert digitrec("list", "datasets", "--json").answer["found"][0]["rows"] == 3


def test_the_same_again_is_success(digitrec: Command, tmp_path: Path) -> None:
    """Exit 0, "already ingested"; a script sees it in JSON."""
    write_csv(tmp_path / "a.csv")
    assert digitrec("ingest", "a.csv").code == 0
    assert "already ingested" in digitrec("ingest", "a.csv").out
    assert digitrec("ingest", "a.csv", "--json").answer["already"] is True
    assert len(published(tmp_path)) == 1


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that belongs to somebody else; modes count, because root's rights are put aside."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        write_csv(Path(folder) / "a.csv").chmod(0o644)
        monkeypatch.chdir(folder)
        if os.geteuid() == 0:
            os.seteuid(65534)
            yield Path(folder)
            os.seteuid(0)
        else:
            Path(folder).chmod(0o555)
            yield Path(folder)
            Path(folder).chmod(0o755)


def test_no_permission(digitrec: Command, as_nobody: Path) -> None:
    """Exit 74: where, and what to do."""
    refused(
        digitrec("--store", as_nobody / "store", "ingest", as_nobody / "a.csv"), 74, "store", "check the permissions"
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with a few hundred KiB of room."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(digitrec: Command, tmp_path: Path, small_disk: Path) -> None:
    """Exit 74, what to do, and nothing half-written is visible or left behind."""
    (small_disk / "filler").write_bytes(bytes(200 * 1024))
    noise = tmp_path / "noise.csv"
    with noise.open("w") as file:
        file.write(",".join(KAGGLE_PIXELS) + "\n")
        file.writelines(",".join(str(byte) for byte in os.urandom(784)) + "\n" for _ in range(2000))
    refused(digitrec("--store", small_disk / "store", "ingest", noise), 74, "space")
    assert not list(small_disk.glob("store/datasets/*/manifest.json"))
    assert not list(small_disk.glob("store/**/shard-*"))


def test_a_read_only_store(digitrec: Command, tmp_path: Path, small_disk: Path) -> None:
    """Exit 74, and what to do."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(digitrec("--store", small_disk / "store", "ingest", write_csv(tmp_path / "a.csv")), 74, "read-only")


def test_listing_promoting_and_going_back(digitrec: Command, models: list[str]) -> None:
    """`list models` marks the champion; `promote` and `rollback` move it; all of it is told."""
    first, second = models
    assert digitrec("promote", first).out == f"champion is now {first} (entry 1, promote)\n"
    assert digitrec("promote", second, "--json").answer["entry"]["number"] == 2
    marked = [line for line in digitrec("list", "models").out.splitlines() if line.endswith(", champion")]
    assert [line.split()[0] for line in marked] == [second]
    assert digitrec("rollback").out == f"champion is now {first} (entry 3, rollback)\n"


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    """Two sealed model versions, as far as the registry looks at them."""
    from digitrec.store.layout import Store, model_folder
    from digitrec.store.manifest import Manifest, publish

    names = ["quick-aaaaaaaa", "quick-bbbbbbbb"]
    for name in names:
        manifest = Manifest("model", name, {"seed": name}, (), facts={"accuracy": 0.98, "training_rows": 3700})
        publish(Store.at(tmp_path / "store"), model_folder(name), manifest)
    return names


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
