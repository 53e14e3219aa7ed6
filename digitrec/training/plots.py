"""Pictures of a training, as PNG bytes: the same training, the same bytes. No display, no global state."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from digitrec.contract import CLASSES, SIDE
from digitrec.training.fitting import Epoch
from digitrec.training.quality import calibration_bins

WORST_PER_SIDE = 8
CELL_PX = SIDE + 12
"""A digit with room for its caption."""


def learning_curves(history: Sequence[Epoch]) -> bytes:
    """Loss on both sides, and validation accuracy, by epoch."""
    figure = Figure(figsize=(9, 3.6))
    loss, accuracy = figure.subplots(1, 2, gridspec_kw={"left": 0.07, "right": 0.98, "bottom": 0.15, "wspace": 0.2})
    epochs = [epoch.epoch for epoch in history]
    loss.plot(epochs, [epoch.train_loss for epoch in history], label="training (distorted)")
    loss.plot(epochs, [epoch.val_loss for epoch in history], label="validation")
    loss.set(title="Loss", xlabel="epoch", yscale="log")
    loss.legend()
    accuracy.plot(epochs, [100 * epoch.val_accuracy for epoch in history])
    accuracy.set(title="Validation accuracy", xlabel="epoch", ylabel="%")
    return png(figure)


def confusion_matrix(confusion: Sequence[Sequence[int]]) -> bytes:
    """Counts by label (down) and answer (across); only mistakes are coloured."""
    counts = np.array(confusion)
    figure = Figure(figsize=(5.6, 5.4))
    axes: Axes = figure.subplots()
    mistakes = counts * (1 - np.eye(CLASSES))
    # Twice the range keeps the darkest cell light enough to read a number on.
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=2 * max(mistakes.max(), 1))
    for (label, answer), count in np.ndenumerate(counts):
        if count:
            axes.text(answer, label, f"{count:,}", ha="center", va="center", fontsize=8)
    axes.set(title="Validation rows", xlabel="answer", ylabel="label", xticks=range(CLASSES), yticks=range(CLASSES))
    return png(figure)


def reliability(confidence: np.ndarray, right: np.ndarray) -> bytes:
    """Share right against confidence; the diagonal is perfect calibration."""
    bins = calibration_bins(confidence, right)
    figure = Figure(figsize=(4.8, 4.6))
    axes: Axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.plot([mean for mean, _, _ in bins], [share for _, share, _ in bins], marker="o")
    axes.set(title="Reliability", xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    return png(figure)


def worst_mistakes(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> bytes:
    """The mistakes whose label was thought least likely: uint8 [n, 784], [n], float [n, 10].

    All in one picture: 64 axes would take longer to draw than a small network to train.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][: WORST_PER_SIDE**2]
    mosaic = np.zeros((WORST_PER_SIDE * CELL_PX, WORST_PER_SIDE * CELL_PX), np.uint8)
    figure = Figure(figsize=(7, 7.4))
    axes: Axes = figure.add_axes((0.02, 0.02, 0.96, 0.92))
    for place, row in enumerate(worst):
        down, across = (step * CELL_PX for step in divmod(place, WORST_PER_SIDE))
        mosaic[down + CELL_PX - SIDE : down + CELL_PX, across : across + SIDE] = images[row].reshape(SIDE, SIDE)
        axes.text(across, down + 8, f"{labels[row]} → {probabilities[row].argmax()}", fontsize=9)
    axes.imshow(mosaic, cmap="gray_r", vmin=0, vmax=255)
    axes.set_axis_off()
    axes.set_title(f"The worst {len(worst)} of {len(wrong)} mistakes (label → answer)")
    return png(figure)


def png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # Without this, matplotlib's version would be in the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
