"""Sources, one after the other, through the kernel: good rows to the shards, the others to the rejects."""

import time
from collections.abc import Iterator
from pathlib import Path

from digitrec.errors import BadData
from digitrec.ingest.csv import Block, SourceFile
from digitrec.ingest.dialect import Layout
from digitrec.ingest.header import EXPECTED, read_header
from digitrec.ingest.pixels import Parsed, Rows, parse_block
from digitrec.ingest.rejects import COLUMN_COUNT, REASONS, Reject, RejectsFile, escaped
from digitrec.ingest.shards import ShardWriter, StagedShard
from digitrec.options import IngestOptions
from digitrec.progress import Progress, Step
from digitrec.store.commit import sync_file
from digitrec.store.manifest import Json, Source

REJECTS = "rejects.parquet"


class Intake:
    """What has been taken in so far. `lines` counts data lines over all sources, refused ones too."""

    def __init__(
        self, folder: str | Path, options: IngestOptions, threads: int, progress: Progress, total: int
    ) -> None:
        self.folder = Path(folder)
        self.options = options
        self.lines = 0
        self.bytes = 0
        self.layout: Layout | None = None
        self.rejects = RejectsFile(self.folder / REJECTS)
        self.shards: ShardWriter | None = None
        self.warnings: list[str] = []
        self._threads, self._progress, self._total = threads, progress, total
        self._started = time.monotonic()

    def __enter__(self) -> "Intake":
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def take(self, source: SourceFile) -> Source:
        """Read one source to its end. Raises `BadData`, `TryAgain` or `StorageFailed`: then nothing counts."""
        layout, before = None, self.lines
        for block in source.blocks(allow_unterminated=self.options.allow_unterminated):
            start = block.start
            if layout is None:
                layout, start = read_header(source, block, no_header=self.options.no_header)
                self._agree(source, layout)
                before -= not self.options.no_header
            if start < block.stop:
                self._take_block(source, block, start, layout, before)
            self._report(source)
        if layout is None:
            raise BadData(f"{source.path} is empty; {EXPECTED}")
        self.bytes += source.bytes
        return Source(source.name, source.bytes, source.sha256)

    def close(self) -> list[StagedShard]:
        """Finish and sync everything staged; return the shards."""
        self.rejects.close()
        sync_file(self.folder / REJECTS)
        if not self.lines:
            self.warnings.append("the sources have a header and no rows: the dataset is empty")
        return self.shards.close() if self.shards else []

    def facts(self) -> dict[str, Json]:
        """What readers of the dataset need to know."""
        assert self.layout
        return {
            "labelled": self.layout.labelled,
            "keyed": self.layout.keyed,
            "rejects": dict(sorted(self.rejects.counts.items())),
        }

    def abandon(self) -> None:
        """Stop whatever works in the background, and close what is open; the folder will be removed."""
        if self.shards:
            self.shards.abandon()
        self.rejects.abandon()

    def _agree(self, source: SourceFile, layout: Layout) -> None:
        """All sources have the same optional columns. Raises `BadData`, naming both."""
        if self.layout is None or self.shards is None:
            self.first_source, self.layout = source.name, layout
            self.shards = ShardWriter(self.folder, labelled=layout.labelled, keyed=layout.keyed, threads=self._threads)
        if layout.optional != self.layout.optional:
            raise BadData(
                f"{source.path} has {layout.optional}, {self.first_source} has {self.layout.optional}; "
                "all sources of a dataset need the same columns"
            )
        if layout.reordered:
            self.warnings.append(f"{source.name}: columns in an unusual order, taken by name")

    def _take_block(self, source: SourceFile, block: Block, start: int, layout: Layout, before: int) -> None:
        """`before`: the lines counted before the source's first one, so that `lines` - `before` is a line's number."""
        if block.fault:
            text = escaped(block.bytes(start, block.stop))
            offset = block.offset + start - block.start
            self.lines += 1
            self.rejects.extend([Reject(source.name, self.lines - before, offset, None, block.fault, text)])
            return
        assert self.shards
        while start < block.stop:
            rows = self.shards.room()
            parsed = parse_block(block.data, start, block.stop, layout, rows, self.lines + 1)
            self.shards.took(parsed.rows, keys_of(block, rows, parsed.rows) if layout.keyed else ())
            self.rejects.extend(rejects_of(source, block, layout, parsed, self.lines + 1 - before))
            self.lines += parsed.lines
            start = parsed.position

    def _report(self, source: SourceFile) -> None:
        done = self.bytes + source.position
        rate = done / 1e6 / max(time.monotonic() - self._started, 1e-9)
        facts = {"rows": f"{self.lines:,}", "MB/s": f"{rate:,.0f}", "rejects": f"{self.rejects.total:,}"}
        self._progress(Step("ingest", done, self._total, "bytes", facts))


def keys_of(block: Block, rows: Rows, n: int) -> list[str]:
    """The first n keys, decoded; a quote inside quotes stands there twice."""
    return [block.bytes(first, end).decode().replace('""', '"') for first, end in rows.keys[:n].tolist()]


def rejects_of(source: SourceFile, block: Block, layout: Layout, parsed: Parsed, first_line: int) -> Iterator[Reject]:
    """The refused rows of a block; `first_line` is the number, in the source, of its first line."""
    for line, start, newline, reason, column, found in parsed.refused.tolist():
        note = f"{found} columns: " if reason == COLUMN_COUNT else ""
        text = escaped(block.bytes(start, newline).removesuffix(b"\r"), note)
        name = layout.names[column] if column >= 0 else None
        yield Reject(source.name, first_line + line, block.offset + start - block.start, name, REASONS[reason], text)
