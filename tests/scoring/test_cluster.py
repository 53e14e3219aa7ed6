"""connect(): which clusters are used, which are refused, and that none makes a noise."""

import logging
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster

from digitrec.catalog.store import Store
from digitrec.doctor import check_cluster
from digitrec.errors import Misconfigured, Unavailable
from digitrec.scoring import cluster as room
from digitrec.scoring.cluster import connect
from digitrec.scoring.run import score
from digitrec.scoring.worker import quiet
from digitrec.settings import Settings
from tests.scoring.making import settings_for
from tests.scoring.test_run import NIGHT


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "192.0.2.1:8786", "tcp://cluster.example:8786"])
def test_tcp_beyond_this_machine_needs_insecure(store: Store, address: str) -> None:
    """Whoever reaches an open scheduler can run code; such an address is refused before anything is sent."""
    with (
        pytest.raises(Misconfigured, match="--insecure"),
        connect(settings_for(store, dask=address)),
    ):
        pass


def test_tls_needs_its_three_files(store: Store, tmp_path: Path) -> None:
    """A missing certificate is named by its variable."""
    settings = settings_for(store, dask="tls://127.0.0.1:8786", dask_tls_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(Misconfigured, match=r"DIGITREC_DASK_TLS_CA is .*ca.pem: there is no such file"):
        room.security_for(settings.dask or "", settings, insecure=False)
    with pytest.raises(Misconfigured, match="needs DIGITREC_DASK_TLS_CA"):
        room.security_for("tls://127.0.0.1:8786", settings_for(store), insecure=False)


def test_an_address_that_is_none_is_refused(store: Store) -> None:
    """A URL of another kind is a mistake in the settings."""
    with pytest.raises(Misconfigured, match="expected tls://HOST:PORT"):
        room.security_for("http://127.0.0.1:8787", settings_for(store), insecure=False)


def test_a_scheduler_that_is_not_there_is_unavailable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: one line, exit 69, within the time limit."""
    monkeypatch.setattr(room, "CONNECT_TIMEOUT_S", 0.5)
    settings = settings_for(store, dask="tcp://127.0.0.1:9")
    with (
        pytest.raises(Unavailable, match=r"cannot reach the Dask scheduler at tcp://127\.0\.0\.1:9"),
        connect(settings),
    ):
        pass


def test_a_call_that_never_returns_is_given_up() -> None:
    """The outer time limit holds even where Dask's own does not."""
    import threading

    with pytest.raises(Unavailable, match=r"no peer: no answer in 0\.05 s"):
        room.within(0.05, threading.Event().wait, "no peer")


@pytest.fixture
def outside(store: Store) -> Settings:
    """Settings that point to a scheduler with one worker, listening on the loopback."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield settings_for(store, dask=cluster.scheduler_address)


def test_a_cluster_of_ones_own_is_used_by_address(ready: Store, outside: Settings) -> None:
    """With an address, no cluster is started; the predictions come from that one, which outlives the run."""
    assert score(ready, NIGHT, outside).datasets[0].rows == 1000
    with connect(outside) as cluster:
        assert (cluster.address, cluster.slots) == (outside.dask, 1)


def test_workers_with_other_versions_are_refused(outside: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other packages might compute other parts: both lists are shown, exit 69."""
    here = {"torch": "2.0"}
    monkeypatch.setattr(room, "installed_versions", iter([here, {"torch": "1.0"}]).__next__)
    with (
        pytest.raises(Unavailable, match=r"has torch 1\.0; here are torch 2\.0"),
        connect(outside),
    ):
        pass


def test_a_cluster_without_workers_is_unavailable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler alone computes nothing; waiting for it has an end."""
    monkeypatch.setattr(room, "CONNECT_TIMEOUT_S", 0.5)
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None) as empty:
        settings = settings_for(store, dask=empty.scheduler_address)
        with pytest.raises(Unavailable, match="has no workers"), connect(settings):
            pass


def listening(pids: Iterable[int]) -> list[tuple[str, int]]:
    """Host and port of each TCP socket on which these processes listen."""
    found = [entry for pid in pids for entry in psutil.Process(pid).net_connections("tcp")]
    return [entry.laddr for entry in found if entry.status == psutil.CONN_LISTEN]


def test_other_users_of_the_machine_are_kept_out(store: Store) -> None:
    """The loopback is open to all of them: a client without the run's own key is refused at every port, and over HTTP
    nothing is told."""
    before = set(listening([os.getpid()]))
    with connect(settings_for(store)) as cluster:
        pids = {os.getpid(), *cluster.client.run(os.getpid).values()}
        ports = set(listening(pids)) - before
        assert {host for host, _ in ports} <= {"127.0.0.1"}
        for _, port in ports:
            assert greeting(port) == b""
            with pytest.raises(OSError):  # noqa: PT011  # of TLS, for want of a certificate, or because it is none
                greet_without_certificate(port)
            for path in ("/info/main/workers.html", "/json/counts.json", "/metrics", "/status"):
                with pytest.raises(OSError):  # noqa: PT011  # HTTP's 404, or no HTTP at all
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=0.5)


def greeting(port: int) -> bytes:
    """What is said there to whoever connects: an open Dask server begins the conversation."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as plain:
        try:
            return plain.recv(1)
        except TimeoutError:
            return b""


def greet_without_certificate(port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=1) as plain, context.wrap_socket(plain) as secret:
        secret.sendall(b"GET / HTTP/1.0\r\n\r\n")
        secret.recv(1)


def test_a_cluster_asks_for_no_public_address(ready: Store) -> None:
    """Dask would look which interface leads to 8.8.8.8, and warn on a machine without a network."""
    script = """if True:
        import socket, sys, warnings
        warnings.simplefilter("error")
        def refuse(event, arguments):
            if event == "socket.connect" and not str(arguments[1][0]).startswith("127."):
                raise SystemExit(str(arguments))
        sys.addaudithook(refuse)
        from digitrec.scoring.cluster import connect
        from digitrec.settings import load_settings
        with connect(load_settings()) as cluster:
            print(cluster.client.submit(int, 1).result())
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_workers_that_do_not_end_in_time_are_killed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed is in receipts: a slow good-bye is no reason to fail a run."""
    with connect(settings_for(store)) as cluster:
        (pid,) = cluster.client.run(os.getpid).values()
        worker = psutil.Process(pid)
        monkeypatch.setattr(room, "CLOSE_TIMEOUT_S", 0.001)
    assert psutil.wait_procs([worker], timeout=30)[1] == []


def test_a_run_on_processes_is_quiet(ready: Store) -> None:
    """Nothing on stderr at start, work or shutdown, and the script ends with 0. No worker runs the script itself: it
    may hold anything, all of Prefect or no guard of its main part."""
    script = (
        "from digitrec.options import ScoreOptions\n"
        "from digitrec.scoring.executors import Execution\n"
        "from digitrec.scoring.run import score_all\n"
        "from digitrec.settings import load_settings\n"
        "from digitrec.catalog.store import Store\n"
        "print('once')\n"
        f"store = Store.at({ready.url!r})\n"
        "options, settings = ScoreOptions(dataset='night'), load_settings(store=store.url, threads=2)\n"
        "print(score_all(store, options, settings, Execution(processes=True)).datasets[0].rows)\n"
    )
    path = Path(ready.url, "run.py")
    path.write_text(script)
    ended = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("once\n1000\n", "", 0)


def warn() -> None:
    logging.getLogger("digitrec.scoring").warning("a worker speaks")


def test_what_a_worker_warns_of_is_heard_here_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A record of digitrec's on a worker process arrives at the driver's logger of that name, and nowhere twice."""
    with connect(settings_for(store)) as cluster:
        cluster.client.submit(warn, pure=False).result()
        deadline = time.monotonic() + 30
        while "a worker speaks" not in caplog.messages and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [record.name for record in caplog.records if record.getMessage() == "a worker speaks"] == [
        "digitrec.scoring"
    ]


def test_dasks_own_log_speaks_from_warning_on() -> None:
    """An operator's log is not filled with Dask's chatter."""
    quiet()
    assert logging.getLogger("distributed").level == logging.WARNING


def test_no_port_is_open_to_others() -> None:
    """Every socket that this process and its children listen on while a cluster is up is on the loopback."""
    me = psutil.Process()
    before = {(sock.laddr.ip, sock.laddr.port) for sock in me.net_connections("tcp") if sock.status == "LISTEN"}
    with connect(Settings(threads=1)):
        # What a child of an earlier test has left, until it is reaped, only root may look into.
        alive = [child for child in me.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]
        everybody = [me, *alive]
        open_now = {
            (sock.laddr.ip, sock.laddr.port)
            for process in everybody
            for sock in process.net_connections("tcp")
            if sock.status == "LISTEN"
        }
    assert open_now > before
    assert {ip for ip, _ in open_now - before} == {"127.0.0.1"}


def test_doctor_keeps_to_the_rule_for_open_schedulers(store: Store) -> None:
    """What score refuses to connect to, doctor does not connect to either."""
    with pytest.raises(Misconfigured, match="--insecure"):
        list(check_cluster(settings_for(store, dask="tcp://192.0.2.1:8786")))
