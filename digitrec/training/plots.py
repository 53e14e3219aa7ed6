"""Pictures of models, as PNG bytes: the same numbers, the same bytes. No display, no global state.

Colours are Okabe and Ito's, which people with any colour vision tell apart.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from digitrec.contract import CLASSES, SIDE
from digitrec.training.quality import Bin, Quality, wilson

if TYPE_CHECKING:  # drawing what two models answer needs no Lightning
    from digitrec.training.fitting import Epoch

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
SHEET_COLUMNS = 8
SHEET_IMAGES_MAX = SHEET_COLUMNS**2
CAPTION_PX, GAP_PX = 9, 4


def learning_curves(history: Sequence["Epoch"], best_epoch: int, teacher_accuracy: float | None = None) -> bytes:
    """Loss on both sides, and validation accuracy, by epoch; a line marks the epoch that was kept, one how good the
    teacher is. With a teacher, training lowers how far answers are from its, validation is on labels as always."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs, reached = [epoch.epoch for epoch in history], [100 * epoch.val_accuracy for epoch in history]
    trained = "labels" if teacher_accuracy is None else "teacher"
    loss.plot(epochs, [epoch.train_loss for epoch in history], color=ORANGE, label=f"training: {trained}, distorted")
    loss.plot(epochs, [epoch.val_loss for epoch in history], color=BLUE, label="validation: labels")
    loss.set(title="Loss", ylabel="nats an image", yscale="log")
    accuracy.plot(epochs, reached, color=BLUE, label="validation")
    if teacher_accuracy is not None:
        accuracy.axhline(100 * teacher_accuracy, color=ORANGE, linestyle=":", label="teacher")
    # What the first epochs miss would press the rest against the frame.
    low = float(np.quantile(reached, 0.1))
    accuracy.set(title="Accuracy", ylabel="% right", ylim=(low - 0.1 * (100 - low), 100 + 0.05 * (100.1 - low)))
    for axes in (loss, accuracy):
        axes.axvline(best_epoch, color=GREY, linestyle="--", label=f"kept: epoch {best_epoch}")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.3)
        axes.legend()
    return png(figure)


def confusion_matrix(quality: Quality) -> bytes:
    """Rows by label (down) and answer (across); only mistakes are coloured."""
    counts = np.array(quality.confusion)
    figure = Figure(figsize=(6, 5.8), layout="constrained")
    axes: Axes = figure.subplots()
    mistakes = counts * (1 - np.eye(CLASSES))
    # Twice the range keeps the darkest cell light enough to read a number on.
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=2 * max(mistakes.max(), 1))
    for (label, answer), count in np.ndenumerate(counts):
        if count:
            colour = "dimgrey" if label == answer else "black"
            axes.text(answer, label, f"{count:,}", ha="center", va="center", color=colour)
    axes.set(
        title=f"{mistakes.sum():,.0f} mistakes on {quality.rows:,} validation rows",
        xlabel="answer",
        ylabel="label",
        xticks=range(CLASSES),
        yticks=range(CLASSES),
    )
    return png(figure)


def reliability(quality: Quality) -> bytes:
    """Share right against confidence, with 95 % intervals; the diagonal is perfect calibration. Below, the rows."""
    bins = quality.reliability
    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    shares, rows = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    confidence, right = [100 * bin_.confidence for bin_ in bins], [100 * bin_.right for bin_ in bins]
    shares.plot([0, 100], [0, 100], color=GREY, linestyle="--", label="perfect")
    shares.errorbar(confidence, right, spread(bins), color=BLUE, fmt="o", capsize=3, label="measured, 95 % interval")
    shares.set(
        title=f"Reliability: calibration error {quality.calibration_error:.2%} on {quality.rows:,} validation rows",
        ylabel="% right",
        xlim=(0, 102),
        ylim=(0, 102),
    )
    shares.title.set_fontsize("medium")
    shares.legend(loc="upper left")
    rows.bar(confidence, [bin_.rows for bin_ in bins], width=3, color=BLUE)
    rows.set(xlabel="confidence, %", ylabel="rows", yscale="log", ylim=(0.5, None))
    return png(figure)


def spread(bins: Sequence[Bin]) -> np.ndarray:
    """How far below and above each bin's share right its 95 % interval reaches, in %: float [2, bins]."""
    intervals = [(bin_.right, *wilson(round(bin_.right * bin_.rows), bin_.rows)) for bin_ in bins]
    reaches: np.ndarray = 100 * np.array([(share - low, high - share) for share, low, high in intervals]).T
    return reaches.clip(min=0)


def worst_mistakes(images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> bytes:
    """The mistakes whose label was thought least likely: uint8 [n, 784], [n], float [n, 10]."""
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")][:SHEET_IMAGES_MAX]
    captions = [f"{labels[row]} → {answers[row]}  {probabilities[row].max():.0%}" for row in worst]
    count = f"the worst {len(worst)} of {len(wrong):,}" if len(worst) < len(wrong) else f"all {len(wrong)}"
    title = f"Mistakes on {len(labels):,} validation rows, {count}: label → answer, confidence"
    return contact_sheet(
        images[worst], captions, title if len(wrong) else f"No mistake on {len(labels):,} validation rows"
    )


def contact_sheet(images: np.ndarray, captions: Sequence[str], title: str) -> bytes:
    """Images uint8 [n, 784], eight in a row, each under its caption.

    All in one mosaic: 64 axes would take longer to draw than a small network to train.
    """
    down, across = -(-len(images) // SHEET_COLUMNS), SHEET_COLUMNS
    height, width = SIDE + CAPTION_PX + GAP_PX, SIDE + GAP_PX
    mosaic = np.zeros((max(down, 1), across, height, width), np.uint8)
    for place, image in enumerate(images):
        mosaic[divmod(place, across)][CAPTION_PX : CAPTION_PX + SIDE, :SIDE] = image.reshape(SIDE, SIDE)
    figure = Figure(figsize=(across, 0.4 + len(mosaic) * height / width), layout="constrained")
    axes: Axes = figure.subplots()
    axes.imshow(mosaic.swapaxes(1, 2).reshape(-1, across * width), cmap="gray_r", vmin=0, vmax=255)
    for place, caption in enumerate(captions):
        row, column = divmod(place, across)
        axes.text(column * width, row * height + CAPTION_PX - 2, caption, fontsize=8)
    axes.set_axis_off()
    axes.set_title(title, fontsize="medium")
    return png(figure)


def png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    # Without this, matplotlib's version would be in the file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
