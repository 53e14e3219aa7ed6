"""deployments/compose.yaml and Dockerfile, as far as they can be judged without a Docker engine."""

import os
import re
import shutil
import subprocess
import sys
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
    check("docker", "compose", "--file", str(COMPOSE), "config", "--quiet", PREFECT_AUTH="a:b", POSTGRES_PASSWORD="c")


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


def test_no_password_has_a_default() -> None:
    """Compose refuses to start without each of them: whoever forgets one must not get one that everybody knows."""
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|AUTH)\w*)([^}]*)\}", COMPOSE.read_text())
    assert {name for name, _ in secrets} == {"POSTGRES_PASSWORD", "PREFECT_AUTH"}
    assert [default for _, default in secrets if not default.startswith(":?")] == []
    written = [line for line in COMPOSE.read_text().splitlines() if re.match(r"\s*\w*(PASSWORD|AUTH)\w*: *[^$ ]", line)]
    assert written == []


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the image has Python 3.11")
def test_the_image_holds_what_runs_and_nothing_else() -> None:
    """Its pins are those of constraints.txt that digitrec requires; no tool of tests, benches or development."""
    lock = (ROOT / "deployments/requirements.txt").read_text()
    done = subprocess.run([sys.executable, ROOT / ".ci/lock-runtime"], capture_output=True, text=True, check=True)
    assert lock == done.stdout
    names = {line.partition("==")[0].lower() for line in lock.splitlines()}
    assert {"prefect", "torch", "onnxruntime", "distributed"} <= names
    assert names.isdisjoint(
        {"pytest", "hypothesis", "mypy", "ruff", "ray", "duckdb", "polars", "scikit-learn", "scipy"}
    )
    installs = [line for line in DOCKERFILE.read_text().splitlines() if "pip install" in line]
    assert [line for line in installs if "--no-deps" not in line] == []
    assert "constraints.txt" not in DOCKERFILE.read_text()


def test_torch_comes_from_where_its_cpu_builds_are() -> None:
    """The index is asked for; the build stops without it, instead of taking CUDA along."""
    text = DOCKERFILE.read_text()
    assert "${TORCH_INDEX:?" in text
    assert text.index('--index-url "$TORCH_INDEX"') < text.index("--requirement requirements.txt")


def test_what_the_image_copies_is_there() -> None:
    """Each file or folder that the Dockerfile copies exists in the checkout."""
    lines = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ")]
    assert [name for names in lines for name in names if not (ROOT / Path(name)).exists()] == []
