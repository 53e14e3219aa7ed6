"""What is asked of scoring: the request for one dataset, and the task that a worker gets."""

from dataclasses import dataclass
from functools import cached_property

from digitrec.catalog.layout import predictions_folder
from digitrec.catalog.manifest import Json, Manifest, digest_of
from digitrec.catalog.store import Store
from digitrec.engines import Arithmetic
from digitrec.options import ScoreOptions
from digitrec.scoring.partitions import Partition


@dataclass(frozen=True)
class Request:
    """Everything that determines the predictions of one dataset. A URL and digests: neither weights nor pixels travel
    with it to a worker."""

    store: Store
    dataset: str
    dataset_digest: str
    keyed: bool
    model: str
    model_digest: str
    precision: Arithmetic
    cascade: bool = False
    probabilities: bool = False

    @classmethod
    def of(
        cls, store: Store, dataset: Manifest, model: Manifest, options: ScoreOptions, precision: Arithmetic
    ) -> "Request":
        """Return the request for one dataset; `precision` is what `options.precision` comes to."""
        return cls(
            store=store,
            dataset=dataset.name,
            dataset_digest=dataset.digest,
            keyed=bool(dataset.facts.get("keyed")),
            model=model.name,
            model_digest=model.digest,
            precision=precision,
            cascade=options.cascade,
            probabilities=options.probabilities,
        )

    @property
    def variant(self) -> str:
        """How they are computed, as the name of their folder says it."""
        how = {"cascade": self.cascade, "probabilities": self.probabilities}
        return "-".join([self.precision, *(name for name, asked in how.items() if asked)])

    @property
    def asked(self) -> dict[str, Json]:
        """The request in plain words, as their manifest has it."""
        return {
            "dataset": self.dataset,
            "dataset_digest": self.dataset_digest,
            "model": self.model,
            "model_digest": self.model_digest,
            "variant": self.variant,
        }

    @cached_property
    def digest(self) -> str:
        """The digest of `asked`: `Manifest.request` of the predictions."""
        return digest_of(self.asked)

    @cached_property
    def folder(self) -> str:
        """The key of the folder where the predictions are published."""
        return predictions_folder(self.dataset, self.model, self.variant)


@dataclass(frozen=True)
class Task:
    """One partition of one dataset."""

    request: Request
    partition: Partition

    def __str__(self) -> str:
        return f"{self.partition} of {self.request.dataset}"

    @property
    def shard_key(self) -> str:
        """The key of the shard that it reads."""
        return f"datasets/{self.request.dataset}/{self.partition.shard.path}"

    @property
    def shard_address(self) -> str:
        """What names that shard to a person."""
        return self.request.store.address(self.shard_key)
