"""Run a command; print seconds, CPU seconds and greatest resident MB as JSON.

    python bench/timed.py COMMAND…

A process of its own because Linux counts what a parent had resident at fork as its child's: this one is small.
"""

import json
import os
import sys
import time

before = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, used = os.wait4(pid, 0)
seconds = time.perf_counter() - before
figures = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "rss_mb": used.ru_maxrss / 1024}
sys.stdout.write(json.dumps(figures))
sys.exit(os.waitstatus_to_exitcode(status))
