"""What each stage may be asked: the command line's options and, in Prefect's UI, the form's fields.

One place for names, defaults, bounds and their words. An unknown key is refused.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from digitrec.contract import UNSURE_BELOW

Preset = Literal["quick", "default", "best"]
Precision = Literal["auto", "fp32", "bf16", "int8"]


def three_decimals(value: float) -> float:
    """Raise `ValueError` unless a number has three decimals at most: confidences are counted in steps of 0.001."""
    if round(value, 3) != value:
        raise ValueError("expected at most three decimals")
    return value


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReadOptions(Options):
    """How sources are read: what a column is, where the file itself does not say, and how much may be wrong."""

    no_header: Annotated[
        bool, Field(description="the first line is data: 784 pixels, or 785 columns with label first or last")
    ] = False
    label: Annotated[
        str | None,
        Field(
            description="label column: its name, first, last, or none; else one named label, class, target, y, digit"
        ),
    ] = None
    key: Annotated[
        str | None,
        Field(description="column of row keys: its name, or none; else id, imageid, image_id, key or filename"),
    ] = None
    ignore: Annotated[tuple[str, ...], Field(description="columns to leave out, by name; commas between them")] = ()
    pixel_max: Annotated[
        float | None,
        Field(ge=0.001, le=65535, description="value of white where it is not 255 (1, 16, 1023 …); decimals are taken"),
    ] = None
    in_order: Annotated[
        bool, Field(description="read several sources in the order given, not in natural order (part2 before part10)")
    ] = False
    member: Annotated[tuple[str, ...], Field(description="files to read from an archive that holds several")] = ()
    max_rejects: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="share of rows that may be rejected; not given: 0.005, or 3 rows, but never above a tenth",
        ),
    ] = None
    allow_unterminated: Annotated[
        bool,
        Field(description="take a last line that ends in a row key without a line end: it may have been cut short"),
    ] = False


class IngestOptions(ReadOptions):
    """How sources become a dataset."""

    dataset: Annotated[str | None, Field(description="name of the dataset; needed for several sources")] = None


class TrainOptions(Options):
    """How a model version is trained, and when it becomes champion."""

    dataset: Annotated[tuple[str, ...], Field(description="labelled datasets to train on; none: the newest")] = ()
    preset: Annotated[Preset, Field(description="how much to spend: quick (seconds), default or best")] = "default"
    seed: Annotated[int, Field(ge=0, lt=2**32, description="seed of weights and of the order of batches")] = 0
    resume: Annotated[str | None, Field(description="interrupted model version to go on with, as it was begun")] = None
    promote: Annotated[
        bool | None, Field(description="make it champion: always, never, or (not given) if it is better")
    ] = None


class ScoreOptions(Options):
    """Which images are classified, by which model, and how."""

    dataset: Annotated[str | None, Field(description="dataset to score; none: all unlabelled ones not yet scored")] = (
        None
    )
    model: Annotated[str | None, Field(description="model version; none: the champion")] = None
    precision: Annotated[
        Precision, Field(description="arithmetic of the network; auto: the quickest that agrees with fp32")
    ] = "auto"
    cascade: Annotated[
        bool, Field(description="a small net answers what it is sure of, the large one the rest: several times faster")
    ] = False
    probabilities: Annotated[bool, Field(description="also write the ten probabilities of each image")] = False
    rescore: Annotated[
        bool, Field(description="score what only other versions have scored, too; this looks at all datasets")
    ] = False
    retry_refused: Annotated[bool, Field(description="look again at files of landing/ that were refused before")] = (
        False
    )
    unsure_below: Annotated[
        float,
        AfterValidator(three_decimals),
        Field(ge=0, le=1, description="confidence below which the report counts a prediction as unsure"),
    ] = UNSURE_BELOW
