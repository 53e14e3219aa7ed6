"""What scoring took, against what the machine could have done, and what to change where the two lie far apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from digitrec.contract import CLASSES, PIXELS
from digitrec.scoring.partition import peak_bytes
from digitrec.scoring.receipts import Cost

LONG_S = 5.0
"""What was done sooner needs neither advice nor a measured peak: one image must not wait for them."""
BUSY_MIN, COMPUTING_MIN = 0.7, 0.7
"""Shares of the workers' time that should be spent on partitions, and of that on the processor."""
SMALL_ROWS = 4096
"""A partition of fewer rows takes longer to send, sync and hash than to compute."""
FEW_PARTITIONS = 4
"""A worker that gets fewer stands idle at the end for a large share of the time."""


@dataclass(frozen=True)
class RunCost:
    """What was computed (`rows`, `partitions`; not what an earlier run had finished) and what it took.

    `seconds` are the clock's, `worker_seconds` those that all workers spent on partitions; `driver_bytes`,
    `worker_bytes`: greatest resident memory of the driver and of the largest worker; `share_of_peak`: multiply-adds
    against those of square products, measured in the same run (None: it was too short, or the work is not known);
    `memory_losses`: how many workers were stopped for want of memory, and started again.
    """

    rows: int
    partitions: int
    workers: int
    seconds: float
    rows_per_s: int
    worker_seconds: float
    cpu_s_per_million_rows: float
    driver_bytes: int
    worker_bytes: int
    share_of_peak: float | None
    memory_losses: int
    advice: tuple[str, ...]

    def lines(self) -> list[str]:
        """For a person; nothing if it was over before anybody could have wondered."""
        if self.seconds < LONG_S and not self.memory_losses:
            return []
        peak = "" if self.share_of_peak is None else f", {self.share_of_peak:.0%} of the processor's matrix peak"
        memory = f"driver {self.driver_bytes / 1e6:,.0f} MB, worker {self.worker_bytes / 1e6:,.0f} MB"
        return [
            f"{self.rows:,} rows in {self.seconds:.1f} s with {self.workers} workers: {self.rows_per_s:,} rows/s, "
            f"{self.cpu_s_per_million_rows:.1f} CPU seconds per million rows{peak}",
            f"  most memory: {memory}",
            *(f"  advice: {line}" for line in self.advice),
        ]


def cost_of(
    costs: Sequence[Cost], rows: int, seconds: float, workers: int, ceiling: float | None, memory_losses: int = 0
) -> RunCost:
    """Sum up what partitions of so many rows took, in so many seconds; one at least.

    `ceiling`: rows/s if all workers did nothing but the network's products, as fast as square ones.
    """
    busy, computing = sum(cost.seconds for cost in costs), sum(cost.cpu_s for cost in costs)
    return RunCost(
        rows=rows,
        partitions=len(costs),
        workers=workers,
        seconds=round(seconds, 3),
        rows_per_s=round(rows / seconds),
        worker_seconds=round(busy, 3),
        cpu_s_per_million_rows=round(computing / rows * 1e6, 3),
        driver_bytes=peak_bytes(),
        worker_bytes=max(cost.peak_bytes for cost in costs),
        share_of_peak=round(rows / seconds / ceiling, 3) if ceiling else None,
        memory_losses=memory_losses,
        advice=(memory_words(memory_losses),)
        if memory_losses
        else advice(rows, len(costs), workers, busy / seconds, computing / busy)
        if seconds >= LONG_S
        else (),
    )


def memory_words(losses: int) -> str:
    """Say that workers were stopped for want of memory, and what to do; idle workers and waits come of that."""
    times = "once" if losses == 1 else f"{losses} times"
    return (
        f"workers were restarted {times} for want of memory, and did their work again: allow more of it, or use fewer "
        "workers (DIGITREC_THREADS)"
    )


def advice(rows: int, partitions: int, workers: int, busy_workers: float, computing: float) -> tuple[str, ...]:
    """What to change: `busy_workers` is how many had a partition on average, `computing` how much of that was CPU."""
    found = []
    if rows / partitions < SMALL_ROWS:
        found.append(
            f"partitions of {rows / partitions:,.0f} rows on average are mostly overhead: ingest several files as one "
            "dataset (--dataset)"
        )
    if busy_workers < BUSY_MIN * workers:
        idle = f"workers were idle {1 - busy_workers / workers:.0%} of the time"
        if partitions < FEW_PARTITIONS * workers:
            found.append(f"{idle}: {partitions} partitions are few for {workers} workers, fewer would be as quick")
        else:
            found.append(f"{idle}: the driver or the store did not keep up, fewer would be as quick")
    if computing < COMPUTING_MIN:
        found.append(
            f"workers waited {1 - computing:.0%} of their time for the disk or for other programs: use fewer "
            "(DIGITREC_THREADS), or a faster store"
        )
    return tuple(found)


def multiply_adds(card: Mapping[str, Any]) -> int:
    """Of one image through the network that a model version's card describes."""
    widths = (PIXELS, *card["architecture"]["hidden"], CLASSES)
    return sum(wide * narrow for wide, narrow in pairwise(widths))
