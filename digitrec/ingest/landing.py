"""The scheduled ingest: every new file of `landing/` becomes a dataset, or is refused and stops no other.

`landing/` is other people's: read, never changed. Files are listed and judged whole by `landing_scan`; what became of
each content is remembered by `landing_records`.
"""

import hashlib
import itertools
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field

from digitrec.catalog.marker import check_format
from digitrec.catalog.store import Store
from digitrec.errors import (
    AlreadyPublished,
    BadData,
    Corrupt,
    DigitrecError,
    NoInput,
    OtherFormat,
    StorageFailed,
    TryAgain,
    UsageError,
)
from digitrec.ingest.containers import Unreadable
from digitrec.ingest.landing_records import Cache, book, read_record, record_path
from digitrec.ingest.landing_scan import (
    ENDLESS,
    FOLDER_OPTIONS,
    OPTIONS_FILE,
    Landed,
    NotTaken,
    list_landing,
    proves_its_end,
    reason_to_wait,
)
from digitrec.ingest.origins import SMALL_BYTES, landed_object, reading
from digitrec.ingest.run import IngestReport, ingest_origins
from digitrec.progress import Progress, Step, silent
from digitrec.shown import printable

LOG = logging.getLogger("digitrec.ingest")
SMALL_AT_ONCE = 8
"""Small files wait for the disk, not for a core: several at once share its syncs."""
NAMED = 10

CHANGED = "it changed while it was looked at"


@dataclass(frozen=True)
class LandingReport:
    """What a run found in landing/: new datasets, refused files (also those of earlier runs), the number of files that
    were dealt with before, and of uploads under way by their names.

    `waiting` are files that may not be whole yet. One is taken when it is seen to be whole, or has stood still from one
    run to the next.
    """

    ingested: tuple[IngestReport, ...]
    refused: tuple[NotTaken, ...]
    waiting: tuple[NotTaken, ...]
    known: int
    uploads: int

    def lines(self) -> list[str]:
        """What a person reads at the end, one fact a line."""
        rows = sum(report.rows for report in self.ingested)
        return [
            f"landing: {len(self.ingested):,} new datasets, {rows:,} rows; {self.known:,} files known",
            *(f"  {line}" for report in self.ingested for line in report.lines()),
            *(f"refused: {refused.path}: {refused.reason}" for refused in self.refused),
            *(f"waiting: {waiting.path}: {waiting.reason}" for waiting in self.waiting),
            *self.notes,
        ]

    @property
    def notes(self) -> list[str]:
        """What was taken or left without an answer to come: labelled datasets, uploads under way."""
        labelled = [report.dataset for report in self.ingested if report.labelled]
        names = ", ".join(labelled[:NAMED]) + (f" and {len(labelled) - NAMED:,} more" if len(labelled) > NAMED else "")
        return [
            *([f"{FOR_TRAINING}: {names}"] if labelled else []),
            *([f"{self.uploads:,} uploads under way (hidden, .part, .tmp, …) left alone"] if self.uploads else []),
        ]


FOR_TRAINING = (
    "labelled datasets are for training, the scheduled run does not score them (`digitrec score --dataset NAME` does)"
)


@dataclass
class _Tally:
    """What comes together while files are looked at, by path, from several threads."""

    ingested: list[tuple[str, IngestReport]] = field(default_factory=list)
    refused: list[NotTaken] = field(default_factory=list)
    waiting: list[NotTaken] = field(default_factory=list)
    known: list[str] = field(default_factory=list)

    def refuse(self, path: str, reason: str) -> None:
        self.refused.append(NotTaken(printable(path), reason))

    def wait(self, path: str, reason: str) -> None:
        self.waiting.append(NotTaken(printable(path), reason))

    def recall(self, path: str, record: dict[str, str]) -> None:
        """Count a file of which a landing record says what became of its content."""
        if "refused" in record:
            self.refuse(path, record["refused"])
        else:
            self.known.append(path)

    def report(self, uploads: int) -> LandingReport:
        ingested = sorted(self.ingested, key=lambda pair: pair[0])
        return LandingReport(
            tuple(report for _, report in ingested),
            tuple(sorted(self.refused, key=lambda entry: entry.path)),
            tuple(sorted(self.waiting, key=lambda entry: entry.path)),
            len(self.known),
            uploads,
        )


@dataclass(frozen=True)
class _Fresh:
    """A file whose content has no landing record, and the digest that its content had."""

    file: Landed
    digest: str

    @property
    def record(self) -> str:
        return record_path(self.digest, self.file.options)


def ingest_landing(
    store: Store, *, retry_refused: bool = False, threads: int | None = None, progress: Progress = silent
) -> LandingReport:
    """Ingest every new file of `landing/`, in the order of paths. Raises only what concerns the store (`StorageFailed`,
    `Misconfigured`). A file that is wrong is refused, remembered and listed; one that cannot be read, or of which the
    store's knowledge is damaged, is listed; one that may not be whole waits."""
    check_format(store)
    listing = list_landing(store)
    tally = _Tally(refused=listing.refused)
    cache = Cache(store)
    fresh: dict[str, list[_Fresh]] = {}
    for file, digest in _hashed(store, listing.files, cache, tally):
        found = _Fresh(file, digest)
        try:
            record = read_record(store, found.record)
        except (StorageFailed, OtherFormat) as error:
            tally.refuse(file.path, str(error))
            continue
        if record is None or (retry_refused and "refused" in record):
            fresh.setdefault(found.record, []).append(found)
        else:
            tally.recall(file.path, record)
    cache.write_digests()
    _take_all(store, list(fresh.values()), tally, threads, progress)
    cache.write_all()
    return tally.report(listing.uploads)


