"""Two model versions on the same rows: which images they answer differently, and which of them is right more often."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from digitrec.catalog import listing as catalog
from digitrec.catalog.layout import dataset_folder
from digitrec.catalog.manifest import Manifest, find_manifest
from digitrec.catalog.store import Store
from digitrec.contract import PIXELS
from digitrec.errors import NoInput, UsageError, storage_errors
from digitrec.training.answers import Answers, ask, images_at
from digitrec.training.quality import mcnemar, softmax
from digitrec.training.sealed import Sealed, open_sealed

SHOWN = 20


@dataclass(frozen=True)
class Counts:
    """Labelled rows by who is right."""

    both: int
    only_a: int
    only_b: int
    neither: int


@dataclass(frozen=True)
class PairedTest:
    """McNemar's test on `rows` distinct labelled images that neither was trained on; `p` is exact and two-sided."""

    rows: int
    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Difference:
    """An image that is answered differently; confidences are calibrated."""

    dataset: str
    image_id: int
    label: int | None
    a: int
    a_confidence: float
    b: int
    b_confidence: float

    def line(self) -> str:
        label = "-" if self.label is None else str(self.label)
        return (
            f"  {self.dataset}  {self.image_id:>8}  {label:>5}  "
            f"{self.a} ({self.a_confidence:.2f})  {self.b} ({self.b_confidence:.2f})"
        )


@dataclass(frozen=True)
class Comparison:
    """Versions `a` and `b` on `rows` rows of datasets; without labels there are no counts and no test."""

    a: str
    b: str
    datasets: tuple[str, ...]
    validation_only: bool
    rows: int
    counts: Counts | None
    test: PairedTest | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
    picture: str | None = None

    def lines(self) -> list[str]:
        which = "validation rows" if self.validation_only else "rows"
        lines = [f"A {self.a}, B {self.b}: {self.rows:,} {which} of {', '.join(self.datasets)}"]
        if self.counts and self.test:
            lines += [
                f"right: both {self.counts.both:,}, only A {self.counts.only_a:,}, only B {self.counts.only_b:,}, "
                f"neither {self.counts.neither:,}",
                f"on {self.test.rows:,} distinct images that neither was trained on: only A {self.test.only_a:,}, "
                f"only B {self.test.only_b:,}, McNemar's p = {self.test.p:.2g}",
            ]
        lines.append(f"answered differently: {len(self.differences):,}")
        if self.differences:
            lines.append("  dataset, image_id, label, answer (confidence) of A, of B")
        lines += [difference.line() for difference in self.differences[:SHOWN]]
        if len(self.differences) > SHOWN:
            lines.append(f"  … and {len(self.differences) - SHOWN:,} more: --json lists all")
        return lines + [f"note: {note}" for note in self.notes] + ([f"wrote {self.picture}"] if self.picture else [])


def compare(store: Store, a: str, b: str, dataset: str | None = None) -> Comparison:
    """Compare on all rows of a dataset, or, by default, on the validation rows of the datasets that a and b were
    trained on, as far as they are in the store.

    Raises `NoInput` without versions or datasets, `UsageError` if both are one, `Corrupt` if bytes are damaged.
    """
    if a == b:
        raise UsageError(f"{a} cannot differ from itself: name two model versions")
    models = [open_sealed(store, version) for version in (a, b)]
    datasets, notes = ([catalog.dataset(store, dataset)], ()) if dataset else trained_on(store, models)
    if not datasets:
        lack = "; ".join(notes) or "neither names a dataset"
        raise NoInput(f"{lack}: name a --dataset to compare {a} and {b} on")
    answers = [ask(store, each, models, validation_only=dataset is None) for each in datasets]
    rights = [right for each in answers if (right := each.right()) is not None]
    right = np.concatenate(rights, axis=1) if rights else None
    return Comparison(
        a,
        b,
        tuple(each.name for each in datasets),
        validation_only=dataset is None,
        rows=sum(map(len, answers)),
        counts=None if right is None else counts_of(*right),
        test=None if right is None else paired_test(models, np.concatenate([each.digests for each in answers]), right),
        differences=tuple(difference for each in answers for difference in differences_in(each, models)),
        notes=notes,
    )


