"""Where libraries keep their caches: below one folder of this user's, instead of in several places of the home folder
and of the temporary one."""

import os
from contextlib import suppress
from pathlib import Path

from digitrec.private import make_private, private_temporary

FOLDERS = {"MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "torchinductor"}


def gather_caches() -> None:
    """Name the folders to libraries that are imported later, unless the environment does."""
    base = None
    with suppress(RuntimeError):  # without a home
        base = make_private(user_cache() / "digitrec")
    base = base or private_temporary()
    for variable, name in FOLDERS.items():
        os.environ.setdefault(variable, str(base / name))


def user_cache() -> Path:
    """Return this user's folder for caches. Raises `RuntimeError` without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()
