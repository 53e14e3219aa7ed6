"""How Prefect's server is seen from here, for `digitrec doctor`. Asked over HTTP: the library never imports prefect."""

import base64
import json
import os
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from digitrec.findings import Finding

TIMEOUT_S = 3.0
POOL = "digitrec"
DEPLOYMENTS = {"ingest/default", "train/default", "score/default", "score/nightly"}
"""What deployments/prefect.yaml has; a test compares."""


def check_prefect() -> Iterator[Finding]:
    """Profile, server, versions, pool, worker, deployments, in the order in which one needs the other."""
    url = setting("PREFECT_API_URL")
    if not url:
        yield Finding("prefect", "no PREFECT_API_URL: flows start a server of their own, for one run")
        return
    try:
        served = str(ask(url, "/admin/version"))
    except (urllib.error.URLError, OSError, ValueError) as error:
        yield unreachable(url, error)
        return
    yield Finding("prefect", f"{url} answers")
    yield fitting(served)
    yield pool_finding(url)
    yield deployments_finding(url)
    store = os.environ.get("DIGITREC_STORE", "")
    if not Path(store).is_absolute():
        yield Finding(
            "DIGITREC_STORE", f"{store!r} is no absolute path", "export it: deployed runs start in other folders"
        )


def setting(name: str) -> str | None:
    """A setting of Prefect: from the environment, else from the active profile."""
    return os.environ.get(name) or active_profile().get(name)


def active_profile() -> dict[str, str]:
    """The settings of Prefect's active profile; none if there is no file of profiles."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    try:
        profiles = tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
    found: dict[str, str] = profiles.get("profiles", {}).get(active, {})
    return found


def ask(url: str, path: str, body: Any = None) -> Any:
    """The server's answer to a request of its REST interface. Raises `URLError`, `OSError` or `ValueError`."""
    headers = {"Content-Type": "application/json"}
    if secret := setting("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


def unreachable(url: str, error: Exception) -> Finding:
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        return Finding("prefect", f"{url} refuses us", "export PREFECT_API_AUTH_STRING, as the server has it")
    return Finding("prefect", f"{url}: {error}", "prefect server start, or unset PREFECT_API_URL")


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
