"""Names to paths. Every path below a store is made here, and every name is checked here.

A path is a name, never a pattern: nothing here or elsewhere expands `[`, `*` or `?` in one.
"""

import re
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from digitrec.errors import Misconfigured, UsageError, storage_errors

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MANIFEST = "manifest.json"
NAME_DIGITS = 16
STEM_MAX = 64 - 1 - NAME_DIGITS
URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def check_name(name: str, what: str = "dataset") -> str:
    """Return `name` if it may name a folder, else raise `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no {what} name: expected 1 to 64 of a-z 0-9 _ -, the first a letter or digit")
    return name


def name_from(stem: str, digest: str) -> str:
    """Return the name of what was given none: a stem (cut to 47, what a name cannot hold replaced), then 16 digits of
    the digest of its request. With 16 digits, a million names of one stem collide once in 37 million stores.
    """
    clean = re.sub(r"[^a-z0-9_-]", "-", stem.lower())[:STEM_MAX].lstrip("_-") or "data"
    return check_name(f"{clean}-{digest[:NAME_DIGITS]}")


@dataclass(frozen=True)
class Store:
    """A root under which everything lies, as an absolute path. Small, hashable, and pickles to a worker.

    Paths handed in and out are store-relative and use `/`; `full` makes them absolute.
    """

    url: str

    @classmethod
    def at(cls, location: str | Path) -> "Store":
        """Return the store at a folder or `file://` URL; a relative folder is taken from the working directory.

        Raises `Misconfigured` for any other URL, or one whose path is not absolute.
        """
        text = str(location)
        scheme = URL.match(text)
        if scheme is None:
            return cls(str(Path(text).expanduser().absolute()))
        if scheme[1].lower() != "file":
            raise Misconfigured(f"--store {text}: {scheme[1]} stores are not supported yet; expected a local folder")
        parts = urlsplit(text.replace("?", "%3F").replace("#", "%23"))
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise Misconfigured(f"--store {text}: a file:// URL needs an absolute path, as in file:///data/store")
        return cls(str(Path(unquote(parts.path))))

    def read(self, relative: str) -> bytes:
        """Return a whole file. Raises `FileNotFoundError`, or another `OSError`."""
        return Path(self.full(relative)).read_bytes()

    def names(self, relative: str) -> list[str]:
        """Return the names in a folder, sorted; none if there is no such folder. Raises `StorageFailed`."""
        with storage_errors("list", self.full(relative)):
            try:
                return sorted(entry.name for entry in Path(self.full(relative)).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def full(self, relative: str) -> str:
        return f"{self.url}/{relative}" if relative else self.url

    def relative(self, full: str | Path) -> str:
        """Return the store-relative form of a path below this store. Raises `UsageError` for one that is not."""
        try:
            return Path(full).absolute().relative_to(self.url).as_posix()
        except ValueError as error:
            raise UsageError(f"{full} does not lie in the store {self.url}") from error

    def exists(self, relative: str) -> bool:
        """Whether something is there. Raises `StorageFailed` if that cannot be said: absence is only what the file
        system says is absent.
        """
        with storage_errors("look at", self.full(relative)):
            try:
                Path(self.full(relative)).stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True


def dataset_folder(name: str) -> str:
    return f"datasets/{check_name(name)}"


def model_folder(version: str) -> str:
    return f"models/{check_name(version, 'model version')}"


def predictions_folder(dataset: str, version: str, variant: str) -> str:
    check_name(dataset)
    check_name(version, "model version")
    return f"predictions/{dataset}/{version}.{check_name(variant, 'variant')}"


def champion_folder() -> str:
    return "models/champion"


def landed_path(digest: str) -> str:
    return f"landed/{digest}.json"


def staging_folder() -> str:
    """A fresh folder nobody else uses; swept once it is a day old."""
    return f"_staging/{uuid.uuid4().hex}"


def training_folder(version: str) -> str:
    """Where a training keeps its checkpoints until it is sealed, so that `--resume VERSION` finds them."""
    return f"_training/{check_name(version, 'model version')}"


def logs_folder(version: str) -> str:
    """What a training's loggers write while it runs, a folder for each start. Nothing reads it back."""
    return f"logs/{check_name(version, 'model version')}"


def manifest_path(folder: str) -> str:
    return f"{folder}/{MANIFEST}"


def digest_name(prefix: str, index: int, digest: str, suffix: str = "parquet") -> str:
    """`shard-00000-<12 hex>.parquet`: a data file carries its own digest, so that no two contents share a name."""
    return f"{prefix}-{index:05d}-{digest[:12]}.{suffix}"


def parent(path: str) -> str:
    return str(PurePosixPath(path).parent)
