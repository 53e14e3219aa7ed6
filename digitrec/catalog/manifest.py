"""Manifests: what a dataset, a model version or a set of predictions consists of, byte for byte.

No manifest, no dataset: readers follow manifests only, never a listing. Paths in it are relative to its folder and stay
inside. But for the time of publication it holds nothing that differs between two runs of the same request; and it holds
its own digests, so that a flipped bit in it is found like any other.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from pydantic import TypeAdapter

from digitrec.catalog.layout import (
    MANIFEST,
    dataset_folder,
    digest_name,
    manifest_path,
    model_folder,
    plain_name,
    predictions_folder,
)
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT, ids_digest
from digitrec.errors import Corrupt, NoInput, OldStore, OtherFormat, UsageError
from digitrec.storage import NotFound

Json = Any
"""What `json.dumps` takes: dict, list, str, int, float, bool, None."""

Kind = Literal["dataset", "model", "predictions"]

PATH = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
"""A path in a manifest: one name, or one folder and a name, neither of which can lead out of the manifest's folder."""
INLINE_MAX_BYTES = 1 << 18
"""A longer list of files, and longer details (of many sources), stand in a file of their own, so that a manifest stays
small enough for one quick put."""
FILES, DETAILS = "files", "details"


@dataclass(frozen=True)
class RowGroup:
    """A run of rows inside a shard, as Parquet stores it; `ids` is `contract.ids_digest` of its image_ids."""

    rows: int
    first_id: int
    last_id: int
    ids: str

    @classmethod
    def of(cls, image_ids: np.ndarray) -> "RowGroup":
        """Return what a manifest says of a run of `image_id`s (int64 [n], n > 0, in order)."""
        return cls(len(image_ids), int(image_ids[0]), int(image_ids[-1]), ids_digest(image_ids))


@dataclass(frozen=True)
class File:
    """One file of a manifest. `path` is relative to the manifest's folder; `rows` is 0 for files without rows."""

    path: str
    rows: int
    bytes: int
    sha256: str
    row_groups: tuple[RowGroup, ...] = ()

    @property
    def name(self) -> str:
        """The path without folder and digest, by which code asks for it: `weights.safetensors`."""
        return plain_name(self.path)


_FILES: TypeAdapter[tuple[File, ...]] = TypeAdapter(tuple[File, ...])


