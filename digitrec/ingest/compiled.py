"""`@compiled`: Numba without the GIL, its machine code kept for the next process.

Numba looks only at a function's own file to tell whether its cached code is stale, but a kernel inlines functions and
constants of other files. So the cache folder carries a digest of all of them. It lies beside the sources, or, where
they cannot be written (a container's read-only root), in the user's cache, or in a temporary folder.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

HERE = Path(__file__).parent
SOURCES = ("../contract.py", "compiled.py", "dialect.py", "rejects.py", "fields.py", "simd.py", "pixels.py")


def compiled(function: F) -> F:
    """Compile `function` on its first call, or load it if some process has compiled it before."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, cache_folder()
    try:
        return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
    finally:
        numba.config.CACHE_DIR = before


@lru_cache
def cache_folder() -> str:
    """The first folder for machine code that can be written."""
    name = "digitrec-" + hashlib.sha256(b"".join((HERE / path).read_bytes() for path in SOURCES)).hexdigest()[:12]
    for base in candidates():
        folder = base / name
        if is_ours(folder):
            return str(folder)
    return tempfile.mkdtemp(prefix="digitrec-")


def candidates() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    yield HERE / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    yield Path(tempfile.gettempdir()) / f"digitrec-{os.getuid()}"


def is_ours(folder: Path) -> bool:
    """True if `folder` exists now, and can be written by us and by nobody else we do not trust.

    What lies in it is run: a folder that another user planted in a shared place must not be believed.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):
        return False
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in {os.getuid(), 0} and not others_write and os.access(folder, os.W_OK)
