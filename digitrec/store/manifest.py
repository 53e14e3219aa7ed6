"""Manifests: what a dataset, a model version or a set of predictions consists of, byte for byte.

No manifest, no dataset: readers follow manifests only, never a listing. A manifest holds nothing that differs between
two runs of the same request, and its own digest, so that a flipped bit in it is found like any other.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from digitrec.contract import FORMAT, ids_digest
from digitrec.errors import AlreadyPublished, Corrupt, NoInput, OtherFormat, storage_errors
from digitrec.store.commit import put_if_absent, sha256_of
from digitrec.store.layout import Store, manifest_path

Json = Any
"""What `json.dumps` takes: dict, list, str, int, float, bool, None."""

Kind = Literal["dataset", "model", "predictions"]


@dataclass(frozen=True)
class RowGroup:
    """A run of rows inside a shard, as Parquet stores it; `ids` is `contract.ids_digest` of its image_ids."""

    rows: int
    first_id: int
    last_id: int
    ids: str

    @classmethod
    def of(cls, image_ids: np.ndarray) -> "RowGroup":
        """What a manifest says of a run of `image_id`s (int64 [n], n > 0, in order)."""
        return cls(len(image_ids), int(image_ids[0]), int(image_ids[-1]), ids_digest(image_ids))


@dataclass(frozen=True)
class File:
    """One file of a manifest. `path` is store-relative; `rows` is 0 for files without rows."""

    path: str
    rows: int
    bytes: int
    sha256: str
    row_groups: tuple[RowGroup, ...] = ()


@dataclass(frozen=True)
class Source:
    """One input file as it lay there: its name (no folders), bytes and SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`asked` is the request in plain words; `facts` what readers need to know (labelled, reject counts, …)."""

    kind: Kind
    name: str
    asked: dict[str, Json]
    files: tuple[File, ...]
    sources: tuple[Source, ...] = ()
    facts: dict[str, Json] = field(default_factory=dict)

    # Digests are asked for again and again, and nothing in a manifest changes.

    @cached_property
    def request(self) -> str:
        """Digest of what was asked for: two runs with one request are the same work."""
        return digest_of(self.asked)

    @cached_property
    def rows(self) -> int:
        """Rows of the shards or parts (files with other rows, such as rejects, are not counted)."""
        return sum(file.rows for file in self.data_files)

    @cached_property
    def data_files(self) -> tuple[File, ...]:
        """The shards or parts, in order."""
        return tuple(file for file in self.files if Path(file.path).name.startswith(("shard-", "part-")))

    @cached_property
    def digest(self) -> str:
        """Digest of the whole manifest: the state of the dataset, model or predictions it describes."""
        return digest_of(self.body())

    def body(self) -> dict[str, Json]:
        return {"format": FORMAT, "request": self.request} | asdict(self)

    def to_bytes(self) -> bytes:
        return (canonical(self.body() | {"digest": self.digest}, indent=1) + "\n").encode()

    def file(self, name: str) -> File:
        """The file called `name` (without folders). Raises `Corrupt` if the manifest names none."""
        for file in self.files:
            if Path(file.path).name == name:
                return file
        raise Corrupt(f"the manifest of {self.kind} {self.name} names no {name}")


def canonical(value: Json, indent: int | None = None) -> str:
    """JSON with sorted keys: the same value, the same text."""
    return json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def digest_of(value: Json) -> str:
    """SHA-256 of a JSON value's canonical text, hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def describe(store: Store, path: str, *, rows: int = 0, row_groups: tuple[RowGroup, ...] = ()) -> File:
    """The `File` of what lies at a store-relative path: bytes and digest are read from it."""
    full = Path(store.full(path))
    with storage_errors("read", full):
        return File(path, rows, full.stat().st_size, sha256_of(full), row_groups)


def publish(store: Store, folder: str, manifest: Manifest) -> bool:
    """Make everything `manifest` names visible at `folder`, once. False: the same request was published before.

    Raises `AlreadyPublished` if another request stands there.
    """
    path = manifest_path(folder)
    if put_if_absent(store, path, manifest.to_bytes()):
        return True
    return not same_request(store, folder, manifest)


