"""`ingest()`: CSV files → one dataset, published once."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from digitrec.catalog.layout import (
    NAME_DIGITS,
    dataset_folder,
    digest_name,
    manifest_path,
    name_from,
    staging_folder,
)
from digitrec.catalog.manifest import (
    File,
    Json,
    Manifest,
    Source,
    describe,
    digest_of,
    find_manifest,
    publish,
    read_manifest,
    same_request,
)
from digitrec.catalog.store import Store
from digitrec.errors import AlreadyPublished, NoInput, UsageError
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.intake import REJECTS, Intake
from digitrec.ingest.members import Reading, readings_of
from digitrec.ingest.rejects import check_budget
from digitrec.ingest.shards import StagedShard
from digitrec.limits import cores
from digitrec.options import IngestOptions
from digitrec.progress import Progress, silent
from digitrec.shown import printable
from digitrec.store.commit import make_folder, remove_folder, settle, sweep

SUFFIXES = (".gz", ".zst", ".bz2", ".xz", ".tgz", ".zip", ".tar", ".csv", ".tsv", ".txt")
SMALL_BYTES = 1 << 20
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
    follow_links: bool = True,
) -> IngestReport:
    """Check the rows of CSV files and publish the good ones as one dataset.

    Sources may be packed or archives (`containers`), and glob patterns; they are read in natural order unless
    `options.in_order`. With `follow_links=False` sources are literal paths, and a symbolic or hard link is refused with
    `NoInput`. Raises `UsageError` for a bad name, none for several sources, or one given twice; `NoInput` for
    a source that is no regular file, `BadData` for a refused file or too many rejects, `TryAgain` for a source that
    changed, `AlreadyPublished` if the name holds something else, `StorageFailed`. Then nothing was published.
    """
    started = time.monotonic()
    paths = expand(sources, in_order=options.in_order) if follow_links else [Path(source) for source in sources]
    if options.dataset is None and len(paths) > 1:
        raise UsageError(f"{len(paths)} sources make one dataset: name it with --dataset")
    open_source = partial(SourceFile, follow_links=follow_links)
    done = already_done(store, paths, options, open_source)
    if done is None:
        done = seal(store, paths, options, open_source, threads or cores(), progress)
    manifest, already = done
    return report_of(manifest, already, time.monotonic() - started)


OpenSource = Callable[[Path], SourceFile]
Done = tuple[Manifest, bool]
"""The dataset's manifest, and whether it was there before."""


def expand(sources: Sequence[str | Path], *, in_order: bool) -> list[Path]:
    """The sources' paths, those that a glob pattern matches too, in natural order (part2 before part10) or, `in_order`,
    as given. What exists under its literal name is no pattern. Raises `NoInput` if nothing matches, `UsageError` for a
    file that is there twice."""
    from natsort import natsorted, ns

    paths: list[Path] = []
    for source in map(str, sources):
        path = Path(source)
        matches = [path] if os.path.lexists(path) or not set(source) & set("*?[") else _matches(path)
        paths += natsorted(matches, key=str, alg=ns.PATH | ns.IGNORECASE)
    paths = paths if in_order else natsorted(paths, key=str, alg=ns.PATH | ns.IGNORECASE)
    seen: set[str] = set()
    for path in paths:
        if (real := os.path.realpath(path)) in seen:
            raise UsageError(f"{printable(str(path))} is among the sources twice: its rows would be there twice")
        seen.add(real)
    return paths


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


def already_done(store: Store, paths: Sequence[Path], options: IngestOptions, open_source: OpenSource) -> Done | None:
    """The dataset, if it was published before. Large sources are hashed only if there is a name for it."""
    if options.dataset:
        known = store.exists(manifest_path(dataset_folder(options.dataset)))
    else:
        known = _size_of(paths[0], open_source) <= SMALL_BYTES or _has_family(store, stem_of(paths[0].name))
    if not known:
        return None
    hashed = [_hashed(path, options, open_source) for path in paths]
    wanted = describe_request(options, *zip(*hashed, strict=True))
    there = find_manifest(store, dataset_folder(wanted.name))
    if there:
        same_request(store, dataset_folder(wanted.name), wanted)
        return there, True
    return None


def _size_of(path: Path, open_source: OpenSource) -> int:
    with open_source(path) as source:
        return source.bytes


