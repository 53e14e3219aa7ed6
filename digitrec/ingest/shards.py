"""Rows → staged Parquet shards: a thread a shard, a few neighbouring shards at a time.

The kernel fills `room()`; a full row group goes to the thread that writes its shard. Arrow encodes the row groups of a
file one after the other, so cores are kept busy by writing several shards at once. Where a shard or a row group ends
depends on the rows alone, so shards are byte-equal for any number of threads. Memory is bounded by the row groups that
are in flight.
"""

import queue
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.manifest import RowGroup
from digitrec.contract import PIXELS, ROW_GROUP_ROWS, SHARD_ROWS, arrow, shard_schema
from digitrec.errors import DigitrecError
from digitrec.ingest.pixels import Rows
from digitrec.storage import Scratch, StagedFile

GROUPS_PER_SHARD = SHARD_ROWS // ROW_GROUP_ROWS
CORES_PER_SHARD = 2
"""To read, hash and parse what a shard's thread encodes takes as long as to encode it."""
IN_FLIGHT = 3
"""One row group is filled, one encoded, one waits between them."""
SHARDS_AT_ONCE_MAX = 4
"""More would take memory for row groups (13 MB each) that one parsing thread cannot fill anyway."""


@dataclass(frozen=True)
class Shard:
    """A finished, synced shard that is not uploaded yet."""

    file: StagedFile
    row_groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.row_groups)


class OpenShard:
    """The shard that is being written; used by one thread at a time."""

    def __init__(self, file: StagedFile, schema: pa.Schema) -> None:
        self.file, self.schema = file, schema
        self.groups: list[RowGroup] = []
        self._writer: pq.ParquetWriter | None = None

    def append(self, rows: Rows, keys: Sequence[str]) -> None:
        """Encode one row group and write it."""
        self._writer = self._writer or open_writer(self.file, self.schema)
        self._writer.write_batch(batch_of(self.schema, rows, keys), row_group_size=ROW_GROUP_ROWS)
        self.groups.append(RowGroup.of(rows.ids))

    def finish(self) -> None:
        """Write what Parquet has at its end."""
        writer, self._writer = self._writer, None
        if writer:
            writer.close()

    def synced(self) -> Shard:
        """Close the file once it is finished, and return the shard."""
        self.file.close()
        return Shard(self.file, tuple(self.groups))

    def abandon(self) -> None:
        """Close the file whatever it holds; it will be removed."""
        if not self.file.closed:
            with suppress(DigitrecError):
                self.finish()
            self.file.discard()


def open_writer(file: StagedFile, schema: pa.Schema) -> pq.ParquetWriter:
    """Pixels do not repeat as whole images and have no order: no dictionary and no statistics for them."""
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=[name for name in schema.names if name != "image"],
        write_page_checksum=True,
    )


def batch_of(schema: pa.Schema, rows: Rows, keys: Sequence[str]) -> pa.RecordBatch:
    """The rows as Arrow sees them; the kernel's memory is used as it is."""
    columns: dict[str, pa.Array] = {
        "image_id": arrow(rows.ids),
        "label": arrow(rows.labels),
        "image": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(PIXELS), len(rows.ids), [None, pa.py_buffer(rows.images)]
        ),
    }
    if "key" in schema.names:
        columns["key"] = pa.array(keys, pa.string())
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def sync_when(finished: "Future[None]", shard: OpenShard) -> Shard:
    finished.result()
    return shard.synced()


class ShardWriter:
    """Takes rows in order; `close` returns the shards. Errors of the threads behind it are raised by a later call."""

    def __init__(self, scratch: Scratch, *, labelled: bool, keyed: bool, threads: int) -> None:
        self.rows = 0
        self._scratch, self._keyed = scratch, keyed
        self._schema = shard_schema(labelled=labelled, keyed=keyed)
        shards = min(max(threads // CORES_PER_SHARD, 1), SHARDS_AT_ONCE_MAX)
        self._threads = [ThreadPoolExecutor(1, "digitrec-shard") for _ in range(shards)]
        self._syncer = ThreadPoolExecutor(1, "digitrec-sync")
        # The last shard's thread has work as soon as those before it have all their row groups.
        self._free: queue.SimpleQueue[Rows | None] = queue.SimpleQueue()
        for _ in range(GROUPS_PER_SHARD * (shards - 1) + IN_FLIGHT):
            self._free.put(None)
        self._current: Rows | None = None
        self._filled = 0
        self._keys: list[str] = []
        self._shards: list[OpenShard] = []
        self._groups = 0
        self._written: deque[Future[None]] = deque()
        self._finished: list[Future[Shard]] = []

    def room(self) -> Rows:
        """Where the next rows go: at least one. Waits while too many row groups are in flight."""
        if self._current is None:
            self._current = self._free.get() or Rows.empty(ROW_GROUP_ROWS, keyed=self._keyed)
        return self._current.after(self._filled)

    def took(self, rows: int, keys: Sequence[str]) -> None:
        """The first `rows` of `room()` were filled; `keys` are theirs, if there are any."""
        self._filled += rows
        self.rows += rows
        self._keys.extend(keys)
        if self._filled == ROW_GROUP_ROWS:
            self._hand_over()

    def close(self) -> list[Shard]:
        """Finish the last shard; return all of them in order."""
        if self._filled:
            self._hand_over()
        if self._groups % GROUPS_PER_SHARD:
            self._finish_shard()
        while self._written:
            self._written.popleft().result()
        shards = [future.result() for future in self._finished]
        self.abandon()
        return shards

    def abandon(self) -> None:
        """Stop the threads. What was staged is removed with its folder."""
        for thread in (*self._threads, self._syncer):
            thread.shutdown(cancel_futures=True)
        for shard in self._shards:
            shard.abandon()

    def _hand_over(self) -> None:
        """Give the filled row group to the thread of its shard."""
        rows, filled, keys = self._current, self._filled, self._keys
        assert rows is not None
        self._current, self._filled, self._keys = None, 0, []
        while self._written and self._written[0].done():
            self._written.popleft().result()
        if self._groups % GROUPS_PER_SHARD == 0:
            file = self._scratch.create(f"shard-{len(self._shards):05d}.parquet")
            self._shards.append(OpenShard(file, self._schema))
        self._groups += 1
        self._written.append(self._thread().submit(self._write, self._shards[-1], rows, filled, keys))
        if self._groups % GROUPS_PER_SHARD == 0:
            self._finish_shard()

    def _write(self, shard: OpenShard, rows: Rows, filled: int, keys: list[str]) -> None:
        try:
            shard.append(rows.until(filled), keys)
        finally:
            self._free.put(rows)

    def _finish_shard(self) -> None:
        """Syncing waits for the disk: the thread that encodes goes on with the next shard."""
        finished = self._thread().submit(self._shards[-1].finish)
        self._finished.append(self._syncer.submit(sync_when, finished, self._shards[-1]))

    def _thread(self) -> ThreadPoolExecutor:
        """The thread of the newest shard."""
        return self._threads[(len(self._shards) - 1) % len(self._threads)]