def same_request(store: Store, folder: str, manifest: Manifest) -> Literal[True]:
    """True if the manifest at `folder` answers the same request. Raises `AlreadyPublished` if it answers another."""
    there = read_manifest(store, folder)
    if there.request == manifest.request:
        return True
    raise AlreadyPublished(
        f"{store.full(folder)} already holds something else (request {there.request[:8]}, not {manifest.request[:8]}): "
        f"{difference(there.asked, manifest.asked)}; nothing was changed, choose another name"
    )


def difference(there: dict[str, Json], here: dict[str, Json]) -> str:
    """The first few options in which two requests differ, for a person."""
    names = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    return "different " + ", ".join(names[:3]) if names else "different"


def find_manifest(store: Store, folder: str) -> Manifest | None:
    """The manifest of a folder, or None if nothing is published there. Raises like `read_manifest`."""
    path = manifest_path(folder)
    with storage_errors("read", store.full(path)):
        try:
            data = store.read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
    return parse_manifest(data, store.full(path))


def read_manifest(store: Store, folder: str) -> Manifest:
    """The manifest of a folder. Raises `NoInput` if there is none, `Corrupt` if it is damaged,
    `OtherFormat` if a newer digitrec wrote it."""
    manifest = find_manifest(store, folder)
    if manifest is None:
        raise NoInput(f"nothing is published at {store.full(folder)}: expected a {manifest_path('')[1:]} there")
    return manifest


def check_format(found: int, where: str | Path) -> None:
    """Raise `OtherFormat` if another version of digitrec wrote the JSON file `where`."""
    if found > FORMAT:
        raise OtherFormat(f"{where} has format {found}; this digitrec reads {FORMAT}: upgrade it")
    if found < FORMAT:
        raise OtherFormat(
            f"{where} has format {found}, of an older digitrec; this one reads {FORMAT}: make the store anew"
        )


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Check and rebuild a manifest from its bytes; `where` is named in errors."""
    try:
        body = json.loads(data)
        found_format, digest = int(body["format"]), body.pop("digest")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{where} is not a manifest of digitrec, or is damaged") from error
    check_format(found_format, where)
    if digest_of(body) != digest:
        raise Corrupt(f"{where} is damaged: its digest does not fit; restore it, or remove its folder and run again")
    try:
        return Manifest(
            kind=body["kind"],
            name=body["name"],
            asked=body["asked"],
            files=tuple(file_from(entry) for entry in body["files"]),
            sources=tuple(Source(**entry) for entry in body["sources"]),
            facts=body["facts"],
        )
    except (KeyError, TypeError) as error:
        raise Corrupt(f"{where} lacks what a manifest of format {FORMAT} has: make it anew") from error


def file_from(entry: dict[str, Json]) -> File:
    groups = tuple(RowGroup(**group) for group in entry["row_groups"])
    return File(entry["path"], entry["rows"], entry["bytes"], entry["sha256"], groups)


def read_checked(store: Store, file: File) -> bytes:
    """The bytes of a file, which are the manifest's. Raises `Corrupt` if they are not, or not there."""
    full = store.full(file.path)
    with storage_errors("read", full):
        try:
            data = store.read(file.path)
        except FileNotFoundError as error:
            raise Corrupt(f"{full} is missing, though its manifest names it") from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise Corrupt(f"{full} is damaged: SHA-256 is not {file.sha256[:12]}…")
    return data


def check_file(store: Store, file: File) -> None:
    """Raise `Corrupt` unless the bytes of `file` are the ones its manifest names, `StorageFailed` if they cannot be
    read."""
    full = Path(store.full(file.path))
    with storage_errors("read", full):
        try:
            found = full.stat().st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Corrupt(f"{full} is missing, though its manifest names it") from error
        if found != file.bytes:
            raise Corrupt(f"{full} has {found} bytes, expected {file.bytes}")
        if sha256_of(full) != file.sha256:
            raise Corrupt(f"{full} is damaged: SHA-256 is not {file.sha256[:12]}…")
