"""The Dask cluster: our own worker processes on this machine, or yours by address.

Whoever can speak to a scheduler can run code as its user, and the loopback is open to every user of the machine. So our
own processes speak TLS with a key that exists in their memory alone.
"""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dask
from distributed import Client, LocalCluster, Security

from digitrec.addresses import parse_dask
from digitrec.errors import Misconfigured, Unavailable
from digitrec.foreign import blame, blame_surely
from digitrec.limits import memory_bytes, oom_kills
from digitrec.scoring.executors import DRIVER_BYTES, WORKER_BYTES
from digitrec.scoring.scratch import scratch_folder
from digitrec.scoring.versions import installed_versions, list_versions
from digitrec.scoring.worker import quiet
from digitrec.settings import Settings

LOG = logging.getLogger("digitrec.scoring")
CONNECT_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 3.0
LOCAL_CONFIG = {
    # Fifteen seconds after a worker died, Dask would look whether it is there, and if that finds it dead once more, or
    # on its way back, give its place up for good.
    "distributed.deploy.lost-worker-timeout": "1000 days",
    # A worker that is stopped or cut off is given up, and its partition done elsewhere, after a minute instead of five.
    "distributed.scheduler.worker-ttl": "60 seconds",
    # Each worker would look at its stack a hundred times a second and at its clock fifty times, for a dashboard, and at
    # its memory ten times: with all cores computing, a thirtieth of the machine.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "1s",
    "distributed.worker.memory.monitor-interval": "500ms",
    # Over HTTP anybody on the machine could read the names of what is computed, and follow the workers' stacks.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Dask would also set MALLOC_TRIM_THRESHOLD_: every batch's memory went back to the system, a fifth more CPU time.
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1},
}
SILENT_HTTP: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
"""Without an address the HTTP servers, which have nothing to tell, would listen on every interface or on port 8787."""
T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """A connected cluster. `slots`: partitions computed at a time, each on one core.

    `memory_losses`: how many workers were stopped for want of memory so far, by Dask's nanny or by the kernel.
    """

    client: Client
    address: str
    slots: int
    memory_losses: Callable[[], int] = lambda: 0


@contextmanager
def connect(settings: Settings, *, workers: int = 1, insecure: bool = False) -> Iterator[Cluster]:
    """Connect to the cluster that the settings name, or start so many worker processes; closed quietly however the
    block ends.

    Raises `Misconfigured` for an address that must not be used like this, `Unavailable` if the cluster does not answer
    or does not fit.
    """
    quiet()
    if settings.dask:
        with outside(settings.dask, settings, insecure) as cluster:
            yield cluster
    else:
        with own_processes(workers) as cluster:
            yield cluster


def start_local(**options: Any) -> LocalCluster:
    """Start a local cluster. Raises `Misconfigured` if it cannot start with the settings that were made for Dask."""
    try:
        return LocalCluster(**options)
    except Exception as error:
        if told := blame_surely("dask", error):
            raise told from error
        raise


