"""Where libraries keep their caches: below one folder of this user's, instead of in several places of the home folder
and of the temporary one."""

import os
from contextlib import suppress
from pathlib import Path

FOLDERS = {"MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "torchinductor"}


def gather_caches() -> None:
    """Name the folders to libraries that are imported later, unless the environment does, or none can be made."""
    with suppress(OSError, RuntimeError):
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "digitrec"
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            for variable, name in FOLDERS.items():
                os.environ.setdefault(variable, str(base / name))
