"""`ingest()`: CSV files → one dataset, published once."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from digitrec.catalog.layout import check_name, dataset_folder, name_from, source_note
from digitrec.catalog.manifest import Json, Manifest, Source, digest_of, find_manifest
from digitrec.catalog.marker import check_format
from digitrec.catalog.pending import confirm_note, has_predictions, put_note
from digitrec.catalog.publish import Published, find_published, publish, upload
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import sweep_folder
from digitrec.errors import NoInput, UsageError
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.intake import REJECTS, Intake
from digitrec.ingest.members import Reading, readings_of
from digitrec.ingest.origins import SMALL_BYTES, Origin, held, local_file
from digitrec.ingest.rejects import check_budget
from digitrec.ingest.shards import Shard
from digitrec.limits import cores
from digitrec.options import IngestOptions
from digitrec.progress import Progress, silent
from digitrec.shown import printable
from digitrec.storage import StagedFile

SUFFIXES = (".gz", ".zst", ".bz2", ".xz", ".tgz", ".zip", ".tar", ".csv", ".tsv", ".txt")
UPLOADS_AT_ONCE = 4
RECIPE = 1
"""Version of what ingest makes of a row: another one makes another dataset of the same sources."""


@dataclass(frozen=True)
class IngestReport:
    """What became of the sources. `rows` are the good ones, `rejects` the others, `reasons` the latter by reason;
    `folder` is store-relative; `bytes` those of the sources as they lie there; `already`: nothing had to be done;
    `sources` are the files with the digests of what was read."""

    dataset: str
    folder: str
    rows: int
    rejects: int
    reasons: dict[str, int]
    labelled: bool
    keyed: bool
    already: bool
    notes: tuple[str, ...]
    seconds: float
    bytes: int
    sources: tuple[Source, ...]

    def lines(self) -> list[str]:
        """What a person reads at the end, one fact a line."""
        if self.already:
            return [f"already ingested: {self.dataset}, {self.rows:,} rows, {self.rejects:,} rejects", *self.notes]
        kind = "labelled" if self.labelled else "unlabelled"
        rate = self.bytes / 1e6 / max(self.seconds, 1e-9)
        reasons = [f"  {count:,} {reason}" for reason, count in sorted(self.reasons.items())]
        return [
            f"{self.dataset}: {self.rows:,} {kind} rows, {self.seconds:.1f} s, {rate:,.0f} MB/s",
            *(
                [f"rejected rows: {self.rejects:,}; `digitrec rejects {self.dataset}` shows them:"]
                if self.rejects
                else []
            ),
            *reasons,
            *self.notes,
        ]


def ingest(
    store: Store,
    sources: Sequence[str | Path],
    options: IngestOptions,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> IngestReport:
    """Check the rows of CSV files and publish the good ones as one dataset; report what is published then.

    Sources may be packed or archives (`containers`), and glob patterns; they are read in natural order unless
    `options.in_order`. Raises `UsageError` for a bad name, none for several sources, or one given twice; `NoInput` for
    a source that is no regular file, `BadData` for a refused file or too many rejects, `TryAgain` for a source that
    changed, `AlreadyPublished` if the name holds something else, `StorageFailed`. Then nothing was published.
    """
    check_format(store)
    origins = [local_file(path) for path in expand(sources, in_order=options.in_order)]
    return ingest_origins(store, origins, options, threads=threads, progress=progress)


def ingest_origins(
    store: Store,
    origins: Sequence[Origin],
    options: IngestOptions,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> IngestReport:
    """Do what `ingest` does with sources in this order, wherever they lie."""
    started = time.monotonic()
    if options.dataset is not None:
        check_name(options.dataset)
    elif len(origins) > 1:
        raise UsageError(f"{len(origins)} sources make one dataset: name it with --dataset")
    if len(origins) == 1:
        origins = [held(origins[0])]
    there = find_done(store, origins, options)
    if there and not there.facts["labelled"] and not has_predictions(store, there.name, there.digest):
        confirm_note(store, there.name)  # the run that published it may have ended before it could
    done = Published(there, created=False) if there else make(store, origins, options, threads or cores(), progress)
    sweep_folder(store, done.manifest.folder)
    return report_of(done, time.monotonic() - started)


def expand(sources: Sequence[str | Path], *, in_order: bool) -> list[Path]:
    """The sources' paths, those that a glob pattern matches too, in natural order (part2 before part10) or, `in_order`,
    as given. What exists under its literal name is no pattern. Raises `NoInput` if nothing matches, `UsageError` for a
    file that is there twice."""
    paths: list[Path] = []
    for source in map(str, sources):
        path = Path(source)
        matches = [path] if os.path.lexists(path) or not set(source) & set("*?[") else _matches(path)
        paths += _naturally(matches)
    paths = paths if in_order else _naturally(paths)
    seen: set[str] = set()
    for path in paths:
        if (real := os.path.realpath(path)) in seen:
            raise UsageError(f"{printable(str(path))} is among the sources twice: its rows would be there twice")
        seen.add(real)
    return paths


def _naturally(paths: list[Path]) -> list[Path]:
    if len(paths) < 2:
        return paths
    from natsort import natsorted, ns  # it takes as long to load as a small file to ingest

    return natsorted(paths, key=str, alg=ns.PATH | ns.IGNORECASE)


def _matches(pattern: Path) -> list[Path]:
    """What a glob pattern matches; the folders at its beginning that exist are taken literally."""
    parts = pattern.parts
    base = Path(parts[0] if pattern.is_absolute() else ".")
    place = 1 if pattern.is_absolute() else 0
    while place < len(parts) - 1 and os.path.lexists(base / parts[place]):
        base, place = base / parts[place], place + 1
    try:
        found = list(base.glob(str(Path(*parts[place:]))))
    except ValueError as error:
        raise UsageError(f"{printable(str(pattern))} is no glob pattern: {error}") from error
    if not found:
        raise NoInput(f"nothing matches {printable(str(pattern))}; expected CSV files")
    return found


def find_done(store: Store, origins: Sequence[Origin], options: IngestOptions) -> Manifest | None:
    """Return the dataset if it was published before. Large sources are hashed only if they may be known: a dataset has
    the name, or a source with this stem and size was read before."""
    if options.dataset is not None:
        known = find_manifest(store, dataset_folder(options.dataset)) is not None
    else:
        [origin] = origins
        found = origin.stat()
        note = source_note(stem_of(origin.name), found.size) if found and found.size > SMALL_BYTES else ""
        known = not note or store.storage.exists(note)
    if not known:
        return None
    hashed = [_hashed(origin, options) for origin in origins]
    return find_published(store, describe_request(options, *zip(*hashed, strict=True)))


def _hashed(origin: Origin, options: IngestOptions) -> tuple[Source, list[Reading]]:
    """A source's digest, and how it would be read; its rows are not looked at."""
    with SourceFile(origin) as source:
        readings, _ = readings_of(source, options)
        return Source(source.name, source.bytes, source.finish()), readings


