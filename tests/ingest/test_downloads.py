"""`digitrec fetch openml`: https alone, bounded in size and time, whole or not at all."""

import hashlib
import json
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import pytest

from digitrec.catalog.store import Store
from digitrec.contract import OPENML_PIXELS
from digitrec.errors import BadData, Unavailable
from digitrec.ingest import sources
from digitrec.ingest.run import ingest
from digitrec.ingest.sources import fetch_openml
from digitrec.options import IngestOptions

from . import files
from .serving import Answers, make_certificate, reset, serving, speaking

Serve = Callable[[Answers], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture
def serve(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`serving` with a certificate that this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return partial(serving, certificate=certificate)


def arff(rows: int) -> bytes:
    names = [f"@ATTRIBUTE {name} REAL" for name in OPENML_PIXELS]
    lines = [b",".join(files.row_of(files.OPENML, number)) for number in range(rows)]
    head = "\n".join(["% mnist", "@RELATION mnist_784", *names, "@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}", "@DATA", ""])
    return head.encode() + b"\n".join(lines) + b"\n"


def openml(url: str, md5: str | None = None) -> bytes:
    return json.dumps({"data_set_description": {"url": url, "md5_checksum": md5}}).encode()


def test_openml_becomes_a_csv_that_ingest_takes(serve: Serve, tmp_path: Path) -> None:
    """ARFF → pixel1…pixel784,class; a redirection within https is followed."""
    data = arff(20)
    answers = {"/mnist.arff": data}
    with serve(answers) as server:
        answers["/moved"] = f"Location: {server}/mnist.arff".encode()
        answers["/554"] = openml(f"{server}/moved", hashlib.md5(data).hexdigest())
        (path,) = fetch_openml(tmp_path, url=f"{server}/554")
    report = ingest(Store.at(tmp_path / "store"), [path], IngestOptions())
    assert (path.name, report.rows, report.rejects, report.labelled) == ("mnist_784.csv", 20, 0, True)


def test_a_damaged_openml_download_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    """Its MD5 is in the description."""
    answers = {"/mnist.arff": arff(2)}
    with serve(answers) as server:
        answers["/554"] = openml(f"{server}/mnist.arff", "0" * 32)
        with pytest.raises(BadData, match="arrived damaged"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
    assert list((tmp_path / "to").iterdir()) == []


def test_openml_that_is_not_there_is_unavailable(serve: Serve, tmp_path: Path) -> None:
    """A server's 404, and no server at all."""
    with serve({}) as server, pytest.raises(Unavailable, match="cannot fetch"):
        fetch_openml(tmp_path, url=f"{server}/554")
    with pytest.raises(Unavailable, match="cannot fetch"):
        fetch_openml(tmp_path, url=f"{server}/554")


def test_a_server_that_nobody_vouches_for_is_not_believed(certificate: Path, tmp_path: Path) -> None:
    """Its certificate is checked."""
    with serving({}, certificate) as server, pytest.raises(Unavailable, match="certificate verify failed"):
        fetch_openml(tmp_path, url=f"{server}/554")


@pytest.mark.parametrize("place", ["file://{secret}", "http://127.0.0.1:{port}/mnist.arff", "ftp://127.0.0.1/x", "/x"])
@pytest.mark.parametrize("redirected", [False, True])
def test_only_https_is_fetched(redirected: bool, place: str, serve: Serve, tmp_path: Path) -> None:
    """Neither the description nor a redirection leads to a file of this machine, or to what anybody could have sent."""
    secret = tmp_path / "secret"
    secret.write_bytes(arff(1))
    answers: Answers = {}
    with serving({"/mnist.arff": arff(1)}, None) as plain, serve(answers) as server:
        url = place.format(secret=secret, port=plain.rpartition(":")[2])
        answers["/moved"] = f"Location: {url}".encode()
        answers["/554"] = openml(f"{server}/moved" if redirected else url)
        with pytest.raises((BadData, Unavailable), match=r"expected an https://|not allowed|Not Found"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
    assert not list((tmp_path / "to").glob("*.csv"))


def test_a_download_has_an_end(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description, a file or a line without end is given up at its limit, and nothing is left."""
    answers = {"/554": b" " * 2_000_000, "/mnist.arff": arff(40), "/line": b"1" * 100_000}
    with serve(answers) as server:
        with pytest.raises(BadData, match="more than 1,048,576 bytes"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
        answers["/554"] = openml(f"{server}/line")
        with pytest.raises(BadData, match="a line of more than 65,536 bytes"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
        answers["/554"] = openml(f"{server}/mnist.arff")
        monkeypatch.setattr(sources, "DOWNLOAD_MAX_BYTES", 50_000)
        with pytest.raises(BadData, match="more than 50,000 bytes"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    serve: Serve, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single byte is late, but the whole is."""
    monkeypatch.setattr(sources, "DOWNLOAD_MAX_S", 0.2)

    def drip(connection: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            while True:
                connection.sendall(b"% ")
                time.sleep(0.05)

    answers: Answers = {}
    with speaking(certificate, drip) as url, serve(answers) as server:
        answers["/554"] = openml(url)
        with pytest.raises(Unavailable, match="took longer than"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_server_that_goes_away_in_the_middle_is_unavailable(
    how: str, serve: Serve, certificate: Path, tmp_path: Path
) -> None:
    """The network failed, not the disk; nothing is left."""
    data = arff(400)

    def break_off(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:-100])
        if how == "reset":
            reset(connection)

    answers: Answers = {}
    with speaking(certificate, break_off) as url, serve(answers) as server:
        answers["/554"] = openml(url)
        with pytest.raises(Unavailable, match="cannot fetch"):
            fetch_openml(tmp_path / "to", url=f"{server}/554")
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("description", [{}, [], {"md5_checksum": "0"}])
def test_a_description_that_does_not_say_where_the_file_is_is_bad_data(
    description: object, serve: Serve, tmp_path: Path
) -> None:
    """Exit 65, naming the description."""
    answers = {"/554": json.dumps({"data_set_description": description}).encode()}
    with serve(answers) as server, pytest.raises(BadData, match="not the description"):
        fetch_openml(tmp_path, url=f"{server}/554")
