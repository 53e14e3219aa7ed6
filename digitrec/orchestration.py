"""How Prefect's server is seen from here, for `digitrec doctor`. Asked over HTTP: the library never imports prefect."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

from digitrec.addresses import API_FORM, check_api_url, mask_user, proxy_for
from digitrec.errors import DigitrecError, Misconfigured, Unavailable
from digitrec.findings import Finding
from digitrec.foreign import given_for, where_set
from digitrec.settings import Settings
from digitrec.storage import is_relative

TIMEOUT_S = 3.0
POOL = "digitrec"
DEPLOYMENTS = {"ingest/default", "train/default", "score/default", "score/nightly"}
"""What deployments/prefect.yaml has; a test compares."""


def check_prefect(settings: Settings) -> Iterator[Finding]:
    """Profile, server, versions, pool, worker, deployments, in the order in which one needs the other."""
    url = setting("PREFECT_API_URL")
    if not url:
        yield Finding("prefect", "no PREFECT_API_URL: flows start a server of their own, for one run")
        return
    if problem := explain_unreachable(url):
        yield Finding("prefect", problem.found, problem.todo)
        return
    yield Finding("prefect", f"{mask_user(url)} answers")
    yield fitting(str(ask(url, "/admin/version")))
    yield pool_finding(url)
    yield deployments_finding(url)
    if is_relative(settings.store):
        found = f"{settings.store!r} is no absolute path"
        yield Finding("DIGITREC_STORE", found, "export it: deployed runs start in other folders")


def setting(name: str) -> str | None:
    """A setting of Prefect: from the environment, else from its files. Raises `Misconfigured` if one is unreadable."""
    return next((given.value for given in given_for("prefect") if given.name == name), None)


@dataclass(frozen=True)
class Unreachable:
    """Why a server does not serve us, and what to do. `kind`: the error that this is."""

    kind: type[DigitrecError]
    found: str
    todo: str

    def error(self) -> DigitrecError:
        return self.kind(f"{self.found}: {self.todo}")


def explain_unreachable(url: str) -> Unreachable | None:
    """Return why the server at `url`, named by `PREFECT_API_URL`, does not serve us; None if it does.

    The cause is tried, not guessed: without the proxy, and with `/api`.
    """
    named = f"the Prefect server at {mask_user(url)} (PREFECT_API_URL, {where_set('PREFECT_API_URL')})"
    try:
        check_api_url(url)
    except ValueError as error:
        return Unreachable(Misconfigured, f"{named} has no address", str(error))
    try:
        ask(url, "/admin/version")
        return None
    except (urllib.error.URLError, OSError, ValueError) as error:
        return _explain(url, named, error)


def _explain(url: str, named: str, error: Exception) -> Unreachable:
    proxy, longer = proxy_for(url), url.rstrip("/") + "/api"
    if proxy and _answers(url, direct=True):
        found = f"{named} is hidden by the proxy {mask_user(proxy)}"
        return Unreachable(Misconfigured, found, f"export NO_PROXY={urlsplit(url).hostname}")
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        return _refused(named, error.code)
    if "/api" not in urlsplit(url).path and _answers(longer):
        return Unreachable(Misconfigured, f"{named} has its REST interface elsewhere", f"set PREFECT_API_URL={longer}")
    through = f", asked through the proxy {mask_user(proxy)}," if proxy else ""
    todo = "start it with `prefect server start`, or unset PREFECT_API_URL to do without"
    return Unreachable(Unavailable, f"{named}{through} does not answer ({_words(error)})", todo)


def _refused(named: str, code: int) -> Unreachable:
    name = "PREFECT_API_AUTH_STRING"
    state = f"{name}, {where_set(name)}, is not the server's" if setting(name) else f"{name} is not set"
    todo = "export it as the server has it in PREFECT_SERVER_API_AUTH_STRING"
    return Unreachable(Misconfigured, f"{named} refuses us with {code}; {state}", todo)


def _words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return f"what answers is no Prefect server, whose address looks like {API_FORM}"
    return " ".join(str(getattr(error, "reason", error)).split())


def _answers(url: str, *, direct: bool = False) -> bool:
    try:
        return isinstance(ask(url, "/admin/version", direct=direct), str)
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)  # a server that wants to know who we are
    except (urllib.error.URLError, OSError, ValueError):
        return False


def ask(url: str, path: str, body: Any = None, *, direct: bool = False) -> Any:
    """The server's answer to a request of its REST interface, past any proxy if `direct`.

    Raises `URLError`, `OSError` or `ValueError`.
    """
    headers = {"Content-Type": "application/json"}
    if secret := setting("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers)
    proxy = None if direct else proxy_for(url)
    proxies = urllib.request.ProxyHandler({urlsplit(url).scheme: proxy} if proxy else {})
    with urllib.request.build_opener(proxies).open(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def fitting(served: str) -> Finding:
    """Server and client of the same minor version."""
    try:
        here = version("prefect")
    except PackageNotFoundError:
        here = "none"
    fits = served.split(".")[:2] == here.split(".")[:2]
    todo = "" if fits else "install the server's version with pip, or upgrade the server"
    return Finding("prefect versions", f"server {served}, here {here}", todo)


def pool_finding(url: str) -> Finding:
    """Whether the pool is there, and a worker is online in it."""
    start = f"prefect worker start --pool {POOL}"
    try:
        workers = ask(url, f"/work_pools/{POOL}/workers/filter", {})
    except urllib.error.HTTPError:
        create = f"prefect work-pool create {POOL} --type process, then {start}"
        return Finding("work pool", f"there is no pool {POOL}", create)
    online = [worker["name"] for worker in workers if worker["status"] == "ONLINE"]
    found = f"{POOL}: {len(online)} of {len(workers)} workers online"
    return Finding("work pool", found, "" if online else start)


def deployments_finding(url: str) -> Finding:
    """Whether what deployments/prefect.yaml has is deployed."""
    flows = {flow["id"]: flow["name"] for flow in ask(url, "/flows/filter", {})}
    there = {f"{flows.get(entry['flow_id'])}/{entry['name']}" for entry in ask(url, "/deployments/filter", {})}
    missing = sorted(DEPLOYMENTS - there)
    todo = "prefect --no-prompt deploy --prefect-file deployments/prefect.yaml --all" if missing else ""
    return Finding("deployments", f"missing: {', '.join(missing)}" if missing else "all there", todo)
