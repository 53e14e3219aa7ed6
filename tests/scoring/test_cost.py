"""What a run cost, and what to do about it."""

from digitrec.scoring.cost import Cost, RunCost, sum_up

MB = 1_000_000


def cost(
    partitions: int = 100, rows: int = 6_400_000, workers: int = 2, busy_s: float = 0.19, cpu_s: float = 0.18
) -> RunCost:
    """Ten seconds of scoring; `busy_s`, `cpu_s`: of each partition."""
    each = Cost(rows // partitions, 1, busy_s, cpu_s, 300 * MB)
    found = sum_up(sum([each] * partitions, Cost()), 10.0, workers)
    assert found
    return found


def test_it_tells_speed_cost_and_memory() -> None:
    """Rows/s, CPU seconds per million rows, most memory of driver and worker."""
    speed, memory = cost().lines()
    assert speed == ("6,400,000 rows in 10.0 s with 2 workers: 640,000 rows/s, 2.8 CPU seconds per million rows")
    assert memory.startswith("  most memory: driver ")
    assert memory.endswith(" MB, worker 300 MB")


def test_a_good_run_gets_no_advice() -> None:
    """Workers that computed most of the time are left alone."""
    assert cost().advice == ()


def test_small_partitions_are_named() -> None:
    """Many datasets of few rows spend their time on sending, syncing and hashing."""
    (advice,) = cost(rows=1000).advice
    assert advice.startswith("partitions of 10 rows on average are mostly overhead: ingest several files as one")


def test_idle_workers_are_named_with_the_reason() -> None:
    """Too few partitions to go round is one reason; a driver or store that is too slow another."""
    (few,) = cost(partitions=3, busy_s=3.0, cpu_s=2.9).advice
    assert few == "workers were idle 55% of the time: 3 partitions are few for 2 workers, fewer would be as quick"
    (slow,) = cost(busy_s=0.1, cpu_s=0.1).advice
    assert slow.startswith("workers were idle 50% of the time: the driver or the store did not keep up")


def test_waiting_workers_are_named() -> None:
    """Partitions that take far more time than CPU wait for a disk, or share their core with somebody."""
    (advice,) = cost(cpu_s=0.095).advice
    assert advice.startswith("workers waited 50% of their time for the disk or for other programs")


def test_a_short_run_is_not_judged() -> None:
    """Under some seconds it says nothing and advises nothing; the figures are there for scripts."""
    short = sum_up(Cost(10, 1, 0.1, 0.01, MB), 0.5, 2)
    assert short
    assert (short.lines(), short.advice, short.rows_per_s) == ([], (), 20)


def test_where_nothing_was_computed_there_is_no_cost() -> None:
    """A run that found everything done has no speed."""
    assert sum_up(Cost(), 1.0, 2) is None