@dataclass(frozen=True)
class Source:
    """One input file as it lay there: its name (no folders), bytes and SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`asked` is the request in plain words; `facts` what readers need to know (labelled, reject counts, …).

    `published`: when it was put there, ISO 8601 in UTC; "" before. It is part of no digest that others refer to.
    `apart`: the paths of what stood apart where it was read, None before: a sweep must not depend on whether this code
    would write the same bytes once more.
    """

    kind: Kind
    name: str
    asked: dict[str, Json]
    files: tuple[File, ...]
    sources: tuple[Source, ...] = ()
    facts: dict[str, Json] = field(default_factory=dict)
    published: str = ""
    apart: frozenset[str] | None = field(default=None, compare=False)

    # Digests are asked for again and again, and nothing in a manifest changes.

    @cached_property
    def folder(self) -> str:
        """The key of the folder where it is published."""
        if self.kind == "predictions":
            dataset, _, how = self.name.partition("/")
            version, _, variant = how.partition(".")
            return predictions_folder(dataset, version, variant)
        return dataset_folder(self.name) if self.kind == "dataset" else model_folder(self.name)

    def key(self, file: File) -> str:
        """Return the key of one of its files."""
        return f"{self.folder}/{file.path}"

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
        return tuple(file for file in self.files if file.path.startswith(("shard-", "part-")))

    @cached_property
    def digest(self) -> str:
        """Digest of all but the time: the state of the dataset, model or predictions it describes."""
        return digest_of(self._body() | {"files": self._files_digest})

    @cached_property
    def paths(self) -> frozenset[str]:
        """The paths of all that belongs in its folder, the manifest and a list of files of its own too: a sweep keeps
        them."""
        apart = self._apart if self.apart is None else self.apart
        return frozenset((MANIFEST, *apart, *(file.path for file in self.files)))

    def file(self, name: str) -> File:
        """Return the file called `name` (without folder and digest). Raises `Corrupt` if the manifest names none."""
        for file in self.files:
            if file.name == name:
                return file
        raise Corrupt(f"the manifest of {self.kind} {self.name} names no {name}")

    def stamped(self) -> "Manifest":
        """Return the manifest with the present time as that of its publication."""
        return replace(self, published=datetime.now(UTC).isoformat(timespec="microseconds"))

    def to_objects(self) -> dict[str, bytes]:
        """Return what is written, by path: the list of files and the details if they are long, then the manifest."""
        body = self._body() | {"files": json.loads(self._files), "published": self.published, "digest": self.digest}
        for path, data in self._apart.items():
            pointer = {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            if data is not self._files:
                body = {name: value for name, value in body.items() if name not in self._details()}
            body[FILES if data is self._files else DETAILS] = pointer
        return self._apart | {MANIFEST: (canonical(body | {"checksum": digest_of(body)}, 1) + "\n").encode()}

    def _body(self) -> dict[str, Json]:
        return {
            "format": FORMAT,
            "kind": self.kind,
            "name": self.name,
            "request": self.request,
        } | self._details()

    def _details(self) -> dict[str, Json]:
        return {"asked": self.asked, "sources": [vars(source) for source in self.sources], "facts": self.facts}

    @cached_property
    def _apart(self) -> dict[str, bytes]:
        """What is too long to stand in the manifest, by its path."""
        long = {FILES: self._files, DETAILS: canonical(self._details()).encode()}
        return {
            digest_name(name, hashlib.sha256(data).hexdigest(), ".json"): data
            for name, data in long.items()
            if len(data) > INLINE_MAX_BYTES
        }

    @cached_property
    def _files(self) -> bytes:
        return _FILES.dump_json(self.files)

    @cached_property
    def _files_digest(self) -> str:
        return hashlib.sha256(self._files).hexdigest()


def canonical(value: Json, indent: int | None = None) -> str:
    """Return JSON with sorted keys: the same value, the same text."""
    return json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=False, allow_nan=False)


