"""The server that a flow's script starts for its run: what is in its way is one line, and nothing else gets in."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from digitrec.errors import Misconfigured
from tests.flows.conftest import FLOWS

DEAD = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NO_PROXY", "no_proxy")


def start(home: Path, store: Path, **variables: str) -> subprocess.Popen[str]:
    """`python flows/score.py`, which finds nothing to do."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") and name not in PROXIES
    }
    return subprocess.Popen(
        [sys.executable, FLOWS / "score.py", "--store", store],
        env=kept | {"PREFECT_HOME": str(home)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr."""
    _, stderr = process.communicate(timeout=110)
    return process.returncode, stderr


def check_one_line(stderr: str, *words: str) -> None:
    """One line of error, nothing but the log before it."""
    assert "Traceback" not in stderr
    *log, error = stderr.splitlines()
    assert all(" INFO " in line for line in log)
    assert error.startswith("error: Prefect's own server did not start: ")
    assert [word for word in words if word not in error] == []


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a database."""
    home = tmp_path_factory.mktemp("used")
    code, stderr = finish(start(home, tmp_path_factory.mktemp("store")))
    assert code == 0, stderr
    return home


@pytest.fixture
def home(used: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    folder = tmp_path / "home"
    folder.mkdir()
    with sqlite3.connect(used / "prefect.db") as source, sqlite3.connect(folder / "prefect.db") as copy:
        source.backup(copy)
    source.close()
    copy.close()
    return folder


def test_a_damaged_database(home: Path, tmp_path: Path) -> None:
    """Exit 74, with the file and two ways out, as soon as the server has ended."""
    (home / "prefect.db").write_bytes(b"no database" * 1000)
    log = home / "digitrec-server.log"
    log.write_text("what an error of another script points to\n")
    code, stderr = finish(start(home, tmp_path / "store"))
    assert code == 74
    check_one_line(stderr, f"{home}/prefect.db is damaged", "move it away", "PREFECT_HOME")
    said = log.read_text()
    assert said.startswith("what an error of another script points to\n")
    assert "not a database" in said


def test_a_database_of_a_newer_prefect(home: Path, tmp_path: Path) -> None:
    """Exit 78."""
    database = sqlite3.connect(home / "prefect.db")
    database.execute("update alembic_version set version_num = 'feedbeef'")
    database.commit()
    database.close()
    code, stderr = finish(start(home, tmp_path / "store"))
    assert code == 78
    check_one_line(stderr, f"{home}/prefect.db is of a newer Prefect", "PREFECT_HOME")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk(tmp_path: Path) -> None:
    """Exit 74."""
    home = tmp_path / "home"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", home], check=False).returncode:
        pytest.skip("may not mount")
    try:
        code, stderr = finish(start(home, tmp_path / "store"))
    finally:
        subprocess.run(["umount", home], check=True)
    assert code == 74
    check_one_line(stderr, f"no space is left for {home}/prefect.db")


def test_a_database_server_that_is_away(tmp_path: Path) -> None:
    """Exit 69, with its address, without its password."""
    url = "postgresql+asyncpg://somebody:secret@127.0.0.1:9/prefect"
    process = start(tmp_path / "home", tmp_path / "store", PREFECT_SERVER_DATABASE_CONNECTION_URL=url)
    code, stderr = finish(process)
    assert code == 69
    check_one_line(stderr, "127.0.0.1:9/prefect cannot be reached", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
    assert "secret" not in stderr


def test_a_home_that_is_none(tmp_path: Path) -> None:
    """A file in the place of the folder: named, exit 78."""
    (tmp_path / "home").write_text("")
    code, stderr = finish(start(tmp_path / "home", tmp_path / "store"))
    assert (code, len(stderr.splitlines())) == (78, 1)
    assert f"{tmp_path}/home" in stderr


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": DEAD, "HTTPS_PROXY": DEAD, "ALL_PROXY": DEAD},
        {"http_proxy": DEAD, "all_proxy": DEAD, "no_proxy": "example.org"},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
    ],
    ids=["upper", "lower", "socks"],
)
def test_no_proxy_stands_before_the_loopback(proxies: dict[str, str], used: Path, tmp_path: Path) -> None:
    """With any proxy set, the script reaches its own server at once."""
    code, stderr = finish(start(used, tmp_path / "store", **proxies))
    assert code == 0, stderr
    assert "Timed out" not in stderr


@pytest.mark.usefixtures("flows")
def test_other_hosts_keep_their_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the loopback is added to what needs none; what is set stays."""
    from _proxies import keep_off_loopback

    from digitrec.addresses import proxy_for

    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intern.example")
    keep_off_loopback(None)
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "intern.example,127.0.0.1,localhost,::1"
    assert proxy_for("https://hooks.example/1") == "http://user:secret@proxy.example:3128"
    assert proxy_for("https://a.intern.example/1") is None
    assert proxy_for("http://127.0.0.1:4200/api") is None


@pytest.mark.usefixtures("flows")
def test_a_socks_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a server is behind it and the package for it is missing: exit 78, without the password."""
    import _proxies

    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_proxies, "find_spec", lambda _name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@proxy.example:1080")
    with pytest.raises(
        Misconfigured, match=r"ALL_PROXY is socks5://\*\*\*@proxy\.example:1080, .* prefect\.example to NO_PROXY"
    ):
        _proxies.keep_off_loopback("http://prefect.example:4200/api")
    assert os.environ["ALL_PROXY"]


def test_settings_of_another_server_do_not_matter(used: Path, tmp_path: Path) -> None:
    """A password for some other server, on either side, is none for this one."""
    code, stderr = finish(start(used, tmp_path / "store", PREFECT_SERVER_API_AUTH_STRING="a:b", PREFECT_API_KEY="x"))
    assert code == 0, stderr


def test_other_users_of_the_machine_cannot_use_it(tmp_path: Path) -> None:
    """Its port is open to all of them; without the run's own password it answers nothing."""
    process = start(tmp_path / "home", tmp_path / "store")
    port = listening_port(process)
    with socket.create_connection(("127.0.0.1", port), timeout=60):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/flows/filter", b"{}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=100)
    assert refused.value.code == 401
    refused.value.close()
    process.send_signal(signal.SIGINT)
    finish(process)


def listening_port(process: subprocess.Popen[str]) -> int:
    """The port of the script's server, which listens from the start."""
    while process.poll() is None:
        for child in psutil.Process(process.pid).children():
            for connection in child.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    return int(connection.laddr.port)
        time.sleep(0.05)
    raise AssertionError(finish(process))


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    """Exit 130 and one line, while the database is being made; a server that was started is gone."""
    process = start(tmp_path / "home", tmp_path / "store")
    listening_port(process)
    [server] = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    code, stderr = finish(process)
    assert code == 130
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in stderr
    assert psutil.wait_procs([server], timeout=30)[1] == []