def stem_of(name: str) -> str:
    """A file's name without the endings that say how it is packed."""
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def describe_request(
    options: IngestOptions, sources: Sequence[Source], readings: Sequence[Sequence[Reading]]
) -> Manifest:
    """The manifest as far as the request fixes it: its name, what was asked, the sources.

    The request is the digests of the sources in order, the columns that they were read with, and what scales a pixel:
    everything that decides which rows there are, and nothing else. The sources' names, or options that come to the same
    columns, make no difference; how many rows may be rejected decides whether there is a dataset, not what is in it.
    """
    asked: dict[str, Json] = {
        "recipe": RECIPE,
        "pixel_max": options.pixel_max,
        "texts": [
            {"sha256": source.sha256, "member": one.text.member, "columns": digest_of(one.opening.layout.targets)[:16]}
            for source, those in zip(sources, readings, strict=True)
            for one in those
        ],
    }
    stem = stem_of(sources[0].name)
    name = options.dataset or name_from(stem, digest_of(asked))
    return Manifest("dataset", name, asked, (), tuple(sources))


def make(
    store: Store, origins: Sequence[Origin], options: IngestOptions, threads: int, progress: Progress
) -> Published:
    """Read the sources; if the rejects stay within the budget, publish what came of them."""
    total, plain = _survey(origins)
    with (
        store.storage.scratch() as scratch,
        Intake(scratch, options, threads, progress, total, plain=plain) as intake,
    ):
        sources, readings = [], []
        for origin in origins:
            with SourceFile(origin) as source:
                these, notes = readings_of(source, options)
                sources.append(intake.take(source, these, notes))
                readings.append(these)
        check_budget(intake.rejects, intake.rows, options.max_rejects)
        shards, rejects = intake.close()
        manifest = replace(describe_request(options, sources, readings), facts=intake.facts())
        if there := find_published(store, manifest):
            return Published(there, created=False)
        manifest = upload_all(store, manifest, shards, rejects, intake.rejects.total)
        if options.dataset is None and total > SMALL_BYTES:
            store.storage.put(source_note(stem_of(sources[0].name), total), b"")
        return publish_noted(store, manifest)


def _survey(origins: Sequence[Origin]) -> tuple[int, bool]:
    """Bytes of all sources, and whether none is packed. Raises like `Origin.open`."""
    total, plain = 0, True
    for origin in origins:
        with SourceFile(origin) as source:
            total += source.bytes
            plain = plain and not source.packed
    return total, plain


def upload_all(
    store: Store, manifest: Manifest, shards: Sequence[Shard], rejects: StagedFile, rejected: int
) -> Manifest:
    """Upload what was staged, several files at once; return the manifest with them."""
    with ThreadPoolExecutor(UPLOADS_AT_ONCE, "digitrec-upload") as pool:
        sent = [
            pool.submit(
                upload,
                store,
                manifest.folder,
                shard.file,
                f"shard-{index:05d}.parquet",
                rows=shard.rows,
                row_groups=shard.row_groups,
            )
            for index, shard in enumerate(shards)
        ]
        sent.append(pool.submit(upload, store, manifest.folder, rejects, REJECTS, rows=rejected))
        return replace(manifest, files=tuple(file.result() for file in sent))


def publish_noted(store: Store, manifest: Manifest) -> Published:
    """Publish a dataset; one without labels is noted before, as still to be scored."""
    if manifest.facts["labelled"]:
        return publish(store, manifest)
    put_note(store, manifest.name)
    published = publish(store, manifest)
    confirm_note(store, manifest.name)
    return published


def report_of(published: Published, seconds: float) -> IngestReport:
    manifest, facts = published.manifest, published.manifest.facts
    return IngestReport(
        dataset=manifest.name,
        folder=manifest.folder,
        rows=manifest.rows,
        rejects=sum(facts["rejects"].values()),
        reasons=facts["rejects"],
        labelled=facts["labelled"],
        keyed=facts["keyed"],
        already=not published.created,
        notes=tuple(facts["notes"]),
        seconds=seconds,
        bytes=sum(source.bytes for source in manifest.sources),
        sources=manifest.sources,
    )
