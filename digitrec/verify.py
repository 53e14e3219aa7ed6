"""`digitrec verify`: hash every byte again, and prove that every id is there once. Trusts nothing but digests."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.champion import history
from digitrec.catalog.layout import MANIFEST, champion_folder, dataset_folder, manifest_path, model_folder
from digitrec.catalog.listing import TOP, folders
from digitrec.catalog.manifest import File, Kind, Manifest, RowGroup, check_file, find_manifest, read_manifest
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, DigitrecError, NoInput, StorageFailed, storage_errors
from digitrec.scoring.submission import SUBMISSION, submission

NAMED_PROBLEMS = 20


@dataclass(frozen=True)
class VerifyReport:
    """What was found whole: manifests of each kind, files and bytes hashed, rows whose ids were compared."""

    store: str
    datasets: int
    models: int
    predictions: int
    files: int
    bytes: int
    rows: int
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        return [
            f"{self.store} is whole: {self.datasets} datasets, {self.models} models, {self.predictions} predictions; "
            f"{self.files:,} files, {self.bytes:,} bytes hashed, {self.rows:,} rows, each id once and in order",
            *self.notes,
        ]


def verify(store: Store, paths: Sequence[Path] = ()) -> VerifyReport:
    """Check everything published at or below `paths`, or in the whole store. Nothing is changed.

    Raises `Corrupt`, naming every damaged file; `NoInput` if nothing is published at a path.
    """
    examiner = Examiner(store)
    for folder in published_folders(store, paths):
        examiner.attempt(examiner.examine, folder)
    if not paths:
        examiner.attempt(examiner.examine_champion)
    examiner.raise_if_damaged()
    return examiner.report()


def published_folders(store: Store, paths: Sequence[Path]) -> list[str]:
    """Return every folder that may hold a manifest, in the store or at and below the paths."""
    if not paths and not store.exists(""):
        raise NoInput(f"there is no store at {store.url}; see --store")
    everything = [folder for kind in TOP for folder in folders(store, kind) if may_hold_manifest(store, folder)]
    if not paths:
        return everything
    named: dict[str, None] = {}
    for path in paths:
        below = [folder for folder in everything if Path(store.full(folder)).resolve().is_relative_to(path.resolve())]
        if not below:
            raise NoInput(f"nothing is published at {path}: expected a folder of {store.url} with a {MANIFEST}")
        named |= dict.fromkeys(below)
    return list(named)


def may_hold_manifest(store: Store, folder: str) -> bool:
    """Whether a folder is published, or cannot be looked into: then the examination says why."""
    try:
        return store.exists(manifest_path(folder))
    except StorageFailed:
        return True


class Examiner:
    """Goes through published folders, counts what is whole and collects what is not."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.whole: Counter[Kind] = Counter()
        self.files = self.bytes = self.rows = 0
        self.notes: list[str] = []
        self.problems: list[str] = []

    def attempt(self, check: Callable[..., None], *what: object) -> bool:
        """Run a check; whatever it finds wrong is a problem, and the examination goes on. True if all is well."""
        try:
            with storage_errors("read"):
                check(*what)
            return True
        except (DigitrecError, pa.ArrowException) as error:
            self.problems.append(str(error))
            return False

    def examine(self, folder: str) -> None:
        """Everything a manifest names and everything it claims."""
        manifest = read_manifest(self.store, folder)
        hashed = [self.attempt(self.examine_file, file) for file in manifest.files]
        if not all(hashed):
            return
        self.examine_ids(manifest)
        if manifest.kind == "predictions":
            self.compare_dataset(manifest, folder)
            self.compare_submission(manifest, folder)
        self.whole[manifest.kind] += 1

    def examine_file(self, file: File) -> None:
        check_file(self.store, file)
        self.files += 1
        self.bytes += file.bytes

    def examine_ids(self, manifest: Manifest) -> None:
        """The ids in the files are those of the manifest's row groups, and go up from the first to the last."""
        before: int | None = None
        for file in manifest.data_files:
            full = self.store.full(file.path)
            with pq.ParquetFile(full) as parquet:
                groups = [parquet.read_row_group(i, columns=["image_id"]) for i in range(parquet.num_row_groups)]
            ids = [group["image_id"].to_numpy() for group in groups if group.num_rows]
            if tuple(map(RowGroup.of, ids)) != file.row_groups or sum(map(len, ids)) != file.rows:
                raise Corrupt(f"{full} does not hold the ids its manifest names")
            for run in ids:
                if (before is not None and run[0] <= before) or (np.diff(run) <= 0).any():
                    raise Corrupt(f"{full}: ids are doubled or out of order")
                before = int(run[-1])
            self.rows += file.rows

    def compare_dataset(self, predictions: Manifest, folder: str) -> None:
        """Rows in = rows out: the parts' ids are those of the dataset that was scored."""
        name = predictions.asked["dataset"]
        dataset = find_manifest(self.store, dataset_folder(name))
        if dataset is None:
            self.notes.append(f"{folder}: dataset {name} is gone, its ids were not compared")
        elif dataset.digest != predictions.asked["dataset_digest"]:
            raise Corrupt(
                f"{self.store.full(folder)} was made from another state of dataset {name}; "
                f"`digitrec score --dataset {name}` sets it aside and scores what is there now"
            )
        elif row_groups(predictions) != row_groups(dataset):
            raise Corrupt(f"{self.store.full(folder)} does not have the ids of dataset {name}")

    def compare_submission(self, predictions: Manifest, folder: str) -> None:
        """`submission.csv` says what the parts say."""
        full = Path(self.store.full(f"{folder}/{SUBMISSION}"))
        if not self.store.exists(f"{folder}/{SUBMISSION}"):
            self.notes.append(f"{folder}: {SUBMISSION} is missing; `digitrec score --dataset …` writes it again")
            return
        with full.open("rb") as file:
            if any(file.read(len(block)) != block for block in submission(self.store, predictions)) or file.read(1):
                raise Corrupt(f"{full} is not what the parts say; remove it, and `digitrec score` writes it again")

    def examine_champion(self) -> None:
        """The champion's log is complete, and every version in it is there."""
        for version in sorted({entry.version for entry in history(self.store)}):
            if not self.store.exists(manifest_path(model_folder(version))):
                raise Corrupt(f"model {version} stands in {self.store.full(champion_folder())} and is missing")

    def raise_if_damaged(self) -> None:
        """Raise `Corrupt` if anything was found."""
        if self.problems:
            more = len(self.problems) - NAMED_PROBLEMS
            named = "; ".join(self.problems[:NAMED_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
            raise Corrupt(f"{len(self.problems)} damaged: {named}")

    def report(self) -> VerifyReport:
        return VerifyReport(
            store=self.store.url,
            datasets=self.whole["dataset"],
            models=self.whole["model"],
            predictions=self.whole["predictions"],
            files=self.files,
            bytes=self.bytes,
            rows=self.rows,
            notes=tuple(self.notes),
        )


def row_groups(manifest: Manifest) -> list[RowGroup]:
    return list(chain.from_iterable(file.row_groups for file in manifest.data_files))
