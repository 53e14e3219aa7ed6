"""Folders that nobody else can write, for what is run or believed when it is found there again."""

import getpass
import os
import stat
import tempfile
from functools import cache
from pathlib import Path


def is_private(folder: Path) -> bool:
    """Return whether only this user and root can change what is found under `folder`, an absolute path without links.

    Whoever may write a folder above can put another one in its place, however well this one is guarded. In a sticky
    folder such as /tmp only the owner of an entry can do that.
    """
    trusted = {os.getuid(), 0}
    for place in (folder, *folder.parents):
        try:
            status = place.lstat()
        except OSError:
            return False
        others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        guarded = place != folder and status.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in trusted or (others_write and not guarded):
            return False
    return True


def make_private(folder: Path) -> Path | None:
    """Make `folder` unless it is there, and return its real path if it can be written by us and nobody else.

    Whatever is missing above it is made for this user alone too, whatever the umask. The path that is returned has no
    links in it: one could point elsewhere after it was looked at.
    """
    try:
        for missing in reversed([place for place in (folder, *folder.parents) if not place.is_dir()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        real = folder.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return real if is_private(real) and os.access(real, os.W_OK) else None


@cache
def private_temporary() -> Path:
    """Return a folder of this user below the temporary one: the same in the next process, or else a fresh one."""
    lasting = make_private(Path(tempfile.gettempdir()).absolute() / f"digitrec-{os.getuid()}")
    return lasting or Path(tempfile.mkdtemp(prefix="digitrec-"))


def provide_home() -> None:
    """Give this process and its children a home and a name if it has none, as a container's arbitrary user id.

    Libraries ask for both when they are imported: for a cache, for settings, for the owner of a temporary file. Prefect
    writes into its home when it is imported; a home that we cannot write stays ours for what is read there.
    """
    home = _home()
    if home is None:
        os.environ["HOME"] = str(private_temporary())
    elif not os.access(home, os.W_OK) and not (home / ".prefect").exists() and not os.environ.get("PREFECT_HOME"):
        os.environ["PREFECT_HOME"] = str(private_temporary() / "prefect")
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"


def _home() -> Path | None:
    """This user's home, if there is one to be entered."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if os.access(home, os.X_OK) else None
