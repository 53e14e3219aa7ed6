"""`digitrec verify`: hash every byte again, and prove that every id is there once. Trusts nothing but digests."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitrec.catalog.champion import Entry, entry_key, read_log
from digitrec.catalog.layout import MANIFEST, dataset_folder, manifest_path, model_folder
from digitrec.catalog.listing import TOP, folders
from digitrec.catalog.manifest import File, Kind, Manifest, RowGroup, check_file, find_manifest, read_manifest
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, DigitrecError, NoInput, OldStore, StorageFailed
from digitrec.scoring.submission import SUBMISSION, submission
from digitrec.storage import NotFound

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


def verify(store: Store, places: Sequence[str] = ()) -> VerifyReport:
    """Check everything published at or below `places` (addresses, or keys of the store), or in the whole store. Nothing
    is changed.

    Raises `Corrupt`, naming every damaged file; `NoInput` if nothing is published at a place; `OldStore`.
    """
    examiner = Examiner(store)
    for folder in _published_folders(store, places):
        examiner.attempt(examiner.examine, folder)
    if not places:
        examiner.attempt(examiner.examine_champion)
    examiner.raise_if_damaged()
    return examiner.report()


def _published_folders(store: Store, places: Sequence[str]) -> list[str]:
    """Return every folder that may hold a manifest, in the store or at and below the places."""
    if not places and not store.storage.list(""):
        raise NoInput(f"there is no store at {store.url}; see --store")
    everything = [folder for kind in TOP for folder in folders(store, kind) if _may_hold_manifest(store, folder)]
    if not places:
        return everything
    named: dict[str, None] = {}
    for place in places:
        key = store.storage.key_of(place)
        prefix = place.rstrip("/") if key is None else key
        below = everything if key == "" else [each for each in everything if f"{each}/".startswith(f"{prefix}/")]
        if not below:
            raise NoInput(f"nothing is published at {place}: expected a folder of {store.url} with a {MANIFEST}")
        named |= dict.fromkeys(below)
    return list(named)


def _may_hold_manifest(store: Store, folder: str) -> bool:
    """Whether a folder is published, or cannot be looked into: then the examination says why."""
    try:
        return store.storage.exists(manifest_path(folder))
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
            check(*what)
            return True
        except OldStore:
            raise
        except NotFound as error:
            problem: Exception = Corrupt(f"{self.store.address(error.key)} went while it was looked at; run it again")
        except (DigitrecError, pa.ArrowException) as error:
            problem = error
        self.problems.append(str(problem))
        return False

    def examine(self, folder: str) -> None:
        """Everything a manifest names and everything it claims."""
        manifest = read_manifest(self.store, folder)
        hashed = [self.attempt(self.examine_file, manifest, file) for file in manifest.files]
        if not all(hashed):
            return
        self.examine_ids(manifest)
        if manifest.kind == "predictions":
            self.compare_dataset(manifest, folder)
            self.compare_submission(manifest, folder)
        self.whole[manifest.kind] += 1

    def examine_file(self, manifest: Manifest, file: File) -> None:
        """The bytes of a file are those that the manifest names."""
        check_file(self.store, manifest.key(file), file)
        self.files += 1
        self.bytes += file.bytes

    def examine_ids(self, manifest: Manifest) -> None:
        """The ids in the files are those of the manifest's row groups, and go up from the first to the last."""
        before: int | None = None
        for file in manifest.data_files:
            where = self.store.address(manifest.key(file))
            with self.store.storage.open(manifest.key(file)) as source, pq.ParquetFile(source) as parquet:
                groups = [parquet.read_row_group(i, columns=["image_id"]) for i in range(parquet.num_row_groups)]
            ids = [group["image_id"].to_numpy() for group in groups if group.num_rows]
            if tuple(map(RowGroup.of, ids)) != file.row_groups or sum(map(len, ids)) != file.rows:
                raise Corrupt(f"{where} does not hold the ids its manifest names")
            for run in ids:
                if (before is not None and run[0] <= before) or (np.diff(run) <= 0).any():
                    raise Corrupt(f"{where}: ids are doubled or out of order")
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
                f"{self.store.address(folder)} was made from another state of dataset {name}; "
                f"`digitrec score --dataset {name}` sets it aside and scores what is there now"
            )
        elif _row_groups(predictions) != _row_groups(dataset):
            raise Corrupt(f"{self.store.address(folder)} does not have the ids of dataset {name}")

    def compare_submission(self, predictions: Manifest, folder: str) -> None:
        """`submission.csv` says what the parts say."""
        key = f"{folder}/{SUBMISSION}"
        try:
            found = self.store.storage.open(key)
        except NotFound:
            self.notes.append(f"{folder}: {SUBMISSION} is missing; `digitrec score --dataset …` writes it again")
            return
        with found as file:
            if any(file.read(len(block)) != block for block in submission(self.store, predictions)) or file.read(1):
                raise Corrupt(
                    f"{self.store.address(key)} is not what the parts say; remove it, and `digitrec score` writes it "
                    "again"
                )

    def examine_champion(self) -> None:
        """The champion's log is complete, and every version in it is there as it was promoted."""
        promoted = {(entry.version, entry.digest): entry for entry in read_log(self.store)}
        for entry in promoted.values():
            self.attempt(self.examine_promoted, entry)

    def examine_promoted(self, entry: Entry) -> None:
        """The version of an entry is published with the manifest of its digest."""
        manifest = find_manifest(self.store, model_folder(entry.version))
        if manifest is None or manifest.digest != entry.digest:
            state = "is missing" if manifest is None else "was made anew since"
            raise Corrupt(f"model {entry.version}, promoted by {self.store.address(entry_key(entry.number))}, {state}")

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


def _row_groups(manifest: Manifest) -> list[RowGroup]:
    return list(chain.from_iterable(file.row_groups for file in manifest.data_files))
