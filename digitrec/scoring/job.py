"""One dataset's scoring: what is asked, where it goes, the proof that it is whole, and its publication."""

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from digitrec.catalog.layout import MANIFEST, dataset_folder, predictions_folder
from digitrec.catalog.listing import check_use
from digitrec.catalog.manifest import (
    File,
    Json,
    Manifest,
    digest_of,
    find_manifest,
    publish,
    read_manifest,
    same_request,
)
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.errors import ComputationFailed, TryAgain
from digitrec.options import ScoreOptions
from digitrec.scoring.counts import Counts
from digitrec.scoring.receipts import Work, attempts_folder
from digitrec.scoring.submission import SUBMISSION, write_submission
from digitrec.store.commit import sweep

RUNS = "runs"


@dataclass(frozen=True)
class Job:
    """A dataset to be scored. `asked` is the request: everything that decides what the predictions are. `unsure_below`
    is none of it: it decides what the report counts."""

    dataset: Manifest
    asked: dict[str, Json]
    work: Work
    unsure_below: float

    @property
    def name(self) -> str:
        return self.work.dataset

    @property
    def rows(self) -> int:
        return self.dataset.rows

    def manifest(self, parts: list[File], counts: Counts) -> Manifest:
        """What these parts, in order, would publish. The facts are counts, the same in every run."""
        small = {"small": counts.small} if self.work.cascade else {}
        return Manifest(
            kind="predictions",
            name=f"{self.name}/{self.asked['model']}.{self.asked['variant']}",
            asked=self.asked,
            files=tuple(parts),
            facts={"rows": sum(part.rows for part in parts), "keyed": self.work.keyed} | counts.facts() | small,
        )


def prepare(store: Store, dataset: Manifest, model: Manifest, options: ScoreOptions, precision: Arithmetic) -> Job:
    """Put the request for one dataset together. `precision` is what `options.precision` comes to."""
    variant = variant_of(options, precision)
    asked: dict[str, Json] = {
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "model": model.name,
        "model_digest": model.digest,
        "variant": variant,
    }
    work = Work(
        store=store,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        keyed=bool(dataset.facts.get("keyed")),
        model=model.name,
        model_digest=model.digest,
        precision=precision,
        cascade=options.cascade,
        probabilities=options.probabilities,
        folder=predictions_folder(dataset.name, model.name, variant),
        request=digest_of(asked),
    )
    return Job(dataset, asked, work, options.unsure_below)


def variant_of(options: ScoreOptions, precision: Arithmetic) -> str:
    """The part of a predictions folder's name that says how they were computed."""
    how = {"cascade": options.cascade, "probabilities": options.probabilities}
    return "-".join([precision, *(name for name, asked in how.items() if asked)])


def find_published(job: Job) -> Manifest | None:
    """What stands where this job would publish, if it answers the same request. Raises `AlreadyPublished` if not,
    `Misconfigured` if another digitrec made it."""
    there = find_manifest(job.work.store, job.work.folder)
    if there is not None:
        check_use(there, "predictions", job.work.store.full(job.work.folder))
        same_request(job.work.store, job.work.folder, job.manifest([], Counts()))
    return there


def publish_job(job: Job, parts: dict[int, File], counts: Counts) -> tuple[Manifest, bool]:
    """Prove that the parts, by partition, are the dataset, row for row, and make them visible. False: another run was
    first.

    `submission.csv` is written before: a disk that is full for it leaves nothing published without it.
    Raises `TryAgain` if the dataset is not the one any more that was scored.
    """
    prove(job.dataset, parts)
    store, folder = job.work.store, job.work.folder
    manifest = job.manifest([parts[index] for index in sorted(parts)], counts)
    write_submission(store, folder, manifest)
    check_dataset(job)
    created = publish(store, folder, manifest)
    return read_manifest(store, folder), created


def check_dataset(job: Job) -> None:
    """Raise `TryAgain` if the dataset was removed or replaced while it was scored."""
    there = find_manifest(job.work.store, dataset_folder(job.name))
    if there is None or there.digest != job.work.dataset_digest:
        raise TryAgain(f"dataset {job.name} was {'replaced' if there else 'removed'} while it was scored; run it again")


def prove(dataset: Manifest, parts: dict[int, File]) -> None:
    """Rows in = rows out, in order, each id once: the parts' row groups are the shards', and their ids go up.

    Raises `ComputationFailed` if not; nothing is published then.
    """
    if sorted(parts) != list(range(len(parts))):
        raise ComputationFailed(f"{dataset.name}: there is not one receipt for each partition; nothing was published")
    scored = [group for index in sorted(parts) for group in parts[index].row_groups]
    if scored != [group for shard in dataset.data_files for group in shard.row_groups]:
        raise ComputationFailed(f"{dataset.name}: the parts' ids are not the dataset's; nothing was published")
    if any(after.first_id <= before.last_id for before, after in pairwise(scored)):
        raise ComputationFailed(f"{dataset.name}: the ids do not go up; nothing was published")


def tidy(job: Job, manifest: Manifest) -> None:
    """Write `submission.csv` if it is gone, and sweep what no manifest names and nobody may still be writing."""
    store, folder = job.work.store, job.work.folder
    if not store.exists(f"{folder}/{SUBMISSION}"):
        write_submission(store, folder, manifest)
    keep = {f"{folder}/{name}" for name in (MANIFEST, SUBMISSION, RUNS)} | {file.path for file in manifest.files}
    sweep(store, folder, keep=keep)
    # Empty unless another run of the same job is at work in it.
    with suppress(OSError):
        Path(store.full(attempts_folder(job.work))).rmdir()