def _has_family(store: Store, stem: str) -> bool:
    """True if a dataset is called after such a stem. Looks at all names: for small files hashing is quicker."""
    family = re.compile(re.escape(name_from(stem, "0" * NAME_DIGITS)[:-NAME_DIGITS]) + f"[0-9a-f]{{{NAME_DIGITS}}}")
    with contextlib.suppress(FileNotFoundError), os.scandir(store.full("datasets")) as entries:
        return any(family.fullmatch(entry.name) for entry in entries)
    return False


def _hashed(path: Path, options: IngestOptions, open_source: OpenSource) -> tuple[Source, list[Reading]]:
    """A source's digest, and how it would be read; its rows are not looked at."""
    with open_source(path) as source:
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


def seal(
    store: Store,
    paths: Sequence[Path],
    options: IngestOptions,
    open_source: OpenSource,
    threads: int,
    progress: Progress,
) -> Done:
    """Read the sources into a staging folder; if the rejects stay within the budget, publish what came of them."""
    total, plain = _survey(paths, open_source)
    sweep(store, "_staging")
    with (
        staged(store) as staging,
        Intake(store.full(staging), options, threads, progress, total, plain=plain) as intake,
    ):
        sources, readings = [], []
        for path in paths:
            with open_source(path) as source:
                these, notes = readings_of(source, options)
                sources.append(intake.take(source, these, notes))
                readings.append(these)
        check_budget(intake.rejects, intake.rows, options.max_rejects)
        shards = intake.close()
        manifest = replace(describe_request(options, sources, readings), facts=intake.facts())
        return settle_and_publish(store, staging, manifest, shards, intake)


def _survey(paths: Sequence[Path], open_source: OpenSource) -> tuple[int, bool]:
    """Bytes of all sources, and whether none is packed. Raises like `open_regular`."""
    total, plain = 0, True
    for path in paths:
        with open_source(path) as source:
            total += source.bytes
            plain = plain and not source.packed
    return total, plain


@contextlib.contextmanager
def staged(store: Store) -> Iterator[str]:
    """A staging folder (store-relative) of our own; it goes, whatever happens."""
    folder = staging_folder()
    try:
        make_folder(store, folder)
        yield folder
    finally:
        remove_folder(store, folder)


def settle_and_publish(
    store: Store, staging: str, manifest: Manifest, shards: Sequence[StagedShard], intake: Intake
) -> Done:
    """Move the staged files to the names that carry their digests, and create the manifest."""
    folder = dataset_folder(manifest.name)
    there = find_manifest(store, folder)
    if there:
        same_request(store, folder, manifest)
        return there, True
    rejects = describe(store, f"{staging}/{REJECTS}", rows=intake.rejects.total)
    files = []
    for index, shard in enumerate(shards):
        path = f"{folder}/{digest_name('shard', index, shard.sha256)}"
        settle(store, store.relative(shard.path), path, shard.sha256)
        files.append(File(path, shard.rows, shard.bytes, shard.sha256, shard.row_groups))
    path = f"{folder}/rejects-{rejects.sha256[:12]}.parquet"
    settle(store, rejects.path, path, rejects.sha256)
    manifest = replace(manifest, files=(*files, replace(rejects, path=path)))
    try:
        created = publish(store, folder, manifest)
    except AlreadyPublished:
        remove_strays(store, folder, manifest)
        raise
    if created:
        sweep(store, folder, keep={manifest_path(folder), *(file.path for file in manifest.files)})
    return manifest, not created


def remove_strays(store: Store, folder: str, loser: Manifest) -> None:
    """Remove the files of a lost race that the winner does not name."""
    kept = {file.path for file in read_manifest(store, folder).files}
    for file in loser.files:
        if file.path not in kept:
            Path(store.full(file.path)).unlink(missing_ok=True)


def report_of(manifest: Manifest, already: bool, seconds: float) -> IngestReport:
    facts = manifest.facts
    return IngestReport(
        dataset=manifest.name,
        folder=dataset_folder(manifest.name),
        rows=manifest.rows,
        rejects=sum(facts["rejects"].values()),
        reasons=facts["rejects"],
        labelled=facts["labelled"],
        keyed=facts["keyed"],
        already=already,
        notes=tuple(facts["notes"]),
        seconds=seconds,
        bytes=sum(source.bytes for source in manifest.sources),
        sources=manifest.sources,
    )
