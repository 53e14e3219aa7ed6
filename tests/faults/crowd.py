"""Many runs of scoring at the same moment, for tests: forked from a process that has everything imported.

`python -m tests.faults.crowd STORE DRIVERS`: for each line of stdin, so many processes score the dataset `night` at
once; prints their answers, `published`, `already` or an error's name, in one line.
"""

import sys
from multiprocessing import get_context

from digitrec.catalog.store import Store
from digitrec.scoring.executors import Execution
from digitrec.scoring.run import score_all
from digitrec.settings import load_settings
from tests.faults.computing import NIGHT, ROWS, quick

FORKING = get_context("fork")
START_S = 60.0


def main() -> None:
    store_url, drivers = sys.argv[1], int(sys.argv[2])
    for _ in sys.stdin:
        print(*answers(store_url, drivers), flush=True)  # noqa: T201


def answers(store_url: str, drivers: int) -> list[str]:
    barrier, told = FORKING.Barrier(drivers), FORKING.SimpleQueue()
    crowd = [FORKING.Process(target=drive, args=(store_url, barrier, told)) for _ in range(drivers)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    return [told.get() for _ in range(drivers)]


def drive(store_url: str, barrier, told) -> None:  # noqa: ANN001
    """One of them, once all are there."""
    settings = load_settings(store=store_url, threads=1)
    execution = Execution(processes=False, compute=quick, partition_rows=ROWS)
    barrier.wait(START_S)
    try:
        report = score_all(Store.at(store_url), NIGHT, settings, execution)
        report.raise_if_failed()
        told.put("already" if report.datasets[0].already else "published")
    except BaseException as error:
        told.put(type(error).__name__)
        raise


if __name__ == "__main__":
    main()
