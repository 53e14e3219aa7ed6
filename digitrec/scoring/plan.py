"""The plan of a run: what would be scored, by which model version, where, and how much it is. Making it only reads.

`digitrec score --dry-run` prints it; a run carries it out. Nothing here computes or writes anything.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from digitrec.catalog import bundled, listing
from digitrec.catalog.champion import read_champion
from digitrec.catalog.listing import check_use
from digitrec.catalog.manifest import Manifest, find_manifest
from digitrec.catalog.marker import check_format
from digitrec.catalog.publish import check_same_request
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.engines.choice import Choice, cascade_of, choose, processor_flags
from digitrec.errors import DigitrecError, NoInput
from digitrec.options import ScoreOptions
from digitrec.scoring.engine import read_card
from digitrec.scoring.executors import Execution, Placement, place
from digitrec.scoring.partitions import Partition, plan_partitions
from digitrec.scoring.receipts import find_finished
from digitrec.scoring.replaced import find_stale
from digitrec.scoring.request import Request
from digitrec.scoring.selection import Failure, Selection, select_datasets
from digitrec.scoring.space import estimate_bytes
from digitrec.settings import Settings

DRY_RUN = "dry run: nothing was computed or published"


@dataclass(frozen=True)
class DatasetPlan:
    """One dataset to be scored.

    `finished`: indices of the partitions that an earlier run seems to have finished; `stale`: folders of predictions of
    what had its name before; `published`: the predictions, if they stand there already; `needed_bytes`: of what is
    still to be written, at most (None: not looked at).
    """

    dataset: Manifest
    request: Request
    partitions: tuple[Partition, ...] = ()
    finished: frozenset[int] = frozenset()
    stale: tuple[str, ...] = ()
    published: Manifest | None = None
    needed_bytes: int | None = None

    @cached_property
    def left(self) -> tuple[Partition, ...]:
        """The partitions that are not finished."""
        return tuple(each for each in self.partitions if each.index not in self.finished)


@dataclass(frozen=True)
class PlannedDataset:
    """What a person or a script is told of one dataset's plan. `already`: it has the predictions asked for."""

    dataset: str
    folder: str
    rows: int
    partitions: int
    finished: int
    bytes: int
    already: bool
    stale: tuple[str, ...]

    def lines(self) -> list[str]:
        if self.already:
            return [f"{self.dataset}: already published, {self.rows:,} rows: {self.folder}"]
        done = f", {self.finished:,} of them finished by an earlier run" if self.finished else ""
        return [
            f"{self.dataset}: {self.rows:,} rows in {self.partitions:,} partitions{done}; "
            f"about {self.bytes / 1e6:,.1f} MB to write into {self.folder}",
            *(f"  to be set aside, as it is of what had that name before: {folder}" for folder in self.stale),
        ]


@dataclass(frozen=True)
class PlanReport:
    """A plan in plain values."""

    datasets: tuple[PlannedDataset, ...]
    failures: tuple[Failure, ...]
    model: str
    precision: Arithmetic
    executor: str
    memory_bytes: int
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        if not self.datasets and not self.failures:
            return [*self.notes, "nothing to score: no dataset waits for predictions", DRY_RUN]
        to_do = [entry for entry in self.datasets if not entry.already]
        rows, partitions, size = (
            sum(getattr(entry, name) for entry in to_do) for name in ("rows", "partitions", "bytes")
        )
        in_all = [
            f"in all {rows:,} rows, {partitions:,} partitions, about {size / 1e6:,.1f} MB to write",
            f"model: {self.model} in {self.precision}",
            f"executor: {self.executor}, about {self.memory_bytes / 1e6:,.0f} MB of memory here",
        ]
        return [
            *self.notes,
            *(line for entry in self.datasets for line in entry.lines()),
            *(f"{failure.dataset}: cannot be scored: {failure.error}" for failure in self.failures),
            *(in_all if to_do else []),
            DRY_RUN,
        ]


