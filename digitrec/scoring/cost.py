"""What scoring took, and what to change where workers did not compute most of the time."""

import resource
from dataclasses import dataclass

LONG_S = 5.0
"""What was done sooner needs no advice."""
BUSY_MIN, COMPUTING_MIN = 0.7, 0.7
"""Shares of the workers' time that should be spent on partitions, and of that on the processor."""
SMALL_ROWS = 4096
"""A partition of fewer rows takes longer to send, sync and hash than to compute."""
FEW_PARTITIONS = 4
"""A worker that gets fewer stands idle at the end for a large share of the time."""


@dataclass(frozen=True)
class Cost:
    """What partitions took: wall and CPU seconds of the workers, and the greatest resident memory of one, in bytes."""

    rows: int = 0
    partitions: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.rows + other.rows,
            self.partitions + other.partitions,
            self.seconds + other.seconds,
            self.cpu_s + other.cpu_s,
            max(self.peak_bytes, other.peak_bytes),
        )


@dataclass(frozen=True)
class RunCost:
    """What was computed (`rows`, `partitions`; not what an earlier run had finished) and what it took.

    `seconds` are the clock's, `worker_seconds` those that all workers spent on partitions; `driver_bytes`,
    `worker_bytes`: greatest resident memory of the driver and of the largest worker; `memory_losses`: how many workers
    were stopped for want of memory, and started again.
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
    memory_losses: int
    advice: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return lines for a person; none if it was over before anybody could have wondered."""
        if self.seconds < LONG_S and not self.memory_losses:
            return []
        memory = f"driver {self.driver_bytes / 1e6:,.0f} MB, worker {self.worker_bytes / 1e6:,.0f} MB"
        return [
            f"{self.rows:,} rows in {self.seconds:.1f} s with {self.workers} workers: {self.rows_per_s:,} rows/s, "
            f"{self.cpu_s_per_million_rows:.1f} CPU seconds per million rows",
            f"  most memory: {memory}",
            *(f"  advice: {line}" for line in self.advice),
        ]


def sum_up(cost: Cost, seconds: float, workers: int, memory_losses: int = 0) -> RunCost | None:
    """Return what partitions took in so many seconds of the clock; None if none was computed."""
    if not cost.partitions:
        return None
    return RunCost(
        rows=cost.rows,
        partitions=cost.partitions,
        workers=workers,
        seconds=round(seconds, 3),
        rows_per_s=round(cost.rows / seconds),
        worker_seconds=round(cost.seconds, 3),
        cpu_s_per_million_rows=round(cost.cpu_s / cost.rows * 1e6, 3),
        driver_bytes=peak_bytes(),
        worker_bytes=cost.peak_bytes,
        memory_losses=memory_losses,
        advice=(memory_words(memory_losses),)
        if memory_losses
        else _advice(cost, workers, seconds)
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


def peak_bytes() -> int:
    """Return the most memory this process has held, in bytes (Linux counts it in KiB: getrusage(2))."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _advice(cost: Cost, workers: int, seconds: float) -> tuple[str, ...]:
    """What to change, by how many workers were busy on average, and how much of their time they computed."""
    busy, computing = cost.seconds / seconds, cost.cpu_s / cost.seconds
    found = []
    if cost.rows / cost.partitions < SMALL_ROWS:
        found.append(
            f"partitions of {cost.rows / cost.partitions:,.0f} rows on average are mostly overhead: ingest several "
            "files as one dataset (--dataset)"
        )
    if busy < BUSY_MIN * workers:
        idle = f"workers were idle {1 - busy / workers:.0%} of the time"
        if cost.partitions < FEW_PARTITIONS * workers:
            found.append(f"{idle}: {cost.partitions} partitions are few for {workers} workers, fewer would be as quick")
        else:
            found.append(f"{idle}: the driver or the store did not keep up, fewer would be as quick")
    if computing < COMPUTING_MIN:
        found.append(
            f"workers waited {1 - computing:.0%} of their time for the disk or for other programs: use fewer "
            "(DIGITREC_THREADS), or a faster store"
        )
    return tuple(found)
