"""How good a sealed model is on a labelled dataset. Rows that it was trained on are refused, or told apart."""

from dataclasses import dataclass

import numpy as np

from digitrec.catalog import listing as catalog
from digitrec.catalog.manifest import Manifest
from digitrec.catalog.store import Store
from digitrec.errors import BadData
from digitrec.training.answers import Answers, ask
from digitrec.training.quality import Quality, judge
from digitrec.training.rows import for_validation
from digitrec.training.sealed import Sealed, open_sealed


@dataclass(frozen=True)
class Evaluation:
    """A model on a dataset: on rows that it was not trained on, and, if that was allowed, on those it was.

    `validation_rows` are those of the unseen that lie on the validation side of the split: where its own datasets hold
    them, they have chosen its epoch and temperature.
    """

    version: str
    dataset: str
    unseen: Quality | None
    seen: Quality | None
    validation_rows: int

    def lines(self) -> list[str]:
        lines = [f"{self.version} on {self.dataset}"]
        if self.unseen:
            lines += quality_lines("rows it was not trained on", self.unseen)
        if self.validation_rows:
            lines.append(
                f"  {self.validation_rows:,} of them validate, by the split: "
                "those that its own datasets hold have chosen its epoch and temperature"
            )
        if self.seen:
            lines += quality_lines("SEEN: rows it was trained on; this says nothing about new digits", self.seen)
        return lines


def evaluate(store: Store, version: str, dataset: str, *, allow_seen: bool = False) -> Evaluation:
    """Measure a model version on a labelled dataset.

    Raises `NoInput` without either, `BadData` if the dataset has no labels or no rows, or, unless `allow_seen`, if the
    model was trained on any of them; `Corrupt` if bytes are damaged.
    """
    manifest, model = labelled(store, dataset), open_sealed(store, version)
    answers = ask(store, manifest, [model])
    seen = model.has_seen(answers.digests)
    if seen.any() and not allow_seen:
        raise BadData(refusal(version, dataset, int(seen.sum()), len(seen)))
    return Evaluation(
        version,
        dataset,
        unseen=quality_of(answers, ~seen, model),
        seen=quality_of(answers, seen, model),
        validation_rows=int(for_validation(answers.digests[~seen]).sum()),
    )


def labelled(store: Store, dataset: str) -> Manifest:
    manifest = catalog.dataset(store, dataset)
    if not manifest.facts["labelled"] or not manifest.rows:
        lack = "rows" if manifest.facts["labelled"] else "labels"
        raise BadData(f"dataset {dataset} has no {lack}: expected one made from a CSV with a label column, and rows")
    return manifest


def refusal(version: str, dataset: str, seen: int, rows: int) -> str:
    return (
        f"{version} was trained on {seen:,} of the {rows:,} rows of {dataset}, so its accuracy there says nothing "
        "about new digits: name a dataset it has not seen, or --allow-seen to measure seen and unseen rows apart"
    )


def quality_of(answers: Answers, chosen: np.ndarray, model: Sealed) -> Quality | None:
    """Quality on the rows that a mask chooses; None if it chooses none."""
    if answers.labels is None or not chosen.any():
        return None
    return judge(answers.logits[0][chosen], answers.labels[chosen], model.temperature)


def quality_lines(title: str, quality: Quality) -> list[str]:
    low, high = quality.interval95
    recalls = zip(range(len(quality.recall)), quality.recall, quality.recall_interval95, strict=True)
    return [
        f"{title}: {quality.rows:,}",
        f"  accuracy {quality.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%})",
        f"  calibration error {quality.calibration_error:.2%}, loss {quality.loss:.4f}",
        "  label  recall  95 % interval      answers " + "".join(f"{answer:>7}" for answer in range(10)),
        *(
            f"  {digit:>5}  {recall_columns(recall, interval)}         " + "".join(f"{n:>7,}" for n in row)
            for (digit, recall, interval), row in zip(recalls, quality.confusion, strict=True)
        ),
    ]


def recall_columns(recall: float | None, interval: tuple[float, float] | None) -> str:
    if recall is None or interval is None:
        return f"{'no rows':<24}"
    return f"{recall:>6.1%}  {interval[0]:>6.1%} – {interval[1]:>6.1%}"
