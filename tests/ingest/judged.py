"""What ingest makes of a file, row by row, without writing a dataset."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from digitrec.errors import BadData
from digitrec.ingest import intake
from digitrec.ingest.csv import SourceFile
from digitrec.ingest.intake import Intake
from digitrec.ingest.members import readings_of
from digitrec.ingest.origins import local_file
from digitrec.ingest.pixels import Rows
from digitrec.ingest.rejects import Reject, RejectsFile
from digitrec.options import ReadOptions
from digitrec.storage import Scratch, StagedFile
from digitrec.storage.memory import MemoryStorage

from .reference import Outcome, Refusal, Row

ROOM = 64


class MemoryRejects(RejectsFile):
    """Keeps rejects instead of writing them."""

    def __init__(self, file: StagedFile) -> None:
        super().__init__(file)
        self.kept: list[Reject] = []

    def extend(self, rejects: Iterable[Reject]) -> None:
        kept = list(rejects)
        self.kept += kept
        super().extend(kept)


class MemoryShards:
    """Keeps rows instead of writing them, `ROOM` at a time."""

    def __init__(self, _: Scratch, *, labelled: bool, keyed: bool, threads: int) -> None:
        self.labelled, self.keyed = labelled, keyed
        self.kept: list[Row] = []
        self._rows = Rows.empty(ROOM, keyed=keyed)

    def room(self) -> Rows:
        return self._rows

    def took(self, good: int, keys: Sequence[str]) -> None:
        for n in range(good):
            label = int(self._rows.labels[n]) if self.labelled else None
            key = keys[n] if self.keyed else None
            self.kept.append(Row(int(self._rows.ids[n]), key, label, self._rows.images[n].tobytes()))

    def abandon(self) -> None:
        pass


def judge(path: Path, options: ReadOptions, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """The verdict on each row of a file, in order."""
    monkeypatch.setattr(intake, "RejectsFile", MemoryRejects)
    monkeypatch.setattr(intake, "ShardWriter", MemoryShards)
    with (
        MemoryStorage().scratch() as scratch,
        SourceFile(local_file(path)) as source,
        Intake(scratch, options, 1, lambda _: None, 0, plain=False) as taken,
    ):
        try:
            taken.take(source, readings_of(source, options)[0])
        except BadData as error:
            if "cut short" in str(error) or "several rows in one line" in str(error):
                return Outcome(cut_short=True)
            raise
        shards, rejects = taken.shards, taken.rejects
        assert isinstance(shards, MemoryShards)
        assert isinstance(rejects, MemoryRejects)
        refusals = [Refusal(r.image_id, r.line, r.byte_offset, place_of(r.column), r.reason) for r in rejects.kept]
        verdicts = sorted([*shards.kept, *refusals], key=lambda verdict: verdict.image_id)
        return Outcome(tuple(verdicts), taken.skipped["blank_lines"], taken.skipped["repeated_headers"])


def place_of(column: str | None) -> str | None:
    """A column's name; that of one without a name is empty, as it is in the file."""
    return "" if column and column.startswith("number ") else column
