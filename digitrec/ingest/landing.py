"""The night's ingest: every new file of `landing/` becomes a dataset, or is refused and stops nobody else.

`landing/` is other people's: read, never changed. `landed/<SHA-256>.json` remembers what became of a content: the same
bytes are taken once, whatever their name. A cache of (path, size, mtime) spares hashing them again every night.
"""

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from digitrec.contract import FORMAT
from digitrec.errors import (
    AlreadyPublished,
    BadData,
    Corrupt,
    NewerFormat,
    NoInput,
    StorageFailed,
    TryAgain,
    explain,
    storage_errors,
)
from digitrec.ingest.csv import Unreadable, shown
from digitrec.ingest.run import IngestReport, hash_source, ingest
from digitrec.options import IngestOptions
from digitrec.progress import Progress, Step, silent
from digitrec.store.commit import put_if_absent, write_replacing
from digitrec.store.layout import Store, landed_path
from digitrec.store.manifest import Json, canonical, check_format

LANDING = "landing"
CACHE = "landed/cache.json"
QUIET_S = 60
SMALL_BYTES = 1 << 20
SMALL_AT_ONCE = 8
"""Small files wait for the disk, not for a core: several at once share its syncs."""


@dataclass(frozen=True)
class Refused:
    """A file of landing/ (path relative to it) that is no dataset, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class LandingReport:
    """What a night brought: new datasets, refused files (also those of earlier nights), files too young to be whole
    (relative paths), and the number of files that were dealt with before."""

    ingested: tuple[IngestReport, ...]
    refused: tuple[Refused, ...]
    waiting: tuple[str, ...]
    known: int

    def lines(self) -> list[str]:
        """What a person reads at the end, one fact a line."""
        rows = sum(report.rows for report in self.ingested)
        return [
            f"landing: {len(self.ingested):,} new datasets, {rows:,} rows; {self.known:,} files known",
            *(f"  {line}" for report in self.ingested for line in report.lines()),
            *(f"refused: {refused.path}: {refused.reason}" for refused in self.refused),
            *(f"waiting: {path} was touched in the last {QUIET_S} s" for path in self.waiting),
        ]


@dataclass(frozen=True)
class Landed:
    """A file of landing/: its path relative to it, and what tells whether it was touched."""

    path: str
    size: int
    modified_ns: int

    @property
    def state(self) -> list[int]:
        return [self.size, self.modified_ns]


@dataclass
class Night:
    """What comes together while files are looked at."""

    ingested: list[IngestReport] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    known: int = 0

    def refuse(self, path: str, reason: str) -> None:
        self.refused.append(Refused(shown(path), reason))

    def report(self) -> LandingReport:
        refused = sorted(self.refused, key=lambda entry: entry.path)
        return LandingReport(tuple(self.ingested), tuple(refused), tuple(sorted(self.waiting)), self.known)


def ingest_landing(
    store: Store, *, retry_refused: bool = False, threads: int | None = None, progress: Progress = silent
) -> LandingReport:
    """Ingest every new file of `landing/`, in the order of paths. Raises only what concerns the store (`StorageFailed`,
    `Misconfigured`). A file that is wrong is refused, remembered and listed; one that cannot be read, or of which the
    store's knowledge is damaged, is listed."""
    night = Night()
    files = list(settled_files(store, night))
    fresh = []
    for file, digest in with_digests(store, files, night):
        try:
            entry = read_entry(store, digest)
        except (StorageFailed, NewerFormat) as error:
            night.refuse(file.path, str(error))
            continue
        if entry is None or (retry_refused and "refused" in entry):
            fresh.append((file, digest))
        elif "refused" in entry:
            night.refuse(file.path, entry["refused"])
        else:
            night.known += 1
    take_all(store, fresh, night, threads, progress)
    return night.report()


def settled_files(store: Store, night: Night) -> Iterator[Landed]:
    """The files of landing/ that nobody is writing any more, by path. Hidden ones are uploads under way."""
    base = Path(store.full(LANDING))
    for path in visible_files(base, night):
        relative = path.relative_to(base).as_posix()
        try:
            status = path.stat()
        except OSError as error:
            night.refuse(relative, error.strerror or str(error))
            continue
        # A sender's clock may be ahead of ours: a time to come says nothing.
        if 0 <= time.time() - status.st_mtime < QUIET_S:
            night.waiting.append(shown(relative))
        else:
            yield Landed(relative, status.st_size, status.st_mtime_ns)


