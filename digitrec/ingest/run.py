"""`ingest()`: CSV files → one sealed dataset, published once."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from digitrec.errors import AlreadyPublished, NoInput, UsageError
from digitrec.ingest.csv import SourceFile, open_regular, reading
from digitrec.ingest.intake import REJECTS, Intake
from digitrec.ingest.rejects import check_budget
from digitrec.ingest.shards import StagedShard
from digitrec.options import IngestOptions
from digitrec.progress import Progress, silent
from digitrec.store.commit import make_folder, remove_folder, settle, sweep
from digitrec.store.layout import (
    MANIFEST,
    Store,
    dataset_folder,
    digest_name,
    manifest_path,
    name_from,
    staging_folder,
)
from digitrec.store.manifest import (
    File,
    Manifest,
    Source,
    describe,
    find_manifest,
    publish,
    read_manifest,
    same_request,
)

SUFFIXES = (".gz", ".zst", ".csv")


@dataclass(frozen=True)
class IngestReport:
    """What became of the sources. `rows` are the good ones, `rejects` the others, `reasons` the latter by reason;
    `folder` is store-relative; `bytes` those of the sources as they lie there; `already`: nothing had to be done."""

    dataset: str
    folder: str
    rows: int
    rejects: int
    reasons: dict[str, int]
    labelled: bool
    keyed: bool
    already: bool
    warnings: tuple[str, ...]
    seconds: float
    bytes: int

    def lines(self) -> list[str]:
        """What a person reads at the end, one fact a line."""
        if self.already:
            return [f"already ingested: {self.dataset}, {self.rows:,} rows, {self.rejects:,} rejects", *self.warnings]
        kind = "labelled" if self.labelled else "unlabelled"
        rate = self.bytes / 1e6 / max(self.seconds, 1e-9)
        reasons = [f"  {count:,} {reason}" for reason, count in sorted(self.reasons.items())]
        return [
            f"{self.dataset}: {self.rows:,} {kind} rows, {self.seconds:.1f} s, {rate:,.0f} MB/s",
            *([f"{self.rejects:,} rejects, kept in {self.folder}:"] if self.rejects else []),
            *reasons,
            *self.warnings,
        ]


def ingest(
    store: Store,
    sources: Sequence[str | Path],
    options: IngestOptions,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> IngestReport:
    """Check the rows of CSV files (plain, .gz, .zst; glob patterns allowed) and seal the good ones as one dataset.

    Raises `UsageError` for a bad name or none for several sources, `NoInput` for a source that is no regular file,
    `BadData` for a refused file or too many rejects, `TryAgain` for a source that changed, `AlreadyPublished` if the
    name holds something else, `StorageFailed`. Then nothing was published.
    """
    started = time.monotonic()
    paths = expand(sources)
    if options.dataset is None and len(paths) > 1:
        raise UsageError(f"{len(paths)} sources make one dataset: name it with --dataset")
    done = already_done(store, paths, options)
    if done is None:
        done = seal(store, paths, options, threads or len(os.sched_getaffinity(0)), progress)
    manifest, already, warnings = done
    return report_of(manifest, already, warnings, time.monotonic() - started)


Done = tuple[Manifest, bool, tuple[str, ...]]
"""The dataset's manifest, whether it was there before, and warnings."""


def expand(sources: Sequence[str | Path]) -> list[Path]:
    """Paths in the order given; those a glob pattern matches in the order of their names."""
    paths: list[Path] = []
    for source in map(str, sources):
        path = Path(source)
        if os.path.lexists(path) or not set(source) & set("*?["):
            paths.append(path)
            continue
        try:
            matches = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
        except ValueError as error:
            raise UsageError(f"{source} is no glob pattern: {error}") from error
        if not matches:
            raise NoInput(f"nothing matches {source}; expected CSV files")
        paths += matches
    return paths


def already_done(store: Store, paths: Sequence[Path], options: IngestOptions) -> Done | None:
    """The dataset, if it was published before. Sources are hashed only if there is a name it might stand under."""
    if options.dataset:
        known = store.exists(manifest_path(dataset_folder(options.dataset)))
    else:
        family = name_from(stem_of(paths[0].name), "0" * 8)[:-8]
        known = any(Path(store.full("datasets")).glob(f"{family}{'[0-9a-f]' * 8}/{MANIFEST}"))
    if not known:
        return None
    wanted = describe_request(options, [hash_source(path) for path in paths])
    there = find_manifest(store, dataset_folder(wanted.name))
    if there:
        same_request(store, dataset_folder(wanted.name), wanted)
        return there, True, ()
    return None


def hash_source(path: Path) -> Source:
    with open_regular(path) as file, reading(path):
        return Source(path.name, os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


def stem_of(name: str) -> str:
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def describe_request(options: IngestOptions, sources: Sequence[Source]) -> Manifest:
    """The manifest as far as the request fixes it: its name, what was asked, the sources.

    How many rows may be refused decides whether there is a dataset, not what is in it.
    """
    asked = options.model_dump(exclude={"dataset", "max_rejects"}) | {
        "sources": [{"name": source.name, "sha256": source.sha256} for source in sources]
    }
    name = options.dataset or name_from(stem_of(sources[0].name), sources[0].sha256)
    return Manifest("dataset", name, asked, (), tuple(sources))


def seal(store: Store, paths: Sequence[Path], options: IngestOptions, threads: int, progress: Progress) -> Done:
    """Read the sources into a staging folder; if the rejects stay within the budget, publish what came of them."""
    total = sum(size_of(path) for path in paths)
    sweep(store, "_staging")
    with staged(store) as staging, Intake(store.full(staging), options, threads, progress, total) as intake:
        sources = [take(intake, path) for path in paths]
        shards = intake.close()
        check_budget(intake.rejects, intake.lines, options.max_rejects)
        manifest = replace(describe_request(options, sources), facts=intake.facts())
        return settle_and_publish(store, staging, manifest, shards, intake)


def size_of(path: Path) -> int:
    """Bytes of a source. Raises like `open_regular`."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def staged(store: Store) -> Iterator[str]:
    """A staging folder (store-relative) of our own; it goes, whatever happens."""
    folder = staging_folder()
    try:
        make_folder(store, folder)
        yield folder
    finally:
        remove_folder(store, folder)


def take(intake: Intake, path: Path) -> Source:
    with SourceFile(path) as source:
        return intake.take(source)


def settle_and_publish(
    store: Store, staging: str, manifest: Manifest, shards: Sequence[StagedShard], intake: Intake
) -> Done:
    """Move the staged files to the names that carry their digests, and create the manifest."""
    folder = dataset_folder(manifest.name)
    there = find_manifest(store, folder)
    if there:
        same_request(store, folder, manifest)
        return there, True, ()
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
    return manifest, not created, tuple(intake.warnings)


def remove_strays(store: Store, folder: str, loser: Manifest) -> None:
    """Remove the files of a lost race that the winner does not name."""
    kept = {file.path for file in read_manifest(store, folder).files}
    for file in loser.files:
        if file.path not in kept:
            Path(store.full(file.path)).unlink(missing_ok=True)


def report_of(manifest: Manifest, already: bool, warnings: tuple[str, ...], seconds: float) -> IngestReport:
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
        warnings=warnings,
        seconds=seconds,
        bytes=sum(source.bytes for source in manifest.sources),
    )
