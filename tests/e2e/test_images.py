"""deployments/compose.yaml and Dockerfile, as far as they can be judged without a Docker engine."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.topology import DEPLOYMENTS, ROOT

COMPOSE, DOCKERFILE = DEPLOYMENTS.with_name("compose.yaml"), DEPLOYMENTS.with_name("Dockerfile")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def has_compose() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


def check(*command: str, **variables: str) -> None:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not has_compose(), reason="no `docker compose` here")
def test_compose_takes_the_file() -> None:
    """`docker compose config` finds nothing to complain about."""
    check("docker", "compose", "--file", str(COMPOSE), "config", "--quiet", PREFECT_AUTH="a:b")


@pytest.mark.skipif(not shutil.which("hadolint"), reason="no `hadolint` here")
def test_hadolint_takes_the_dockerfile() -> None:
    """hadolint finds nothing to complain about."""
    check("hadolint", str(DOCKERFILE))


def test_only_the_ui_is_published_and_only_on_this_machine() -> None:
    """No port but the server's is opened, and that on the loopback; Dask shares the worker's network."""
    ports = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert ports == {"server": ["127.0.0.1:4200:4200"]}
    assert {services()[name]["network_mode"] for name in ("scheduler", "dask-worker")} == {"service:worker"}


def test_leases_and_database_outlive_their_containers() -> None:
    """PostgreSQL's data, Prefect's leases and the store lie in volumes."""
    server = services()["server"]
    assert server["environment"]["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")
    mounted = {volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])}
    assert mounted == set(yaml.safe_load(COMPOSE.read_text())["volumes"]) == {"database", "prefect", "store"}


def test_what_the_image_copies_is_there() -> None:
    """Each file or folder that the Dockerfile copies exists in the checkout."""
    lines = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ")]
    assert [name for names in lines for name in names if not (ROOT / Path(name)).exists()] == []
