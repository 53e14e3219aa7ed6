"""Rows → Parquet shards in a staging folder: row groups are encoded on all cores and written in order.

The kernel fills `room()`; a full row group goes to whatever thread is free, and one thread appends the results. Where
a shard or row group ends depends on the rows alone, so shards are byte-equal for any number of threads. Memory is
bounded by the row groups in flight, `threads` + 2.
"""

import hashlib
import os
import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from digitrec.contract import ROW_GROUP_ROWS, SHARD_ROWS
from digitrec.errors import storage_errors
from digitrec.ingest.parquet import MAGIC, EncodedRowGroup, Images, columns_of, encode_row_group, footer
from digitrec.ingest.pixels import Rows
from digitrec.store.manifest import RowGroup


@dataclass(frozen=True)
class StagedShard:
    """A finished, synced shard under its staging path."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    row_groups: tuple[RowGroup, ...]


class OpenShard:
    """The shard that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.groups: list[EncodedRowGroup] = []
        self._sha = hashlib.sha256()
        self._bytes = 0
        with storage_errors("write"):
            self._file = path.open("xb")
        self._write(MAGIC)

    def append(self, group: EncodedRowGroup) -> None:
        for chunk in group.chunks:
            self._write(chunk.data)
        self.groups.append(group.without_data())

    def finish(self, *, labelled: bool, keyed: bool) -> StagedShard:
        self._write(footer(columns_of(labelled=labelled, keyed=keyed), self.groups))
        with storage_errors("write"), self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        rows = sum(group.rows for group in self.groups)
        entries = tuple(group.entry for group in self.groups)
        return StagedShard(self.path, rows, self._bytes, self._sha.hexdigest(), entries)

    def _write(self, data: bytes) -> None:
        with storage_errors("write"):
            self._file.write(data)
        self._sha.update(data)
        self._bytes += len(data)


class ShardWriter:
    """Takes rows in order; `close` returns the shards. Errors of the threads behind it are raised by the next call."""

    def __init__(self, folder: str | Path, *, labelled: bool, keyed: bool, threads: int) -> None:
        self.rows = 0
        self._folder = Path(folder)
        self._labelled, self._keyed = labelled, keyed
        self._encoders = ThreadPoolExecutor(threads, "digitrec-encode")
        self._appender = ThreadPoolExecutor(1, "digitrec-append")
        self._free: queue.SimpleQueue[Rows | None] = queue.SimpleQueue()
        for _ in range(threads + 2):
            self._free.put(None)
        self._current: Rows | None = None
        self._filled = 0
        self._keys: list[str] = []
        self._open: OpenShard | None = None
        self._appended: list[Future[None]] = []
        self._shards: list[StagedShard] = []

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
            self._flush()

    def close(self) -> list[StagedShard]:
        """Finish the last shard; return all of them in order."""
        if self._filled:
            self._flush()
        for future in self._appended:
            future.result()
        self._finish_shard()
        self.abandon()
        return self._shards

    def abandon(self) -> None:
        """Stop the threads. What was staged is left to whoever owns the folder."""
        self._encoders.shutdown(cancel_futures=True)
        self._appender.shutdown(cancel_futures=True)

    def _flush(self) -> None:
        rows, filled, keys = self._current, self._filled, self._keys
        assert rows is not None
        self._current, self._filled, self._keys = None, 0, []
        while self._appended and self._appended[0].done():
            self._appended.pop(0).result()
        encoded = self._encoders.submit(self._encode, rows, filled, keys)
        self._appended.append(self._appender.submit(self._append, encoded))

    def _encode(self, rows: Rows, filled: int, keys: list[str]) -> EncodedRowGroup:
        try:
            labels = rows.labels[:filled] if self._labelled else None
            return encode_row_group(
                Images(rows.ids[:filled], keys if self._keyed else None, labels, rows.images[:filled])
            )
        finally:
            self._free.put(rows)

    def _append(self, encoded: Future[EncodedRowGroup]) -> None:
        group = encoded.result()
        if self._open is None:
            self._open = OpenShard(self._folder / f"shard-{len(self._shards):05d}.parquet")
        self._open.append(group)
        if len(self._open.groups) == SHARD_ROWS // ROW_GROUP_ROWS:
            self._finish_shard()

    def _finish_shard(self) -> None:
        if self._open:
            self._shards.append(self._open.finish(labelled=self._labelled, keyed=self._keyed))
            self._open = None