def trained_on(store: Store, models: Sequence[Sealed]) -> tuple[list[Manifest], tuple[str, ...]]:
    """The datasets that models were trained on and that are still there, and a note for each that is not."""
    wanted = {(each["name"], each["digest"]): model for model in models for each in model.manifest.asked["datasets"]}
    there, notes = [], []
    for (name, digest), model in wanted.items():
        manifest = find_manifest(store, dataset_folder(name))
        if manifest and manifest.digest == digest:
            there.append(manifest)
        else:
            instead = "; another one has this name" if manifest else ""
            notes.append(f"dataset {name}, which {model.version} was trained on, is not in this store{instead}")
    return there, tuple(notes)


def counts_of(a: np.ndarray, b: np.ndarray) -> Counts:
    """Who is right, bool [n] each."""
    return Counts(int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum()), int((~a & ~b).sum()))


def paired_test(models: Sequence[Sealed], digests: np.ndarray, right: np.ndarray) -> PairedTest:
    """Digests of rows uint64 [n], and which of them each of two models gets right, bool [2, n]."""
    distinct, first = np.unique(digests, return_index=True)
    unseen = first[~np.any([model.has_seen(distinct) for model in models], axis=0)]
    counts = counts_of(*right[:, unseen])
    return PairedTest(len(unseen), counts.only_a, counts.only_b, mcnemar(counts.only_a, counts.only_b))


def differences_in(answers: Answers, models: Sequence[Sealed]) -> Iterator[Difference]:
    """The rows of one dataset that two models answer differently, in order."""
    labels = [None] * len(answers) if answers.labels is None else answers.labels.tolist()
    a, b = (logits.argmax(axis=1) for logits in answers.logits)
    sure_a, sure_b = (
        softmax(logits / model.temperature).max(axis=1) for logits, model in zip(answers.logits, models, strict=True)
    )
    for row in np.flatnonzero(a != b).tolist():
        ours, theirs = (int(a[row]), float(sure_a[row])), (int(b[row]), float(sure_b[row]))
        yield Difference(answers.dataset, int(answers.image_ids[row]), labels[row], *ours, *theirs)


def with_picture(store: Store, comparison: Comparison, path: Path) -> Comparison:
    """Write the images that are answered differently as a contact sheet, a PNG file, the first 64 of them.

    Raises `UsageError` if the name does not end in .png, `StorageFailed` if it cannot be written.
    """
    from digitrec.training.plots import SHEET_IMAGES_MAX, contact_sheet

    if path.suffix.lower() != ".png":
        raise UsageError(f"--picture {path}: expected a name that ends in .png")
    shown = comparison.differences[:SHEET_IMAGES_MAX]
    captions = [f"{each.label if each.label is not None else '?'}: {each.a} | {each.b}" for each in shown]
    count = (
        f"{len(shown)} of {len(comparison.differences):,}" if len(comparison.differences) > len(shown) else len(shown)
    )
    title = f"{count} images answered differently\nlabel: {comparison.a} | {comparison.b}"
    with storage_errors("write", path):
        path.write_bytes(contact_sheet(images_of_differences(store, shown), captions, title))
    return replace(comparison, picture=str(path))


def images_of_differences(store: Store, differences: Sequence[Difference]) -> np.ndarray:
    """uint8 [n, 784], in order."""
    found = (
        images_at(store, catalog.dataset(store, name), [each.image_id for each in group])
        for name, group in groupby(differences, key=lambda each: each.dataset)
    )
    return np.concatenate([np.empty((0, PIXELS), np.uint8), *found])