def _hashed(store: Store, files: Sequence[Landed], cache: Cache, tally: _Tally) -> Iterator[tuple[Landed, str]]:
    """Each file that is whole, as far as can be seen, with its SHA-256. It is hashed only if it was touched."""
    for file in files:
        digest, still = cache.digest(file), cache.stood_still(file)
        steady = time.time() > file.stat.certain_s
        reason = "" if still else reason_to_wait(file)
        try:
            if digest is None and not reason:
                digest = _hash(store, file, still)
        except (TryAgain, NoInput) as error:
            reason = str(error)
        except Unreadable as error:
            tally.refuse(file.path, str(error))
            continue
        cache.note(file, digest if steady else None)
        if digest is None:
            tally.wait(file.path, reason)
        else:
            yield file, digest


def _hash(store: Store, file: Landed, still: bool) -> str:
    """Hash a file (SHA-256). Raises `TryAgain` if it went, or has neither stood `still` nor proves its end."""
    origin = landed_object(store, file.key)
    opened, _ = origin.open()
    with opened, reading(origin.where):
        if not still and not proves_its_end(opened, file.stat.size):
            raise TryAgain(ENDLESS)
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _take_all(
    store: Store, groups: Sequence[Sequence[_Fresh]], tally: _Tally, threads: int | None, progress: Progress
) -> None:
    """Take each group of files of one content: small ones several at once, large ones one by one on all cores."""
    files = sum(map(len, groups))
    done = itertools.count(1)
    one_at_a_time = threading.Lock()

    def tell(step: Step) -> None:
        with one_at_a_time:
            progress(step)

    def take(group: Sequence[_Fresh], cores: int | None) -> None:
        record = None
        for fresh in group:
            if record is None:
                record = _take(store, fresh, tally, cores, tell)
            else:
                tally.recall(fresh.file.path, record)
            tell(Step("landing", next(done), files, "files"))

    small = [group for group in groups if group[0].file.stat.size <= SMALL_BYTES]
    context = copy_context()  # an orchestrator that is told of progress looks there for its run
    with ThreadPoolExecutor(SMALL_AT_ONCE, "digitrec-landing") as pool:
        list(pool.map(lambda group: context.copy().run(take, group, 1), small))
    for group in groups:
        if group[0].file.stat.size > SMALL_BYTES:
            take(group, threads)


def _take(store: Store, fresh: _Fresh, tally: _Tally, threads: int | None, progress: Progress) -> dict[str, str] | None:
    """Ingest one file and book what became of it; return the landing record of the content that it had, if it has one.

    Only what was read is booked, and a refusal only if nothing has changed since before the file was hashed. What
    cannot be read, or stands in the way in the store, is refused but not booked: the next run may find it well.
    """
    path, options = fresh.file.path, fresh.file.options
    if not _unchanged(store, fresh.file):
        tally.wait(path, CHANGED)
        return None
    try:
        origin = landed_object(store, fresh.file.key)
        report = ingest_origins(store, [origin], options, threads=threads, progress=progress)
    except (TryAgain, NoInput) as error:
        tally.wait(path, str(error))
        return None
    except (Unreadable, Corrupt, OtherFormat, AlreadyPublished, UsageError) as error:
        tally.refuse(path, str(error))
        return None
    except BadData as error:
        if not _unchanged(store, fresh.file):
            tally.wait(path, CHANGED)
            return None
        reason = _for_a_folder(str(error))
        tally.refuse(path, reason)
        return book(store, fresh.record, {"refused": reason})
    except DigitrecError:
        raise  # the store's trouble, or the system's: it concerns every file
    except Exception as error:
        # A file that brings out a bug of ours stops no other, and is looked at again by a version without it.
        LOG.exception("a bug in digitrec, met in %s", printable(path))
        tally.refuse(path, f"a bug in digitrec: {type(error).__name__}: {error}")
        return None
    tally.ingested.append((path, report))
    [source] = report.sources
    try:
        booked = book(store, record_path(source.sha256, options), {"dataset": report.dataset})
    except (Corrupt, OtherFormat) as error:
        tally.refuse(path, str(error))
        return None
    if source.sha256 == fresh.digest:
        return booked
    tally.wait(path, CHANGED)
    return None


def _for_a_folder(reason: str) -> str:
    """A refusal that names an option as the remedy, with where to write that option for a file of landing/."""
    named = [option for option in FOLDER_OPTIONS if f"--{option.replace('_', '-')}" in reason]
    others = sorted(
        set(re.findall(r"--[a-z][a-z-]+", reason)) - {f"--{name.replace('_', '-')}" for name in FOLDER_OPTIONS}
    )
    if others and not named:
        return f"{reason} (of landing/ no folder can say that: `digitrec ingest FILE {others[0]} …` takes it by hand)"
    first, newline, rest = reason.partition("\n")
    where = f" (in landing/: {', '.join(named)}, in a file {OPTIONS_FILE} beside it)" if named else ""
    return first + where + newline + rest


def _unchanged(store: Store, file: Landed) -> bool:
    """True if the file is what it was when it was listed."""
    try:
        found = landed_object(store, file.key).stat()
    except Unreadable:
        return False
    return found is not None and found.state == file.stat.state