@dataclass(frozen=True)
class ScoringPlan:
    """Everything that a run will do, decided from what is published and nothing else.

    `datasets` come oldest first; `unplannable` ones cannot be scored, for these reasons; `is_bundled`: the model is the
    bundled one, which the run would make champion.
    """

    store: Store
    model: Manifest
    choice: Choice
    selection: Selection
    datasets: tuple[DatasetPlan, ...]
    unplannable: tuple[Failure, ...]
    placement: Placement
    is_bundled: bool = False

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What is known to fail."""
        return (*self.selection.unreadable, *self.unplannable)

    def report(self) -> PlanReport:
        """Return the plan in plain values, for people and scripts."""
        champion = f"there is no champion: {self.model.name}, which comes with digitrec, would be made champion"
        computes = any(each.published is None for each in self.datasets)
        return PlanReport(
            datasets=tuple(_report_dataset(self.store, each) for each in self.datasets),
            failures=self.failures,
            model=self.model.name,
            precision=self.choice.precision,
            executor=str(self.placement),
            memory_bytes=self.placement.memory_bytes,
            notes=(
                *([champion] if self.is_bundled else []),
                *([f"to be computed in {self.choice.precision}: {self.choice.why}"] if computes else []),
            ),
        )

    def lines(self) -> list[str]:
        """Return the plan for a person."""
        return self.report().lines()


def plan_scoring(
    store: Store, options: ScoreOptions, settings: Settings, execution: Execution = Execution()
) -> ScoringPlan:
    """Plan what `score` would do now. Reads manifests, and of keyed datasets the shards' footers; changes nothing.

    Raises what `score` raises before it computes: `NoInput`, `Misconfigured`, `Corrupt`, `StorageFailed`.
    """
    check_format(store)
    if options.dataset:
        listing.dataset(store, options.dataset)
    if options.model:
        model, card = listing.model(store, options.model), None
    elif champion := read_champion(store):
        model, card = champion, None
    elif found := bundled.read_bundled():
        model, card = found, json.loads(bundled.read_bundled_file(found.file("card.json").path))
    else:
        raise no_champion(store)
    return make_plan(store, options, settings, execution, model, card, sizes=True)


def make_plan(
    store: Store,
    options: ScoreOptions,
    settings: Settings,
    execution: Execution,
    model: Manifest,
    bundled_card: Mapping[str, Any] | None = None,
    *,
    sizes: bool,
) -> ScoringPlan:
    """Plan what a model version has to score. `bundled_card`: the card of one that is not in the store yet; `sizes`:
    estimate bytes too."""
    card = read_card(store, model) if bundled_card is None else bundled_card
    choice = choose(options.precision, card, processor_flags())
    if options.cascade:
        cascade_of(card)  # refused here, not by a worker
    selection = select_datasets(store, options, model)
    datasets, unplannable = [], []
    for dataset in selection.datasets:
        request = Request.of(store, dataset, model, options, choice.precision)
        try:
            datasets.append(plan_dataset(dataset, request, execution.partition_rows, sizes=sizes))
        except DigitrecError as error:
            unplannable.append(Failure(dataset.name, error))
    to_compute = [each for each in datasets if each.published is None]
    placement = place(
        settings,
        execution,
        rows=sum(partition.rows for each in to_compute for partition in each.left),
        partitions=sum(len(each.left) for each in to_compute),
    )
    return ScoringPlan(
        store, model, choice, selection, tuple(datasets), tuple(unplannable), placement, bundled_card is not None
    )


def plan_dataset(
    dataset: Manifest, request: Request, partition_rows: int | None = None, *, sizes: bool = False
) -> DatasetPlan:
    """Plan one dataset. Predictions of the same request are found by one read.

    Raises `AlreadyPublished` if another request stands in their place, `Corrupt` if a manifest is of no use.
    """
    store = request.store
    there = find_manifest(store, request.folder)
    if there is not None and there.request == request.digest:
        check_use(store, there, "predictions", request.folder)
        return DatasetPlan(dataset, request, published=there)
    stale = find_stale(store, dataset)
    if there is not None and request.folder not in stale:
        check_use(store, there, "predictions", request.folder)
        check_same_request(store, there, Manifest("predictions", there.name, request.asked, ()))
    partitions = plan_partitions(dataset, partition_rows)
    plan = DatasetPlan(dataset, request, partitions, find_finished(request, partitions), stale)
    return replace(plan, needed_bytes=estimate_bytes(request, dataset, plan.left)) if sizes else plan


def no_champion(store: Store) -> NoInput:
    """Return the error for a store without a model to score with."""
    return NoInput(
        f"no champion in {store.url}: train one with `digitrec ingest train.csv` and `digitrec train`, "
        "or name a --model"
    )


def _report_dataset(store: Store, plan: DatasetPlan) -> PlannedDataset:
    return PlannedDataset(
        dataset=plan.dataset.name,
        folder=store.address(plan.request.folder),
        rows=plan.dataset.rows,
        partitions=len(plan.partitions),
        finished=len(plan.finished),
        bytes=plan.needed_bytes or 0,
        already=plan.published is not None,
        stale=tuple(store.address(folder) for folder in plan.stale),
    )
