"""What lies in `landing/`: its files with the options of their folders, and which of them may still be under way.

Whoever may drop files there is a stranger. No link is followed, nothing but a regular file is opened, and a folder that
is renamed or removed while it is listed is no error.
"""

import io
import os
import stat
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from digitrec.errors import DigitrecError, StorageFailed, explain
from digitrec.ingest.csv import NO_LINKS, kind_of, open_regular, open_unlinked, reading
from digitrec.options import IngestOptions
from digitrec.shown import printable

OPTIONS_FILE = ".digitrec.toml"
FOLDER_OPTIONS = ("no_header", "label", "key", "pixel_max")
"""What a folder may say of its files. Nothing that loosens a check."""
OPTIONS_MAX_BYTES = 1 << 16

UPLOADS = (".part", ".partial", ".tmp", ".crdownload", ".download", ".filepart", "~", ".swp")
"""How browsers, WinSCP, rclone and editors name what they have not finished."""

QUIET_S = 60
ZIP_END_BYTES = 22
TAIL_BYTES = ZIP_END_BYTES + 0xFFFF
"""A zip ends with a record of 22 bytes and a comment, whose length the last two of them say."""
ENDLESS = "it ends neither in a newline nor as a whole archive does: its upload may be under way"


@dataclass(frozen=True)
class NotTaken:
    """A file of landing/ (path relative to it) that is no dataset, or not yet, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class FolderOptions:
    """How the files of a folder are read; `problem` says what is wrong with its `.digitrec.toml`, if anything is."""

    options: IngestOptions = IngestOptions()
    problem: str = ""


@dataclass(frozen=True)
class Landed:
    """A regular file of landing/: its path relative to it, what tells whether it was touched, and its folder's options.

    `state` is size, mtime (ns), ctime (ns), inode and device.
    """

    path: str
    state: tuple[int, ...]
    options: IngestOptions

    @property
    def size(self) -> int:
        return self.state[0]

    @property
    def lasting_state(self) -> list[int]:
        """`state` as far as it outlasts a restart of the machine, which may number devices anew."""
        return list(self.state[:-1])


@dataclass
class Listing:
    """What lies in landing/. `uploads`: how many files and folders were left alone, being under way by their names."""

    files: list[Landed] = field(default_factory=list)
    refused: list[NotTaken] = field(default_factory=list)
    uploads: int = 0

    def refuse(self, path: str, reason: str) -> None:
        self.refused.append(NotTaken(printable(path), reason))


def list_landing(base: str) -> Listing:
    """List the files below `base`, in the order of their paths. What cannot be read, or is no file, is refused.

    Raises `StorageFailed` if `base` itself cannot be read; one that is not there is empty.
    """
    found = Listing()
    pending = [("", FolderOptions())]
    while pending:
        pending += _list_folder(base, *pending.pop(), found)
    found.files.sort(key=lambda file: file.path)
    return found


def _list_folder(
    base: str, folder: str, inherited: FolderOptions, found: Listing
) -> Iterable[tuple[str, FolderOptions]]:
    """Add what lies in a folder (path relative to `base`) to `found`; return the folders in it, with their options."""
    try:
        descriptor = open_unlinked(f"{base}/{folder}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(descriptor) as listed:
                entries = list(listed)
            options = _read_options(base, folder, entries, found) or inherited
            return [(path, options) for entry in entries if (path := _add(entry, folder, options, found))]
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return []  # its sender has renamed or removed it
    except OSError as error:
        if not folder:
            raise StorageFailed(explain(error, "read")) from error
        found.refuse(folder, error.strerror or str(error))
        return []


def _add(entry: "os.DirEntry[str]", folder: str, options: FolderOptions, found: Listing) -> str:
    """Add a file to `found`, or say why it is none; return the path if it is a folder, else ""."""
    path = f"{folder}/{entry.name}" if folder else entry.name
    if entry.name == OPTIONS_FILE:
        return ""
    if entry.name.startswith(".") or entry.name.lower().endswith(UPLOADS):
        found.uploads += 1
        return ""
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return ""
    except OSError as error:
        found.refuse(path, error.strerror or str(error))
        return ""
    if stat.S_ISDIR(status.st_mode):
        return path
    problem = _no_source(path, status) or options.problem
    if problem:
        found.refuse(path, problem)
    else:
        found.files.append(Landed(path, state_of(status), options.options))
    return ""


def _no_source(path: str, status: os.stat_result) -> str:
    """Why what lies there is never opened; "" for a regular file of one name."""
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink > 1):
        return NO_LINKS
    if kind := kind_of(status.st_mode):
        return f"it is {kind}; expected a file"
    return "" if os.fsencode(path).decode("utf-8", "replace") == path else "its name is not UTF-8 text; rename it"


def _read_options(
    base: str, folder: str, entries: Sequence["os.DirEntry[str]"], found: Listing
) -> FolderOptions | None:
    """What the folder's own `.digitrec.toml` says, or None if it has none. One that is wrong is itself refused."""
    if all(entry.name != OPTIONS_FILE for entry in entries):
        return None
    path = f"{folder}/{OPTIONS_FILE}" if folder else OPTIONS_FILE
    full = Path(f"{base}/{path}")
    try:
        with open_regular(full, follow_links=False) as file, reading(full):
            data = file.read(OPTIONS_MAX_BYTES + 1) or b""
        return FolderOptions(parse_options(data))
    except (DigitrecError, ValueError) as error:
        found.refuse(path, str(error))
        return FolderOptions(problem=f"{printable(path)}: {error}")


def parse_options(data: bytes) -> IngestOptions:
    """The options that a `.digitrec.toml` holds. Raises `ValueError`, naming the key."""
    if len(data) > OPTIONS_MAX_BYTES:
        raise ValueError(f"it is longer than {OPTIONS_MAX_BYTES:,} bytes; expected a few lines")
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no TOML: {error}") from error
    for key in values:
        if key not in FOLDER_OPTIONS:
            raise ValueError(f"a folder has no option {key[:40]!r}; expected only {', '.join(FOLDER_OPTIONS)}")
    try:
        return IngestOptions.model_validate(values, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{key} = {first['input']!r:.40}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def state_of(status: os.stat_result) -> tuple[int, ...]:
    """What tells whether a file was touched. Its size and mtime alone do not: `rsync -t` and `cp -p` set the latter."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def reason_to_wait(file: Landed) -> str:
    """Why the file's time alone says that it may not be whole, or ""."""
    age_s = (time.time_ns() - file.state[1]) / 1e9
    if age_s < 0:
        return "its time lies in the future: its sender's clock is ahead"
    return f"it was touched in the last {QUIET_S} s" if age_s < QUIET_S else ""


def proves_its_end(file: io.FileIO, size: int) -> bool:
    """True if the file ends in a newline, or its content says where it ends and that is here.

    A stream of gzip, zstd or bzip2 has no mark at its end; but who reads it notices where it is cut short.
    """
    start = os.pread(file.fileno(), 512, 0)
    tail = os.pread(file.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES))
    if start.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh")):
        return True
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        end = tail[tail.rfind(b"PK\x05\x06") :]
        return len(end) == ZIP_END_BYTES + int.from_bytes(end[20:22], "little")
    if start.startswith(b"\xfd7zXZ\x00"):
        return tail.endswith(b"YZ")
    if start.startswith(b"PAR1"):
        return tail.endswith(b"PAR1") and size > len(b"PAR1")
    if start[257:262] == b"ustar":
        return not any(tail[-1024:])
    return tail.endswith(b"\n")
