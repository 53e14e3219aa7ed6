"""One dataset's scoring: what is asked, where it goes, the proof that it is whole, and its publication."""

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from digitrec.contract import CLASSES
from digitrec.engines import Arithmetic
from digitrec.errors import ComputationFailed
from digitrec.options import ScoreOptions
from digitrec.scoring.receipts import Receipt, Work, attempts_folder
from digitrec.scoring.submission import SUBMISSION, write_submission
from digitrec.store.commit import sweep
from digitrec.store.layout import MANIFEST, Store, predictions_folder
from digitrec.store.manifest import Json, Manifest, digest_of, find_manifest, publish, read_manifest, same_request

RUNS = "runs"


@dataclass(frozen=True)
class Job:
    """A dataset to be scored. `asked` is the request: everything that decides what the predictions are."""

    dataset: Manifest
    asked: dict[str, Json]
    work: Work

    @property
    def name(self) -> str:
        return self.work.dataset

    @property
    def rows(self) -> int:
        return self.dataset.rows

    def manifest(self, receipts: list[Receipt]) -> Manifest:
        """What these parts would publish; `receipts` in order. The facts are counts, the same in every run."""
        labels = [sum(receipt.labels[label] for receipt in receipts) for label in range(CLASSES)]
        small = {"small": sum(receipt.small for receipt in receipts)} if self.work.cascade else {}
        return Manifest(
            kind="predictions",
            name=f"{self.name}/{self.asked['model']}.{self.asked['variant']}",
            asked=self.asked,
            files=tuple(receipt.file for receipt in receipts),
            facts={
                "rows": sum(receipt.file.rows for receipt in receipts),
                "unsure": sum(receipt.unsure for receipt in receipts),
                "labels": labels,
                "keyed": self.work.keyed,
            }
            | small,
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
        "unsure_below": options.unsure_below,
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
        unsure_below=options.unsure_below,
        folder=predictions_folder(dataset.name, model.name, variant),
        request=digest_of(asked),
    )
    return Job(dataset, asked, work)


def variant_of(options: ScoreOptions, precision: Arithmetic) -> str:
    """The part of a predictions folder's name that says how they were computed."""
    how = {"cascade": options.cascade, "probabilities": options.probabilities}
    return "-".join([precision, *(name for name, asked in how.items() if asked)])


def find_published(job: Job) -> Manifest | None:
    """What stands where this job would publish, if it answers the same request. Raises `AlreadyPublished` if not."""
    there = find_manifest(job.work.store, job.work.folder)
    if there is not None:
        same_request(job.work.store, job.work.folder, job.manifest([]))
    return there


def publish_job(job: Job, receipts: list[Receipt]) -> tuple[Manifest, bool]:
    """Prove that the parts are the dataset, row for row, and make them visible. False: another run was first."""
    prove(job.dataset, receipts)
    created = publish(job.work.store, job.work.folder, job.manifest(receipts))
    return read_manifest(job.work.store, job.work.folder), created


def prove(dataset: Manifest, receipts: list[Receipt]) -> None:
    """Rows in = rows out, in order, each id once: the parts' row groups are the shards', and their ids go up.

    Raises `ComputationFailed` if not; nothing is published then.
    """
    scored = [group for receipt in receipts for group in receipt.file.row_groups]
    if [receipt.index for receipt in receipts] != list(range(len(receipts))):
        raise ComputationFailed(f"{dataset.name}: there is not one receipt for each partition; nothing was published")
    if scored != [group for shard in dataset.data_files for group in shard.row_groups]:
        raise ComputationFailed(f"{dataset.name}: the parts' ids are not the dataset's; nothing was published")
    if any(after.first_id <= before.last_id for before, after in pairwise(scored)):
        raise ComputationFailed(f"{dataset.name}: the ids do not go up; nothing was published")


def tidy(job: Job, manifest: Manifest) -> None:
    """Derive what is derived, and sweep what nobody names and nobody may still be writing."""
    store, folder = job.work.store, job.work.folder
    if not store.exists(f"{folder}/{SUBMISSION}"):
        write_submission(store, folder, manifest)
    keep = {f"{folder}/{name}" for name in (MANIFEST, SUBMISSION, RUNS)} | {file.path for file in manifest.files}
    sweep(store, folder, keep=keep)
    # Empty unless another run of the same job is at work in it.
    with suppress(OSError):
        Path(store.full(attempts_folder(job.work))).rmdir()
