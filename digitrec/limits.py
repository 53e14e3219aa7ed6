"""What this process may use of the machine: cores and memory, whoever set the limit.

Read this to see why a container computes with fewer workers than its machine has cores. Affinity and both versions of
control groups count, also groups in groups. Dask and joblib look at the outermost group alone, or at one of its two
usual places, and so miss a unit of an init system, a cluster's pod and a group in a group.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

NO_LIMIT_BYTES = 2**60
"""Version 1 writes about 2^63 where there is no limit."""


def cores(root: Path = Path("/")) -> int:
    """Return how many cores may be used: affinity, then each control group's CPU quota, rounded up; at least 1."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _groups(root, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([usable, *map(math.ceil, quotas)]))


def memory_bytes(root: Path = Path("/")) -> int:
    """Return how much memory may be used: the machine's, or the smallest limit of a control group, in bytes."""
    limits = [limit for folder in _groups(root, "memory") if (limit := _memory_limit(folder)) is not None]
    return min([_machine_bytes(), *limits])


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes of this control group the kernel has killed for want of memory, if it says so."""
    for folder in _groups(root, "memory"):
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError, ValueError):
                counts = dict(line.split() for line in (folder / name).read_text().splitlines())
                if "oom_kill" in counts:
                    return int(counts["oom_kill"])
    return 0


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return NO_LIMIT_BYTES  # a system that does not say


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the control groups that this process is in, innermost first, of both versions.

    A mount shows a part of the hierarchy, from `its root` (proc(5), mountinfo) on: in a container that is the
    container's own group, and the path in /proc/self/cgroup may begin above it.
    """
    with suppress(OSError, ValueError):
        memberships = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        for mounted, shown_from, controllers in _mounts(root):
            wanted = controller if controllers else ""
            for _, names, path in memberships:
                if wanted in (controllers or ("",)) and wanted in names.split(","):
                    yield from _upwards(root / mounted.lstrip("/"), path, shown_from)


def _mounts(root: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Where control groups are mounted, which group is shown there, and for version 1 the controllers."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        shown_from, mounted = (text.encode().decode("unicode_escape") for text in left.split()[3:5])
        if kind == "cgroup":
            yield mounted, shown_from, tuple(options.split(","))
        elif kind == "cgroup2":
            yield mounted, shown_from, ()


def _upwards(mounted: Path, path: str, shown_from: str) -> Iterator[Path]:
    """From the group at `path` up to the one that is mounted; only that one if `path` is not below it."""
    inside = path.removeprefix(shown_from) if path.startswith(shown_from) else ""
    folder = Path(os.path.normpath(mounted / inside.strip("/")))
    while folder != mounted and mounted in folder.parents:
        yield folder
        folder = folder.parent
    yield mounted


def _quota(group: Path) -> float | None:
    """Cores' worth of time that a group may use; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def _memory_limit(group: Path) -> int | None:
    """Bytes above which the kernel takes memory back (`high`) or kills; None without a limit."""
    limits = []
    for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limits.append(int((group / name).read_text()))
    return min((limit for limit in limits if limit < NO_LIMIT_BYTES), default=None)
