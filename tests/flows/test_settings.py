"""`python flows/….py` with settings that Prefect does not take: exit 78, one line that names the setting."""

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.environment.conftest import clean, finish
from tests.flows.test_scripts import FLOWS


class Refuse(BaseHTTPRequestHandler):
    """As Prefect's server does with an auth string: only its health is told to anybody."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200 if self.path == "/api/health" else 401)
        self.end_headers()
        self.wfile.write(b"true")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    """The URL of a server that knows nobody."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


PROFILE = 'active = "a"\n[profiles.a]\nPREFECT_SERVER_API_PORT = "abc"\n'


def refused(tmp_path: Path, **variables: str) -> str:
    """The one line on stderr."""
    home = {"PREFECT_HOME": str(tmp_path / "home"), "DIGITREC_STORE": str(tmp_path / "store")}
    ended = finish([sys.executable, FLOWS / "score.py"], tmp_path, clean(**home | variables))
    assert ended.code == 78, ended.lines
    assert ended.lines == (ended.error,)
    return ended.error


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_LOGGING_LEVEL", "nonsense"),
        ("PREFECT_SERVER_API_PORT", "abc"),
        ("PREFECT_SERVER_EPHEMERAL_ENABLED", "perhaps"),
        ("PREFECT_API_URL", "nonsense"),
        ("PREFECT_API_URL", "http://127.0.0.1:abc/api"),
    ],
)
def test_a_variable_that_holds_nonsense(name: str, value: str, tmp_path: Path) -> None:
    """Its name and value."""
    told = refused(tmp_path, **{name: value})
    assert name in told
    assert value in told


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("home/profiles.toml", b"active = [", "is not TOML"),
        ("home/profiles.toml", b'active = "caf\xe9"', "is not UTF-8"),
        ("home/profiles.toml", PROFILE.encode(), "PREFECT_SERVER_API_PORT='abc' in profile 'a' of"),
        ("prefect.toml", b"a = [", "is not TOML"),
        ("prefect.toml", b'[server.api]\nport = "abc"\n', "server.api.port='abc' in "),
        (".env", b"PREFECT_HOME=caf\xe9\n", "is not UTF-8"),
        (".env", b"PREFECT_SERVER_API_PORT=abc\n", "PREFECT_SERVER_API_PORT='abc' in .env"),
    ],
)
def test_a_file_that_holds_nonsense(file: str, content: bytes, words: str, tmp_path: Path) -> None:
    """The file, and what is wrong in it."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(content)
    told = refused(tmp_path)
    assert words in told
    assert Path(file).name in told


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    """A value that Prefect refuses may be a password that was put into the wrong variable's place."""
    told = refused(tmp_path, PREFECT_API_URL="http://me:secret@127.0.0.1:abc/api")
    assert "secret" not in told


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """PREFECT_HOME below a file: the place, and what to set."""
    (tmp_path / "file").touch()
    home = str(tmp_path / "file" / "home")
    ended = finish([sys.executable, FLOWS / "score.py"], tmp_path, clean(PREFECT_HOME=home))
    assert ended.code == 78, ended.lines
    assert home in ended.error
    assert "set PREFECT_HOME" in ended.error


@pytest.mark.parametrize("given", [{}, {"PREFECT_API_AUTH_STRING": "another:secret"}])
def test_a_server_that_wants_another_password(given: dict[str, str], refusing: str, tmp_path: Path) -> None:
    """It tells everybody that it is well, and refuses everything else: the setting is named, not the password."""
    told = refused(tmp_path, PREFECT_API_URL=refusing, **given)
    assert "refuses us with 401" in told
    assert "PREFECT_API_AUTH_STRING" in told
    assert "secret" not in told
