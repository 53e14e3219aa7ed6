"""Names to paths. Every path below a store is made here, and every name is checked here."""

import re
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from digitrec.errors import Misconfigured, UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MANIFEST = "manifest.json"


def check_name(name: str, what: str = "dataset") -> str:
    """Return `name` if it may name a folder, else raise `UsageError`."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no {what} name: expected 1 to 64 of a-z 0-9 _ -, the first a letter or digit")
    return name


def name_from(stem: str, digest: str) -> str:
    """Name of what was given none: a stem (cut to 47, other characters replaced) and 16 digits of its request."""
    clean = re.sub(r"[^a-z0-9_-]", "-", stem.lower())[:47].lstrip("_-") or "data"
    return check_name(f"{clean}-{digest[:16]}")


@dataclass(frozen=True)
class Store:
    """A root under which everything lies, as an absolute URL. Small, hashable, and pickles to a worker.

    Paths handed in and out are store-relative and use `/`; `full` makes them absolute.
    """

    url: str

    @classmethod
    def at(cls, location: str | Path) -> "Store":
        """The store at a folder or URL; a relative folder is taken from the working directory."""
        text = str(location)
        if "://" not in text:
            return cls(str(Path(text).expanduser().absolute()))
        if text.startswith("file://"):
            return cls(str(Path(text.removeprefix("file://"))))
        protocol = text.split("://")[0]
        raise Misconfigured(f"--store {text}: {protocol} stores are not supported yet; expected a local folder")

    @cached_property
    def fs(self) -> LocalFileSystem:
        """Listings and small files are read through fsspec, so that an object store can follow. What is committed, and
        shards, which are memory-mapped, are local files so far."""
        return fsspec.filesystem("file")

    def read(self, relative: str) -> bytes:
        """A whole file. Raises `FileNotFoundError`, or another `OSError`."""
        data: bytes = self.fs.cat_file(self.full(relative))
        return data

    def glob(self, pattern: str) -> list[str]:
        """Store-relative paths that match, in the order of their names."""
        return sorted(self.relative(found) for found in self.fs.glob(self.full(pattern)))

    def full(self, relative: str) -> str:
        return f"{self.url}/{relative}" if relative else self.url

    def relative(self, full: str | Path) -> str:
        """The store-relative form of a path below this store. Raises `UsageError` for one that is not."""
        try:
            return Path(full).absolute().relative_to(self.url).as_posix()
        except ValueError as error:
            raise UsageError(f"{full} does not lie in the store {self.url}") from error

    def exists(self, relative: str) -> bool:
        return bool(self.fs.exists(self.full(relative)))


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