@contextmanager
def own_processes(workers: int) -> Iterator[Cluster]:
    """Worker processes on 127.0.0.1, each with its share of the memory that the driver leaves.

    A throw-away key and certificate keep other users of the machine out: 0.1 s, and 0.2 s for the first connections.
    """
    share = max(WORKER_BYTES, (memory_bytes() - DRIVER_BYTES) // workers)
    with (
        local_config(),
        script_hidden(),
        closing(
            start_local(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=share,
                processes=True,
                host="127.0.0.1",
                security=Security.temporary(),
                **SILENT_HTTP,
                preload=["digitrec.scoring.worker"],
            )
        ) as local,
        closing_client(Client(local, set_as_default=False)) as client,
    ):
        client.forward_logging("digitrec")
        LOG.info("local cluster: %d worker processes", workers)
        yield Cluster(client, local.scheduler_address, workers, count_memory_losses(client, kernel=True))


@contextmanager
def local_config() -> Iterator[None]:
    """Settings of our own clusters, and a folder for what workers write when memory runs short, gone afterwards."""
    with (
        scratch_folder(dask.config.get("temporary-directory", None)) as folder,
        dask.config.set({**LOCAL_CONFIG, "temporary-directory": folder}),
    ):
        yield


@contextmanager
def script_hidden() -> Iterator[None]:
    """Keep new processes from running this process's script once more.

    multiprocessing does that, under another name, for the sake of functions defined there. Workers need none, and would
    import all of Prefect with a flow's script: a second, 50 MB and its log. Where there is no script, as in an
    interactive session, there is nothing to run.
    """
    main: dict[str, object] = vars(sys.modules["__main__"])
    hidden: dict[str, object] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(hidden)


def count_memory_losses(client: Client, *, kernel: bool) -> Callable[[], int]:
    """Count the workers that are stopped for want of memory from now on; the kernel's victims too if they are ours."""
    by_nanny: list[object] = []
    before = oom_kills()
    client.subscribe_topic("worker-restart-memory", by_nanny.append)
    return lambda: len(by_nanny) + (oom_kills() - before if kernel else 0)


@contextmanager
def outside(address: str, settings: Settings, insecure: bool) -> Iterator[Cluster]:
    """Somebody else's cluster: reached within a time limit, with the same packages on every worker."""
    security = security_for(address, settings, insecure)
    client = within(
        CONNECT_TIMEOUT_S,
        lambda: Client(address, security=security, timeout=CONNECT_TIMEOUT_S, set_as_default=False),
        f"cannot reach the Dask scheduler at {address}",
    )
    with closing_client(client):
        check_workers(client, address)
        client.forward_logging("digitrec")
        slots = sum(client.nthreads().values())
        LOG.info("Dask cluster %s: %d threads, dashboard %s", address, slots, client.dashboard_link)
        yield Cluster(client, address, slots, count_memory_losses(client, kernel=False))


@contextmanager
def closing(local: LocalCluster) -> Iterator[LocalCluster]:
    """Stop the workers in order; at once if that takes too long, or if Ctrl-C is pressed (again) meanwhile."""
    try:
        yield local
    finally:
        try:
            local.close(timeout=CLOSE_TIMEOUT_S)
        except TimeoutError:
            kill_workers(local)
        except KeyboardInterrupt:
            kill_workers(local)
            raise


def kill_workers(local: LocalCluster) -> None:
    """End worker processes that hold nothing any more: what they did is in receipts."""
    local.shutdown_on_close = False  # or Dask tries again, for ten seconds, when the interpreter ends
    for worker in local.workers.values():
        if pid := getattr(worker, "pid", None):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def closing_client(client: Client) -> Iterator[Client]:
    """Say good-bye to the scheduler, if it is there to hear it."""
    try:
        yield client
    finally:
        with suppress(TimeoutError):
            client.close(timeout=CLOSE_TIMEOUT_S)


def security_for(address: str, settings: Settings, insecure: bool) -> Security | None:
    """TLS for `tls://`, nothing for `tcp://` on the loopback; `Misconfigured` for what would be open or unusable."""
    try:
        parsed = parse_dask(address)
    except ValueError as error:
        raise Misconfigured(f"--dask {address}: {error}") from error
    if parsed.scheme == "tls":
        return Security(
            tls_ca_file=pem(settings.dask_tls_ca, "DIGITREC_DASK_TLS_CA"),
            tls_client_cert=pem(settings.dask_tls_cert, "DIGITREC_DASK_TLS_CERT"),
            tls_client_key=pem(settings.dask_tls_key, "DIGITREC_DASK_TLS_KEY"),
            require_encryption=True,
        )
    if not parsed.is_loopback and not insecure:
        raise Misconfigured(
            f"--dask {address}: whoever reaches that port can run code there; use tls:// with DIGITREC_DASK_TLS_CA, "
            "_CERT and _KEY, or say --insecure"
        )
    return None


def pem(path: str | None, variable: str) -> str:
    """A TLS file that exists. Raises `Misconfigured`, naming the variable."""
    if not path:
        raise Misconfigured(f"tls:// needs {variable}: the path of a PEM file")
    if not Path(path).is_file():
        raise Misconfigured(f"{variable} is {path}: there is no such file")
    return path


def check_workers(client: Client, address: str) -> None:
    """Raise `Unavailable` unless there are workers, and each runs the packages that run here, in the same versions."""
    within(
        CONNECT_TIMEOUT_S,
        lambda: client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S),
        f"the Dask scheduler at {address} has no workers",
    )
    here = installed_versions()
    there = within(
        CONNECT_TIMEOUT_S, lambda: client.run(installed_versions), f"the workers at {address} cannot run digitrec"
    )
    for worker, versions in sorted(there.items()):
        if versions != here:
            raise Unavailable(
                f"worker {worker} has {list_versions(versions)}; here are {list_versions(here)}; install the same"
            )


def within(limit_s: float, call: Callable[[], T], failure: str) -> T:
    """The result of `call`, or `Unavailable` after `limit_s`: Dask's own time limits do not cover a silent TLS peer.

    The call runs in a daemon thread, which a call that never returns leaves behind.
    """
    answer: list[T] = []
    problem: list[Exception] = []

    def ask() -> None:
        try:
            answer.append(call())
        except Exception as error:
            problem.append(error)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(limit_s)
    if answer:
        return answer[0]
    why = " ".join(str(problem[0]).split()) if problem else f"no answer in {limit_s:g} s"
    if problem and (told := blame(problem[0])):
        raise told
    # A client that could not connect closes itself when it is collected; that must not happen inside Dask's own locks.
    problem.clear()
    gc.collect()
    raise Unavailable(f"{failure}: {why}")
