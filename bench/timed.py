"""Run a command; print seconds, CPU seconds and greatest resident MB as JSON.

    python bench/timed.py COMMAND…

`rss_mb` is the largest process alone, `tree_mb` all that ran at one time, twenty times a second (shared pages count for
each). A process of its own because Linux counts what a parent had resident at fork as its child's: this one is small.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

EVERY_S = 0.05


def family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def resident_pages(pid: int) -> int:
    """Of a process and its descendants; 0 for what ended while it was looked at."""
    try:
        return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in family(pid))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def watch(pid: int, ended: threading.Event, seen: list[int]) -> None:
    while not ended.wait(EVERY_S):
        seen[0] = max(seen[0], resident_pages(pid))


before = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
ended, seen = threading.Event(), [0]
watcher = threading.Thread(target=watch, args=(child, ended, seen))
watcher.start()
_, status, used = os.wait4(child, 0)
seconds = time.perf_counter() - before
ended.set()
watcher.join()
figures = {
    "seconds": seconds,
    "cpu_seconds": used.ru_utime + used.ru_stime,
    "rss_mb": used.ru_maxrss / 1024,
    "tree_mb": max(seen[0] * os.sysconf("SC_PAGE_SIZE") / 2**20, used.ru_maxrss / 1024),
}
sys.stdout.write(json.dumps(figures))
sys.exit(os.waitstatus_to_exitcode(status))
