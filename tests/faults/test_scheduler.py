"""A cluster of one's own, outside: its scheduler dies, or it talks TLS only."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import LocalCluster, Security

from digitrec.catalog.store import Store
from digitrec.errors import Unavailable
from digitrec.scoring import cluster as cluster_room
from digitrec.scoring.cluster import connect
from digitrec.scoring.dispatcher import DaskExecutor
from digitrec.scoring.executors import Execution
from digitrec.scoring.run import score_all
from digitrec.verify import verify
from tests.faults.computing import FOLDER, NIGHT, ROWS, quick
from tests.faults.conftest import parts
from tests.faults.test_driver import REPOSITORY, Start, go, start, wait_for_parts
from tests.places import full
from tests.scoring.making import settings_for

__all__ = ["start"]


@pytest.fixture
def scheduler() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A scheduler and one worker, started by Dask's own commands on the loopback."""
    dask = [sys.executable, "-m", "dask"]
    first = subprocess.Popen(
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert first.stderr
    address = next(found[0] for line in first.stderr if (found := re.search(r"tcp://127\.0\.0\.1:\d+", line)))
    worker = subprocess.Popen(
        [*dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--death-timeout", "5"],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        yield address, first
    finally:
        for process in (first, worker):
            process.kill()
            process.wait()
        first.stderr.close()


@pytest.mark.parametrize("seen", [1, 3, 6])
def test_a_scheduler_that_dies_ends_the_run(
    ready: Store, scheduler: tuple[str, "subprocess.Popen[str]"], start: Start, undisturbed: list[str], seen: int
) -> None:
    """Exit 69 with one line; nothing is published; the next run, on a cluster of its own, goes on."""
    address, process = scheduler
    driver = start("slow", "processes", address)
    go(ready)
    wait_for_parts(ready, seen)
    process.send_signal(signal.SIGKILL)
    _, said = driver.communicate(timeout=90)
    assert driver.returncode == 69, said
    assert said == (
        f"error: the Dask cluster at {address} is lost: the connection to the scheduler broke; "
        "finished partitions are kept, the same command goes on from there\n"
    )
    assert not Path(full(ready, f"{FOLDER}/manifest.json")).exists()
    execution = Execution(processes=False, compute=quick, partition_rows=ROWS)
    (scored,) = score_all(ready, NIGHT, settings_for(ready), execution).datasets
    assert parts(scored.folder) == undisturbed
    verify(ready)


def test_a_scheduler_that_dies_while_an_outcome_is_fetched_is_lost_too(
    ready: Store, scheduler: tuple[str, "subprocess.Popen[str]"]
) -> None:
    """The partition has ended well and its outcome is on the way: that is no fault of the partition."""
    address, process = scheduler
    with connect(settings_for(ready, dask=address)) as cluster, ThreadPoolExecutor(1) as fetching:
        done = cluster.client.submit(int, 1)
        assert done.result(timeout=30) == 1
        process.send_signal(signal.SIGSTOP)
        answer = fetching.submit(DaskExecutor(cluster, quick).answer, done)
        time.sleep(0.5)
        process.kill()
        with pytest.raises(Unavailable, match="the connection to the scheduler broke"):
            answer.result(timeout=60)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A self-signed certificate and its key, good for a day, as PEM files."""
    pem, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    subprocess.run([*request.split(), "-keyout", key, "-out", pem], check=True, capture_output=True)
    return pem, key


def test_tls_admits_who_has_the_certificate_and_nobody_else(
    ready: Store, certificate: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the settings' files, a run over TLS ends like any other; without the right ones, exit 69."""
    monkeypatch.setattr(cluster_room, "CONNECT_TIMEOUT_S", 2.0)
    pem, key = certificate
    files = dict.fromkeys(("tls_ca_file", "tls_scheduler_cert", "tls_worker_cert", "tls_client_cert"), pem)
    files |= dict.fromkeys(("tls_scheduler_key", "tls_worker_key", "tls_client_key"), key)
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tls",
        host="127.0.0.1",
        dashboard_address=None,
        security=Security(require_encryption=True, **files),
    ) as cluster:
        tls = {"dask": cluster.scheduler_address, "dask_tls_ca": pem, "dask_tls_cert": pem, "dask_tls_key": key}
        execution = Execution(compute=quick, partition_rows=ROWS)
        assert score_all(ready, NIGHT, settings_for(ready, **tls), execution).datasets[0].rows == 240
        plain = settings_for(ready, dask=cluster.scheduler_address.replace("tls://", "tcp://"))
        with pytest.raises(Unavailable, match="cannot reach"), connect(plain):
            pass
