"""What lies in `landing/`: its files with the options of their folders, and which of them may still be under way.

Whoever may drop files there is a stranger: no link is followed, and nothing but a regular file is opened.
"""

import time
import tomllib
from dataclasses import dataclass, field

from pydantic import ValidationError

from digitrec.catalog.store import Store
from digitrec.errors import DigitrecError
from digitrec.ingest.containers import read_up_to
from digitrec.ingest.origins import BinaryFile, landed_object, reading
from digitrec.options import IngestOptions
from digitrec.shown import printable
from digitrec.storage import Stat

LANDING = "landing"
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
    """A regular file of landing/: its path relative to it, what is known of it, and its folder's options."""

    path: str
    stat: Stat
    options: IngestOptions

    @property
    def key(self) -> str:
        return f"{LANDING}/{self.path}"


@dataclass
class Listing:
    """What lies in landing/. `uploads`: how many files and folders were left alone, being under way by their names."""

    files: list[Landed] = field(default_factory=list)
    refused: list[NotTaken] = field(default_factory=list)
    uploads: int = 0

    def refuse(self, path: str, reason: str) -> None:
        self.refused.append(NotTaken(printable(path), reason))


def list_landing(store: Store) -> Listing:
    """List the files of landing/, in the order of their paths. What cannot be read, or is no file, is refused.

    Raises `StorageFailed` or `Misconfigured` if landing/ itself cannot be read; one that is not there is empty.
    """
    found, walked = Listing(), {}
    for entry in store.storage.walk(LANDING, lambda name: not _is_upload(name)):
        path = entry.key.removeprefix(f"{LANDING}/").removesuffix("/")
        if _is_upload(_name_of(path)) and _name_of(path) != OPTIONS_FILE:
            found.uploads += 1
        else:
            walked[path] = entry
    said = {path: walked.pop(path) for path in sorted(walked) if _name_of(path) == OPTIONS_FILE}
    options = {_folder_of(path): _read_options(store, path, found) for path in said}
    for path, entry in sorted(walked.items()):
        nearest = _find_nearest(options, path)
        if entry.stat is None or entry.problem or nearest.problem:
            found.refuse(path, entry.problem or nearest.problem)
        else:
            found.files.append(Landed(path, entry.stat, nearest.options))
    return found


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _is_upload(name: str) -> bool:
    """Whether a file or folder is under way by its name."""
    return name.startswith(".") or name.lower().endswith(UPLOADS)


def _find_nearest(options: dict[str, FolderOptions], path: str) -> FolderOptions:
    """The options of the nearest folder above a file that has some."""
    while path:
        path = _folder_of(path)
        if path in options:
            return options[path]
    return FolderOptions()


def _read_options(store: Store, path: str, found: Listing) -> FolderOptions:
    """What a `.digitrec.toml` says. One that is wrong is itself refused."""
    try:
        origin = landed_object(store, f"{LANDING}/{path}")
        file, _ = origin.open()
        with file, reading(origin.where):
            data = read_up_to(file, OPTIONS_MAX_BYTES + 1)
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


def reason_to_wait(file: Landed) -> str:
    """Why the file's time alone says that it may not be whole, or ""."""
    age_s = time.time() - file.stat.modified_s
    if age_s < 0:
        return "its time lies in the future: its sender's clock is ahead"
    return f"it was touched in the last {QUIET_S} s" if age_s < QUIET_S else ""


def proves_its_end(file: BinaryFile, size: int) -> bool:
    """True if the file ends in a newline, or its content says where it ends and that is here; leaves it at its
    beginning.

    A stream of gzip, zstd or bzip2 has no mark at its end; but who reads it notices where it is cut short.
    """
    start = read_up_to(file, 512)
    file.seek(max(0, size - TAIL_BYTES))
    tail = read_up_to(file, TAIL_BYTES)
    file.seek(0)
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
