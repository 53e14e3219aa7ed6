"""Sources, one after the other, through the kernel: good rows to the shards, the others to the rejects."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa

from digitrec.catalog.manifest import Json, Source
from digitrec.errors import BadData
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.dialect import Layout
from digitrec.ingest.fields import LINE_MAX_BYTES
from digitrec.ingest.members import Reading
from digitrec.ingest.pixels import Rows
from digitrec.ingest.rejects import (
    RejectsFile,
    check_early,
)
from digitrec.ingest.shards import Shard, ShardWriter
from digitrec.ingest.text_intake import TextIntake
from digitrec.options import ReadOptions
from digitrec.progress import Progress, Step
from digitrec.shown import printable
from digitrec.storage import Scratch, StagedFile

REJECTS: Final = "rejects.parquet"
DARKEST_WHITE: Final = 16
"""Images in which nothing is brighter were not scaled to 0…255."""
KEYS_COUNTED: Final = 10_000_000
"""Doubled keys are counted exactly among so many rows (some 300 MB); beyond them the count is a lower bound."""


@dataclass(frozen=True)
class Span:
    """Which rows came from where: image ids `first_id` to `last_id` (rejected rows included), of a source or of a
    member of it; an empty one has `last_id` = `first_id` - 1."""

    source: str
    member: str | None
    first_id: int
    last_id: int


class Intake:
    """What has been taken in so far. `rows` counts data rows over all sources, rejected ones too; an image's id is its
    number among them.

    `total`: bytes of all sources; `plain`: none is packed, so that no more rows than those bytes hold can follow.
    """

    def __init__(
        self, scratch: Scratch, options: ReadOptions, threads: int, progress: Progress, total: int, *, plain: bool
    ) -> None:
        self.options = options
        self.rows = 0
        self.layout: Layout | None = None
        self.rejects = RejectsFile(scratch.create(REJECTS))
        self.shards: ShardWriter | None = None
        self.skipped: Counter[str] = Counter()
        self._scratch = scratch
        self._bytes = 0
        self._spans: list[Span] = []
        self._notes: list[str] = []
        self._keys: list[pa.Array] = []
        self._keys_counted = 0
        self._lit = self._bright = False
        self._threads, self._progress, self._total, self._plain = threads, progress, total, plain
        self._started = time.monotonic()

    def __enter__(self) -> "Intake":
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def take(self, source: SourceFile, readings: Sequence[Reading], notes: Sequence[str] = ()) -> Source:
        """Read what is to be read of one source to its end. Raises `BadData`, `TryAgain` or `StorageFailed`: then
        nothing counts."""
        self._notes += [f"{printable(source.name)}: {note}" for note in notes]
        for reading in readings:
            first = self.rows + 1
            self._agree(source, reading)
            TextIntake(self, source, reading).take()
            self._spans.append(Span(source.name, reading.text.member, first, self.rows))
        sha256 = source.finish()
        self._bytes += source.bytes
        return Source(source.name, source.bytes, sha256)

    def close(self) -> tuple[list[Shard], StagedFile]:
        """Finish and sync everything staged; return the shards and the rejects. Raises `BadData` for images that were
        not scaled."""
        if self._lit and not self._bright and self.options.pixel_max is None:
            raise BadData(
                f"no pixel is above {DARKEST_WHITE}: these images are not scaled to 0…255; --pixel-max M says "
                "which value is white (1, 16, …); nothing was published"
            )
        rejects = self.rejects.close()
        return self.shards.close() if self.shards else [], rejects

    def facts(self) -> dict[str, Json]:
        """What readers of the dataset need to know."""
        assert self.layout
        doubled, notes = self._doubled_keys()
        words = {"blank_lines": "blank lines", "repeated_headers": "repeated headers"}
        skipped = [f"skipped {count:,} {words[what]}" for what, count in sorted(self.skipped.items())]
        empty = [] if self.rows else ["the sources have a header and no rows: the dataset is empty"]
        return {
            "labelled": self.layout.labelled,
            "keyed": self.layout.keyed,
            "rejects": dict(sorted(self.rejects.counts.items())),
            "skipped": dict(sorted(self.skipped.items())),
            "doubled_keys": doubled,
            "spans": [asdict(span) for span in self._spans],
            "notes": [*dict.fromkeys(self._notes), *skipped, *notes, *empty],
        }

    def abandon(self) -> None:
        """Stop whatever works in the background, and close what is open; the folder will be removed."""
        if self.shards:
            self.shards.abandon()
        self.rejects.abandon()

    def note(self, text: str) -> None:
        self._notes.append(text)

    def took(self, rows: Rows, good: int, keys: list[str]) -> None:
        """The first `good` of the rows that the shards had room for were filled."""
        assert self.shards
        if good and not self._bright:
            brightest = int(rows.images[:good].max())
            self._lit, self._bright = self._lit or brightest > 0, brightest > DARKEST_WHITE
        if keys and self._keys_counted < KEYS_COUNTED:
            self._keys.append(pa.array(keys, pa.string()))
            self._keys_counted += len(keys)
        self.shards.took(good, keys)

    def check(self, source: SourceFile, unparsed: int) -> None:
        """Raise `BadData` as soon as nothing that may follow could bring the rejects back into the budget, or if they
        are too many to be kept. `unparsed`: bytes that were read and not yet looked at."""
        ahead = self._total - self._bytes - source.position + unparsed
        # At the end the budget is looked at when everything is counted; what is packed may hold any number of rows.
        left = ahead + LINE_MAX_BYTES if self._plain and ahead else float("inf")
        check_early(self.rejects, self.rows, left, self.options.max_rejects)

    def report(self, source: SourceFile) -> None:
        """Say how far this is."""
        done = self._bytes + source.position
        rate = done / 1e6 / max(time.monotonic() - self._started, 1e-9)
        facts = {"rows": f"{self.rows:,}", "MB/s": f"{rate:,.0f}", "rejects": f"{self.rejects.total:,}"}
        self._progress(Step("ingest", done, self._total, "bytes", facts))

    def _agree(self, source: SourceFile, reading: Reading) -> None:
        """All sources have the same optional columns. Raises `BadData`, naming both."""
        layout, name = reading.opening.layout, printable(reading.name(source))
        if self.layout is None:
            self._first_name, self.layout = name, layout
            self.shards = ShardWriter(
                self._scratch, labelled=layout.labelled, keyed=layout.keyed, threads=self._threads
            )
        if layout.optional != self.layout.optional:
            raise BadData(
                f"{name} has {layout.optional}, {self._first_name} has {self.layout.optional}; all sources of a "
                "dataset need the same: --label none and --key none leave these columns out"
            )

    def _doubled_keys(self) -> tuple[int, list[str]]:
        """How many rows have a key that another row has before them, and a note on it: without the keys, which are
        people's data, as notes go to Prefect."""
        if not self._keys:
            return 0, []
        import pyarrow.compute as pc

        keys = pa.chunked_array(self._keys)
        counted = pc.value_counts(keys)
        repeated = pc.sum(pc.greater(counted.field("counts"), 1)).as_py()
        doubled = len(keys) - len(counted)
        if not doubled:
            return 0, []
        least = "at least " if len(keys) >= KEYS_COUNTED else ""
        return doubled, [
            f"{least}{doubled:,} rows have a row key that a row before them has ({repeated:,} keys repeat)"
        ]
