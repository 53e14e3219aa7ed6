"""The packages that decide what a part looks like: noted with each run, and compared with every worker's."""

import importlib.metadata
from functools import cache

COMPARED = ("digitrec", "dask", "distributed", "torch", "onnxruntime", "numpy", "pyarrow")
"""Packages whose versions must be the same here and on every worker of an outside cluster."""


def installed_versions() -> dict[str, str]:
    """Return the versions of `COMPARED`; asked of their metadata, nothing is imported."""
    return {package: _installed_version(package) for package in COMPARED}


def list_versions(versions: dict[str, str]) -> str:
    """Return versions in words, for a message."""
    return ", ".join(f"{package} {version}" for package, version in versions.items())


@cache
def _installed_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