def digest_of(value: Json) -> str:
    """Return the SHA-256 of a JSON value's canonical text, hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def find_manifest(store: Store, folder: str) -> Manifest | None:
    """Return the manifest of a folder, or None if nothing is published there. Raises like `read_manifest`."""
    try:
        data = store.storage.read(manifest_path(folder))
    except NotFound:
        return None
    return parse_manifest(data, store, folder)


def read_manifest(store: Store, folder: str) -> Manifest:
    """Return the manifest of a folder. Raises `NoInput` if there is none, `Corrupt` if it is damaged, `OtherFormat` if
    a later digitrec wrote it, `OldStore` if an earlier one did, `StorageFailed` if it cannot be read."""
    manifest = find_manifest(store, folder)
    if manifest is None:
        raise NoInput(f"nothing is published at {store.address(folder)}: expected a {MANIFEST} there")
    return manifest


def parse_manifest(data: bytes, store: Store, folder: str) -> Manifest:
    """Check and rebuild the manifest of a folder ("" for the root) from its bytes and those of its list of files, if
    that stands apart."""
    where = store.address(_inside(folder, MANIFEST))
    body = parse_json(data, where, f"{where} is not a manifest of digitrec, or is damaged")
    checksum = body.pop("checksum", None)
    if digest_of(body) != checksum:
        raise Corrupt(f"{where} is damaged: its digest does not fit; restore it, or remove its folder and make it anew")
    try:
        if body["kind"] not in get_args(Kind):
            raise TypeError(body["kind"])
        listed = body[FILES]
        apart = [pointer["path"] for pointer in (body.get(DETAILS), listed) if isinstance(pointer, dict)]
        if DETAILS in body:
            body |= json.loads(_read_apart(store, folder, body[DETAILS]))
        files = _read_apart(store, folder, listed) if isinstance(listed, dict) else json.dumps(listed).encode()
        manifest = Manifest(
            kind=body["kind"],
            name=body["name"],
            asked=body["asked"],
            files=_FILES.validate_json(files),
            sources=tuple(Source(**entry) for entry in body["sources"]),
            facts=body["facts"],
            published=body["published"],
            apart=frozenset(apart),
        )
        manifest.folder  # noqa: B018  # its name is one
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise Corrupt(f"{where} lacks what a manifest of format {FORMAT} has: make it anew") from error
    for file in manifest.files:
        if not PATH.fullmatch(file.path):
            raise Corrupt(f"{where} names {file.path!r}: expected a file in its own folder; do not use it")
    return manifest


def _read_apart(store: Store, folder: str, pointer: dict[str, Json]) -> bytes:
    """Return what stands in a file of its own."""
    file = File(str(pointer["path"]), 0, int(pointer["bytes"]), str(pointer["sha256"]))
    if not PATH.fullmatch(file.path):
        raise Corrupt(
            f"{store.address(_inside(folder, MANIFEST))} names {file.path!r}: expected a file in its own folder"
        )
    return read_checked(store, _inside(folder, file.path), file)


def _inside(folder: str, path: str) -> str:
    """The key of a path in a folder; "" is the root."""
    return f"{folder}/{path}" if folder else path


def parse_json(data: bytes, where: str, otherwise: str) -> dict[str, Json]:
    """Return the JSON object of this format that an object of a store holds. Raises `Corrupt` with the message
    `otherwise` for anything else, `OtherFormat` if a later digitrec wrote it, `OldStore` if an earlier one did."""
    try:
        body: dict[str, Json] = json.loads(data)
        found = int(body["format"])
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Corrupt(otherwise) from error
    if found > FORMAT:
        raise OtherFormat(f"{where} has format {found}; this digitrec reads {FORMAT}: upgrade it")
    if found < FORMAT:
        raise OldStore(
            f"{where} has format {found}, of an earlier digitrec, and this one reads {FORMAT}: its store cannot be "
            "used; name a new one with --store and ingest the sources again"
        )
    return body


def read_checked(store: Store, key: str, file: File) -> bytes:
    """Return the bytes of a file, which are the manifest's. Raises `Corrupt` if they are not, or not there."""
    try:
        data = store.storage.read(key)
    except NotFound as error:
        raise Corrupt(f"{store.address(key)} is missing, though its manifest names it") from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise Corrupt(f"{store.address(key)} is damaged: SHA-256 is not {file.sha256[:12]}…")
    return data


def read_file(store: Store, manifest: Manifest, name: str) -> bytes:
    """Return the bytes of the file called `name` of a published manifest. Raises like `read_checked`."""
    file = manifest.file(name)
    return read_checked(store, manifest.key(file), file)


def check_file(store: Store, key: str, file: File) -> None:
    """Raise `Corrupt` unless the bytes under `key` are those of `file`, `StorageFailed` if they cannot be read."""
    found = store.storage.stat(key)
    if found is None:
        raise Corrupt(f"{store.address(key)} is missing, though its manifest names it")
    if found.size != file.bytes:
        raise Corrupt(f"{store.address(key)} has {found.size} bytes, expected {file.bytes}")
    if sha256_of(store, key) != file.sha256:
        raise Corrupt(f"{store.address(key)} is damaged: SHA-256 is not {file.sha256[:12]}…")


def sha256_of(store: Store, key: str) -> str:
    """Return the SHA-256 of an object as it lies there, hex. Raises `Corrupt` if it is gone."""
    try:
        with store.storage.open(key) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except NotFound as error:
        raise Corrupt(f"{store.address(key)} is missing, though its manifest names it") from error
