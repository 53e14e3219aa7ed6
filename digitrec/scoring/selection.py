"""Which datasets are scored. It only reads; whose note can go is done later, by the run.

A scheduled run looks at what `pending/` names, and at nothing else that was ever published.
"""

from contextlib import suppress
from dataclasses import dataclass

from digitrec.catalog import listing, pending
from digitrec.catalog.layout import dataset_folder, pending_key
from digitrec.catalog.manifest import Manifest, find_manifest
from digitrec.catalog.store import Store
from digitrec.catalog.sweep import GRACE_S, remove_if_old
from digitrec.errors import DigitrecError
from digitrec.options import ScoreOptions


@dataclass(frozen=True)
class Failure:
    """A dataset whose predictions are not published, and why."""

    dataset: str
    error: DigitrecError


@dataclass(frozen=True)
class Selection:
    """`datasets` are to be scored, oldest first; `unreadable`: a dataset, or its predictions, cannot be read; `done`
    and `gone` have a note without need: there is nothing to be scored, or no dataset."""

    datasets: tuple[Manifest, ...]
    unreadable: tuple[Failure, ...] = ()
    done: tuple[Manifest, ...] = ()
    gone: tuple[str, ...] = ()


def select_datasets(store: Store, options: ScoreOptions, model: Manifest) -> Selection:
    """Return the dataset named; with `rescore` every unlabelled one that this model version has not scored; else those
    noted as pending that have no predictions by any. Raises `NoInput` if there is none of that name."""
    if options.dataset:
        return Selection((listing.dataset(store, options.dataset),))
    return _select_all(store, model) if options.rescore else _select_pending(store)


def remove_notes(store: Store, selection: Selection) -> None:
    """Remove the notes that are not needed; those without a dataset once it can be under way no longer."""
    for dataset in selection.done:
        remove_note(store, dataset)
    for name in selection.gone:
        remove_if_old(store, pending_key(name), GRACE_S)


def remove_note(store: Store, dataset: Manifest) -> None:
    """Remove the note on a dataset that needs no predictions any more. Failing to is no failure: the next run tries.

    If another one has taken its name meanwhile, that one's note may have gone instead: then it is put again. (One that
    comes later still confirms its note itself.)
    """
    with suppress(DigitrecError):
        pending.remove_note(store, dataset.name)
        if _may_be_replaced(store, dataset):
            pending.put_note(store, dataset.name)


def _may_be_replaced(store: Store, dataset: Manifest) -> bool:
    try:
        there = find_manifest(store, dataset_folder(dataset.name))
    except DigitrecError:
        return True
    return there is not None and there.digest != dataset.digest


def _select_pending(store: Store) -> Selection:
    datasets: list[Manifest] = []
    done: list[Manifest] = []
    unreadable: list[Failure] = []
    gone: list[str] = []
    for name in pending.noted(store):
        found = listing.find_listed(store, "dataset", dataset_folder(name))
        if found is None:
            gone.append(name)
        elif found.manifest is None:
            assert found.problem
            unreadable.append(Failure(found.folder, found.problem))
        else:
            try:
                waits = not found.manifest.facts["labelled"] and not pending.has_predictions(
                    store, name, found.manifest.digest
                )
                (datasets if waits else done).append(found.manifest)
            except DigitrecError as error:
                unreadable.append(Failure(name, error))
    return Selection(_by_age(datasets), tuple(unreadable), tuple(done), tuple(gone))


def _select_all(store: Store, model: Manifest) -> Selection:
    found = listing.listing(store, "dataset")
    unreadable = [Failure(entry.folder, entry.problem) for entry in found if entry.problem]
    unlabelled = [entry.manifest for entry in found if entry.manifest and not entry.manifest.facts["labelled"]]
    datasets = [manifest for manifest in unlabelled if not _is_scored_by(store, manifest, model)]
    return Selection(_by_age(datasets), tuple(unreadable))


def _is_scored_by(store: Store, dataset: Manifest, model: Manifest) -> bool:
    """Whether a dataset has predictions by a model version, in any variant. What cannot be read is reported where it
    stands in the way."""
    folder = f"predictions/{dataset.name}"
    for name in listing.folder_names(store, folder):
        if name.startswith(f"{model.name}."):
            found = listing.find_listed(store, "predictions", f"{folder}/{name}")
            asked = found.manifest.asked if found and found.manifest else {}
            if (asked.get("dataset_digest"), asked.get("model_digest")) == (dataset.digest, model.digest):
                return True
    return False


def _by_age(datasets: list[Manifest]) -> tuple[Manifest, ...]:
    return tuple(sorted(datasets, key=lambda manifest: (manifest.published, manifest.name)))
