"""The small net of a cascade: distilled from the large one at sealing, and the confidence from which its answer stands.

Rows that teach it, that calibrate it and that judge it are different ones, told apart by their digests, as validation
rows are. Those that judge it are a share of the training rows, and all validation rows. The large net was trained on
the former, so it is right more often there than elsewhere, and what the small one loses against it is over-counted.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Generator
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from digitrec.engines import CASCADE_FILE, Network
from digitrec.engines.confidence import confidence
from digitrec.engines.floating import in_fp32, on_cores
from digitrec.engines.int8 import open_int8
from digitrec.engines.quantise import quantise
from digitrec.network import Architecture, Perceptron
from digitrec.training.deriving import CALIBRATION_IMAGES, SEED, Derived, answers, sample, spread
from digitrec.training.quality import fit_temperature, softmax
from digitrec.training.rows import Rows, joined
from digitrec.training.split import Split
from digitrec.training.streaming import StreamedRows

LOG = logging.getLogger("digitrec.training")

LOSS_MAX = 0.0005
"""Share of all rows on which a cascade may be wrong where the large net is right: 0.05 points of accuracy."""
DOUBT = 0.05
"""Chance, at most, that a threshold is taken under which it loses more."""
THRESHOLDS = tuple(float(threshold) for threshold in (1 - np.geomspace(1e-4, 0.5, 200)).round(6))
"""From the strictest down; fixed before any row is looked at."""
JUDGING, CALIBRATING = 30, 5
"""Per cent of the training rows."""
ROWS_MAX = 200_000
"""More training rows would make a small net no better, and its sealing longer."""
SHOWN_IMAGES, PASSES, BATCH, PEAK_LR = 240_000, 20, 512, 4e-3


@dataclass(frozen=True)
class Large:
    """The network that is stood in for: as it was trained, its engine in int8, and its temperature."""

    network: Perceptron
    engine: bytes
    temperature: float

    def arithmetics(self) -> tuple[Network, Network]:
        """In fp32 and in int8."""
        return in_fp32(self.network), open_int8(self.engine, "the engine that was made")


@dataclass(frozen=True)
class Proof:
    """A threshold, and what shows that it loses little: `losses` of `rows`, at most `upper_bound` of all (95 %).

    `answered` is the share of the rows that the small net answers.
    """

    threshold: float
    answered: float
    losses: int
    rows: int
    upper_bound: float


@on_cores(1)
def derive_cascade(large: Large, split: Split, units: int) -> Derived:
    """Distil a small net with so many hidden units, and find its threshold. Without one the facts say why.

    The same on one machine, as is the rest of a version.
    """
    if not units:
        return without("its preset spends no time on one")
    learning, calibrating, judging = shares(at_hand(split.training))
    judging = distinct(joined([judging, split.validation]))
    if len(judging) < rows_needed():
        return without(
            f"{rows_needed():,} rows that the small net was not trained on are needed to prove that it loses no more "
            f"than {LOSS_MAX:.2%}, there are {len(judging):,}"
        )
    LOG.info("distilling a small net from %s rows", f"{len(learning):,}")
    engine = distil(large, learning.images, units)
    small = open_int8(engine, CASCADE_FILE)
    temperature = fit_temperature(answers(small, calibrating.images), calibrating.labels)
    logits = answers(small, judging.images)
    wrong = logits.argmax(axis=1) != judging.labels
    proof = lowest_threshold(confidence(logits, temperature), wrong & right_in_any(large, judging))
    if proof is None:
        return without(f"under no threshold is it shown to lose at most {LOSS_MAX:.2%} of {len(judging):,} rows")
    accuracy = float((answers(small, split.validation.images).argmax(axis=1) == split.validation.labels).mean())
    facts = {"hidden": [units], "temperature": temperature, "accuracy": accuracy, "loss_max": LOSS_MAX}
    return Derived({CASCADE_FILE: engine}, facts | asdict(proof))


def without(why: str) -> Derived:
    """No cascade; the card and `score --cascade` give the reason."""
    return Derived({}, {"none": why})


def at_hand(rows: Rows | StreamedRows) -> Rows:
    """At most `ROWS_MAX` training rows, or a row group more, evenly over all of them."""
    if isinstance(rows, Rows):
        return rows.where(spread(np.arange(len(rows)), min(len(rows), ROWS_MAX)))
    groups = len(rows.groups)
    return joined([rows.read(i) for i in spread(np.arange(groups), -(-groups * ROWS_MAX // len(rows))).tolist()])


def shares(rows: Rows) -> tuple[Rows, Rows, Rows]:
    """The rows that teach, that calibrate and that judge; duplicates stay together. Validation has the high bits."""
    place = rows.digests % np.uint64(100)
    judging, calibrating = place < JUDGING, (place >= JUDGING) & (place < JUDGING + CALIBRATING)
    return rows.where(~judging & ~calibrating), rows.where(calibrating), rows.where(judging)


def distinct(rows: Rows) -> Rows:
    """Each image once: a copy proves nothing."""
    return rows.where(np.sort(np.unique(rows.digests, return_index=True)[1]))


def distil(large: Large, images: np.ndarray, units: int) -> bytes:
    """A small net in int8 that was taught the large one's calibrated probabilities (Hinton, Vinyals and Dean, 2015) of
    these images (uint8 [n, 784]) and of distorted ones. On images of its own the large net is nearly always right, so
    labels would add nothing."""
    shown = sample(images, SHOWN_IMAGES)
    _, teacher = large.arithmetics()
    taught = softmax(answers(teacher, shown) / large.temperature).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = Perceptron(Architecture((units,), batch_norm=True))
    fit(network, torch.from_numpy(shown), torch.from_numpy(taught))
    return quantise(network, spread(shown, CALIBRATION_IMAGES))


def fit(network: Perceptron, images: torch.Tensor, taught: torch.Tensor) -> None:
    """One cycle of the learning rate over all passes; leaves the network in evaluation mode."""
    batches = len(images) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LR, fused=True)
    schedule = OneCycleLR(optimizer, PEAK_LR, total_steps=batches * PASSES)
    network.train()
    for chosen in orders(len(images)):
        loss = F.cross_entropy(network(images[chosen]), taught[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    network.eval()


def orders(rows: int) -> Iterator[torch.Tensor]:
    """The row numbers of each full batch, in another order each pass."""
    generator = Generator().manual_seed(SEED)
    for _ in range(PASSES):
        yield from torch.split(torch.randperm(rows, generator=generator), BATCH)[: rows // BATCH]


def right_in_any(large: Large, rows: Rows) -> np.ndarray:
    """Rows that the large net has right in fp32 or in int8, so that what is proven holds against each: bool [n]."""
    fp32, int8 = (answers(each, rows.images).argmax(axis=1) == rows.labels for each in large.arithmetics())
    either: np.ndarray = fp32 | int8
    return either


def lowest_threshold(sure: np.ndarray, lost: np.ndarray) -> Proof | None:
    """Go down the thresholds as long as each is shown to lose no more than `LOSS_MAX`; None if not even the first is.

    `sure`: float32 [n], the small net's confidence; `lost`: bool [n], the rows that it has wrong and the large one
    right; what it gains elsewhere is not set off. Many thresholds are tested on the same rows. That the order is fixed
    and the first failure ends it is what keeps the chance of taking a bad one at `DOUBT`, with no correction for their
    number: fixed-sequence testing (Angelopoulos et al., "Learn then Test", 2021).
    """
    rows, proven = len(sure), None
    for threshold in THRESHOLDS:
        answered = sure >= threshold
        losses = int((answered & lost).sum())
        bound = upper_bound(losses, rows)
        if bound > LOSS_MAX:
            break
        proven = Proof(threshold, float(answered.mean()), losses, rows, bound)
    return proven


def rows_needed() -> int:
    """So many rows without a single loss prove that `LOSS_MAX` is not exceeded."""
    return math.ceil(math.log(DOUBT) / math.log1p(-LOSS_MAX))


@lru_cache
def upper_bound(losses: int, rows: int) -> float:
    """The one-sided upper 95 % bound of a rate (Clopper and Pearson, Biometrika 1934): any larger one would have shown
    so few losses with a chance below `DOUBT`."""
    if losses == rows:
        return 1.0
    low, high = losses / rows, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if chance_of_fewer(losses, rows, middle) > DOUBT else (low, middle)
    return high


def chance_of_fewer(losses: int, rows: int, rate: float) -> float:
    """That of `losses` or fewer in `rows` draws, 0 < rate < 1: the binomial distribution function."""
    ways = (math.lgamma(rows + 1) - math.lgamma(k + 1) - math.lgamma(rows - k + 1) for k in range(losses + 1))
    return sum(math.exp(way + k * math.log(rate) + (rows - k) * math.log1p(-rate)) for k, way in enumerate(ways))
