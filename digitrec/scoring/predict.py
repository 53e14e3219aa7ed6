"""Images in, predictions out. Pure: no files, no clock, no torch; a network is any function of a batch."""

from dataclasses import dataclass, replace

import numpy as np

from digitrec.contract import CLASSES, LARGE, SMALL
from digitrec.engines import Network
from digitrec.engines.confidence import softmax
from digitrec.errors import ComputationFailed

BATCH = 512
"""Images in one call of the network, so that activations stay in the cache: with 1024, int8 takes a tenth longer; with
256, fp32 does by a twentieth."""


@dataclass(frozen=True)
class Small:
    """The small net of a cascade: with at least the confidence `threshold` its answer stands."""

    network: Network
    temperature: float
    threshold: float


@dataclass(frozen=True)
class Engine:
    """A network ready to classify, the temperature that calibrates it, and in a cascade the net that answers first."""

    network: Network
    temperature: float
    small: Small | None = None


@dataclass(frozen=True)
class Predictions:
    """One row an image, in the images' order.

    `label`, `runner_up`: uint8 [n], the two likeliest classes (of equals, the smaller number comes first);
    `probabilities`: float32 [n, 10], calibrated; `confidence`, `runner_up_confidence`: float32 [n], theirs;
    `net`: uint8 [n], which net of a cascade answered.
    """

    label: np.ndarray
    confidence: np.ndarray
    runner_up: np.ndarray
    runner_up_confidence: np.ndarray
    probabilities: np.ndarray
    net: np.ndarray | None = None


COLUMNS = ("label", "confidence", "runner_up", "runner_up_confidence", "probabilities")
"""What either net of a cascade may answer."""


def classify(engine: Engine, images: np.ndarray) -> Predictions:
    """Classify uint8 [n, 784] with a network, or with the two of a cascade.

    Raises `ComputationFailed` if a network answers with something that is not a number.
    """
    if engine.small is None:
        return predict(engine.network, images, temperature=engine.temperature)
    found = predict(engine.small.network, images, temperature=engine.small.temperature)
    doubtful = np.flatnonzero(found.confidence < engine.small.threshold)
    # Gathered over the small net's batches, so that the large net's are full.
    second = predict(engine.network, images[doubtful], temperature=engine.temperature)
    return corrected(found, doubtful, second)


def corrected(found: Predictions, doubtful: np.ndarray, second: Predictions) -> Predictions:
    """What the small net found, with the rows `doubtful` (int [m]) replaced by what the large one did; in place."""
    net = np.full(len(found.label), SMALL, np.uint8)
    net[doubtful] = LARGE
    for name in COLUMNS:
        getattr(found, name)[doubtful] = getattr(second, name)
    return replace(found, net=net)


def predict(network: Network, images: np.ndarray, *, temperature: float = 1.0, batch: int = BATCH) -> Predictions:
    """Classify uint8 [n, 784]. Probabilities are softmax(logits / temperature) (Guo et al. 2017, temperature scaling).

    Raises `ComputationFailed` if the network answers with something that is not a number.
    """
    logits = np.empty((len(images), CLASSES), np.float32)
    for start in range(0, len(images), batch):
        logits[start : start + batch] = network(images[start : start + batch])
    if not np.isfinite(logits).all():
        raise ComputationFailed("the network's answer is not a number: its weights are unusable, train it again")
    return rank(logits, temperature)


def rank(logits: np.ndarray, temperature: float) -> Predictions:
    """Take the best two of each row. Logits decide, because two of them may round to one probability."""
    rows = np.arange(len(logits))
    label = logits.argmax(axis=1)
    others = logits.copy()
    others[rows, label] = -np.inf
    runner_up = others.argmax(axis=1)
    shares = softmax(logits, temperature)  # [10, n]
    return Predictions(
        label.astype(np.uint8),
        shares[label, rows],
        runner_up.astype(np.uint8),
        shares[runner_up, rows],
        shares.T,
    )
