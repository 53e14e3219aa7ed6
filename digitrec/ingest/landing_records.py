"""What is known of files of `landing/`: landing records, by content, and a cache of each file's state, by path.

A landing record, `landed/<SHA-256>.json`, says what became of a content. Under a folder's options the same content is
another request, and has a record of its own.
"""

import contextlib

from digitrec.catalog.layout import landed_path
from digitrec.catalog.manifest import Json, canonical, digest_of, parse_json
from digitrec.catalog.publish import create
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import DigitrecError
from digitrec.ingest.landing_scan import FOLDER_OPTIONS, Landed
from digitrec.options import IngestOptions
from digitrec.storage import NotFound

CACHE = "landed/cache.json"


def record_path(digest: str, options: IngestOptions) -> str:
    """Where the landing record of a content lies: by its digest, and that of its folder's options if there are any."""
    chosen = options.model_dump(include=set(FOLDER_OPTIONS), exclude_defaults=True)
    return landed_path(f"{digest}-{digest_of(chosen)[:16]}" if chosen else digest)


def read_record(store: Store, record: str) -> dict[str, str] | None:
    """What became of a content: `{"dataset": name}`, `{"refused": reason}`, or None. Raises `Corrupt`,
    `StorageFailed` if it cannot be read, `OtherFormat` if another digitrec wrote it."""
    try:
        data = store.storage.read(record)
    except NotFound:
        return None
    where = store.address(record)
    entry = parse_json(data, where, f"{where} is damaged; remove it, and its file is looked at again")
    return {str(name): str(value) for name, value in entry.items() if name != "format"}


def book(store: Store, record: str, outcome: dict[str, str]) -> dict[str, str]:
    """Put a landing record, unless there is one; return the one that holds.

    One that is there holds, unless a refused file was tried again and became a dataset. Raises like `read_record`.
    """
    data = (canonical({"format": FORMAT} | outcome) + "\n").encode()
    if create(store, record, data):
        return outcome
    there = read_record(store, record)
    if there is not None and ("dataset" in there or "refused" in outcome):
        return there
    store.storage.put(record, data)
    return outcome


class Cache:
    """The state of each file as the run before saw it, and its digest if it was hashed: `{path: [state, digest]}`.

    A cache that is lost delays files that must stand still by one run, and nothing else.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before = self._written = self._read()
        self._now: dict[str, list[Json]] = {}

    def stood_still(self, file: Landed) -> bool:
        """True if the run before saw the file in this state."""
        return file.path in self._before and self._before[file.path][0] == file.stat.state

    def digest(self, file: Landed) -> str | None:
        """The file's digest, if it was hashed in this state."""
        return self._before[file.path][1] if self.stood_still(file) else None

    def note(self, file: Landed, digest: str | None) -> None:
        self._now[file.path] = [file.stat.state, digest]

    def write_digests(self) -> None:
        """Write what was hashed. What waits is noted only when the run ends: a run beside this one is not the next."""
        self._write({path: entry for path, entry in self._now.items() if entry[1]})

    def write_all(self) -> None:
        self._write(self._now)

    def _read(self) -> dict[str, list[Json]]:
        with contextlib.suppress(NotFound, DigitrecError):
            files = parse_json(self._store.storage.read(CACHE), CACHE, f"{CACHE} is damaged").get("files")
            if isinstance(files, dict):
                return {path: entry for path, entry in files.items() if isinstance(entry, list) and len(entry) == 2}
        return {}

    def _write(self, entries: dict[str, list[Json]]) -> None:
        if entries != self._written:
            cache = canonical({"format": FORMAT, "files": entries})
            self._store.storage.put(CACHE, (cache + "\n").encode())
            self._written = entries
