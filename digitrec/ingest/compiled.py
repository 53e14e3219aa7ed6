"""`@compiled`: Numba without the GIL, its machine code kept for the next process.

Numba looks only at a function's own file to tell whether its cached code is stale, but a kernel inlines functions and
constants of other files. So the cache folder carries a digest of all of them. It lies beside the sources, or, where
they cannot be written (a container's read-only root), in the user's cache, or in a temporary folder. Wherever it lies,
nobody else can write it: what is found there is run.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

import numba

from digitrec.caches import user_cache
from digitrec.errors import Misconfigured
from digitrec.private import make_private, private_temporary

F = TypeVar("F", bound=Callable[..., object])

HERE = Path(__file__).parent
SOURCES = ("../contract.py", "compiled.py", "dialect.py", "rejects.py", "fields.py", "simd.py", "pixels.py")


def compiled(function: F) -> F:
    """Compile `function` on its first call, or load it if some process has compiled it before.

    Raises `Misconfigured` where compiling is turned off: the kernel is not Python.
    """
    if numba.config.DISABLE_JIT:
        raise Misconfigured(f"NUMBA_DISABLE_JIT is {os.environ.get('NUMBA_DISABLE_JIT')!r}: reading CSV needs it unset")
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, cache_folder()
    try:
        return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
    finally:
        numba.config.CACHE_DIR = before


@lru_cache
def cache_folder() -> str:
    """Return the first folder for machine code that we can write, and nobody else."""
    name = "digitrec-" + hashlib.sha256(b"".join((HERE / path).read_bytes() for path in SOURCES)).hexdigest()[:12]
    found = (folder for base in candidates() if (folder := make_private(base.absolute() / name)))
    return str(next(found, None) or tempfile.mkdtemp(prefix="digitrec-"))


def candidates() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
    yield HERE / "__pycache__"
    with suppress(RuntimeError):  # without a home
        yield user_cache()
    yield private_temporary()