def visible_files(base: Path, night: Night) -> Iterator[Path]:
    """What is not hidden below `base`. A folder that cannot be read is refused; if it is `base`: `StorageFailed`."""

    def unreadable(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            return
        if error.filename == str(base):
            raise StorageFailed(explain(error, "read")) from error
        night.refuse(Path(error.filename).relative_to(base).as_posix(), error.strerror or str(error))

    for folder, folders, names in os.walk(base, onerror=unreadable):
        folders[:] = visible(folders)
        yield from (Path(folder, name) for name in visible(names))


def visible(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("."))


def with_digests(store: Store, files: Sequence[Landed], night: Night) -> Iterator[tuple[Landed, str]]:
    """Each file with its SHA-256, hashed only if it was touched since it was last looked at; each content once."""
    cache, seen = read_cache(store), set()
    found: dict[str, list[Json]] = {}
    for file in files:
        kept = cache.get(file.path)
        try:
            digest = kept[1] if kept and kept[0] == file.state else hash_source(in_landing(store, file)).sha256
        except TryAgain:
            night.waiting.append(file.path)
            continue
        except (NoInput, StorageFailed) as error:
            night.refuse(file.path, str(error))
            continue
        found[file.path] = [file.state, digest]
        if digest in seen:
            night.known += 1
            continue
        seen.add(digest)
        yield file, digest
    if found != cache:
        write_replacing(store, CACHE, (canonical(found) + "\n").encode())


def read_cache(store: Store) -> dict[str, list[Json]]:
    """[[size, mtime], digest] by path. A cache that cannot be read is no cache."""
    with contextlib.suppress(OSError, ValueError):
        cache = json.loads(Path(store.full(CACHE)).read_bytes())
        if isinstance(cache, dict):
            return cache
    return {}


def read_entry(store: Store, digest: str) -> dict[str, str] | None:
    """What became of a content: `{"dataset": name}`, `{"refused": reason}`, or None. Raises `Corrupt`,
    `StorageFailed` if it cannot be read, `NewerFormat` if a newer digitrec wrote it."""
    path = Path(store.full(landed_path(digest)))
    with storage_errors("read"):
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


def take_all(
    store: Store, files: Sequence[tuple[Landed, str]], night: Night, threads: int | None, progress: Progress
) -> None:
    """Small files several at once, large ones one by one on all cores."""
    small = [file for file in files if file[0].size <= SMALL_BYTES]
    large = [file for file in files if file[0].size > SMALL_BYTES]
    done = itertools.count(1)
    one_at_a_time = threading.Lock()

    def tell(step: Step) -> None:
        with one_at_a_time:
            progress(step)

    def take(file: tuple[Landed, str], cores: int | None) -> IngestReport | Refused | None:
        outcome = take_one(store, *file, cores, tell)
        tell(Step("landing", next(done), len(files), "files"))
        return outcome

    with ThreadPoolExecutor(SMALL_AT_ONCE, "digitrec-landing") as pool:
        outcomes = list(pool.map(lambda file: take(file, 1), small))
    outcomes += [take(file, threads) for file in large]
    for (file, _), outcome in sorted(zip(small + large, outcomes, strict=True), key=lambda pair: pair[0][0].path):
        file_outcome(night, file, outcome)


def file_outcome(night: Night, file: Landed, outcome: IngestReport | Refused | None) -> None:
    if outcome is None:
        night.waiting.append(file.path)
    elif isinstance(outcome, Refused):
        night.refused.append(outcome)
    else:
        night.ingested.append(outcome)


def take_one(
    store: Store, file: Landed, digest: str, threads: int | None, progress: Progress
) -> IngestReport | Refused | None:
    """Ingest one file and remember what became of it. None if it changed or went meanwhile: it waits.

    What cannot be read is refused, but not remembered: it may be well the next night.
    """
    try:
        report = ingest(store, [in_landing(store, file)], IngestOptions(), threads=threads, progress=progress)
    except (TryAgain, NoInput):
        return None
    except (Unreadable, Corrupt, NewerFormat) as error:
        return Refused(file.path, str(error))
    except (BadData, AlreadyPublished) as error:
        remember(store, digest, {"refused": str(error)})
        return Refused(file.path, str(error))
    remember(store, digest, {"dataset": report.dataset})
    return report


def remember(store: Store, digest: str, outcome: dict[str, str]) -> None:
    """Put-if-absent; what is there says the same, unless a refused file was tried again: then the newer word holds."""
    data = (canonical({"format": FORMAT} | outcome) + "\n").encode()
    if not put_if_absent(store, landed_path(digest), data) and "dataset" in outcome:
        write_replacing(store, landed_path(digest), data)


def in_landing(store: Store, file: Landed) -> Path:
    return Path(store.full(f"{LANDING}/{file.path}"))
