"""A run of scoring as a process of its own, for tests that kill, stop or multiply it.

`python -m tests.faults.driver STORE COMPUTE MODE [ADDRESS]`: waits until STORE/go exists, then scores the dataset
`night` with a function of `computing`; MODE is `processes` or `thread`, ADDRESS that of an outside Dask scheduler.
Prints `published` or `already`; ends like the command does.
"""

import sys
import time

from digitrec.catalog.store import Store
from digitrec.scoring.executors import Execution
from digitrec.scoring.run import score_all
from digitrec.settings import load_settings
from digitrec.terminal import outcome
from tests.faults import computing
from tests.faults.computing import NIGHT, ROWS


def main() -> None:
    store_url, compute, mode, *address = sys.argv[1:]
    store = Store.at(store_url)
    settings = load_settings(store=store_url, threads=2, dask=address[0] if address else None)
    execution = Execution(processes=mode == "processes", compute=getattr(computing, compute), partition_rows=ROWS)
    while not store.storage.exists("go"):
        time.sleep(0.01)
    report = score_all(store, NIGHT, settings, execution)
    report.raise_if_failed()
    sys.stdout.write("already\n" if report.datasets[0].already else "published\n")


if __name__ == "__main__":
    sys.exit(outcome(main))
