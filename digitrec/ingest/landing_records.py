"""What is known of files of `landing/`: landing records, by content, and a cache of each file's state, by path.

A landing record, `landed/<SHA-256>.json`, says what became of a content. Under a folder's options the same content is
another request, and has a record of its own.
"""

import contextlib
import json
from pathlib import Path

from digitrec.catalog.layout import landed_path
from digitrec.catalog.manifest import Json, canonical, check_format, digest_of
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, storage_errors
from digitrec.ingest.landing_scan import FOLDER_OPTIONS, Landed
from digitrec.options import IngestOptions
from digitrec.store.commit import put_if_absent, write_replacing

CACHE = "landed/cache.json"


def record_path(digest: str, options: IngestOptions) -> str:
    """Where the landing record of a content lies: by its digest, and that of its folder's options if there are any."""
    chosen = options.model_dump(include=set(FOLDER_OPTIONS), exclude_defaults=True)
    return landed_path(f"{digest}-{digest_of(chosen)[:16]}" if chosen else digest)


def read_record(store: Store, record: str) -> dict[str, str] | None:
    """What became of a content: `{"dataset": name}`, `{"refused": reason}`, or None. Raises `Corrupt`,
    `StorageFailed` if it cannot be read, `OtherFormat` if a newer digitrec wrote it."""
    path = Path(store.full(record))
    with storage_errors("read", path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        entry = json.loads(data)
        found_format = int(entry["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{path} is damaged; remove it, and its file is looked at again") from error
    check_format(found_format, path)
    return {str(name): str(value) for name, value in entry.items()}


def book(store: Store, record: str, outcome: dict[str, str]) -> dict[str, str]:
    """Put-if-absent; what is there says the same, unless a refused file was tried again: then the newer word holds."""
    data = (canonical({"format": FORMAT} | outcome) + "\n").encode()
    if not put_if_absent(store, record, data) and "dataset" in outcome:
        write_replacing(store, record, data)
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
        return file.path in self._before and self._before[file.path][0] == file.lasting_state

    def digest(self, file: Landed) -> str | None:
        """The file's digest, if it was hashed in this state."""
        return self._before[file.path][1] if self.stood_still(file) else None

    def note(self, file: Landed, digest: str | None) -> None:
        self._now[file.path] = [file.lasting_state, digest]

    def write_digests(self) -> None:
        """Write what was hashed. What waits is noted only when the run ends: a run beside this one is not the next."""
        self._write({path: entry for path, entry in self._now.items() if entry[1]})

    def write_all(self) -> None:
        self._write(self._now)

    def _read(self) -> dict[str, list[Json]]:
        with contextlib.suppress(OSError, ValueError):
            cache = json.loads(Path(self._store.full(CACHE)).read_bytes())
            if isinstance(cache, dict):
                return {path: entry for path, entry in cache.items() if isinstance(entry, list) and len(entry) == 2}
        return {}

    def _write(self, entries: dict[str, list[Json]]) -> None:
        if entries != self._written:
            write_replacing(self._store, CACHE, (canonical(entries) + "\n").encode())
            self._written = entries
