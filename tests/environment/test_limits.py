"""How much of the machine may be used: affinity, CPU quotas and memory limits, of both versions of control groups."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from digitrec import limits
from digitrec.settings import load_settings

V1 = "30 20 0:26 {root} {mount} rw,relatime shared:9 - cgroup cgroup rw,{controllers}\n"
V2 = "31 20 0:27 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
CPU_V1, MEMORY_V1, UNIFIED = "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
GIB = 2**30


class Machine:
    """A tree of files as a process sees it under /."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)

    def says(self, cgroup: str, mountinfo: str) -> None:
        (self.root / "proc/self/cgroup").write_text(cgroup)
        (self.root / "proc/self/mountinfo").write_text(mountinfo)

    def put(self, folder: str, **files: str) -> None:
        (self.root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.root / folder.lstrip("/") / name.replace("__", ".")).write_text(text + "\n")

    @property
    def cores(self) -> int:
        return limits.cores(self.root)

    @property
    def memory(self) -> int:
        return limits.memory_bytes(self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with 64 cores and 512 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(limits, "_machine_bytes", lambda: 512 * GIB)
    return Machine(tmp_path)


def test_without_control_groups_the_machine_is_the_limit(machine: Machine) -> None:
    """No /proc, as on other systems."""
    assert (machine.cores, machine.memory) == (64, 512 * GIB)


def test_a_container_of_version_2(machine: Machine) -> None:
    """Its own group is mounted, and /proc says `/`: 2.5 cores are 3."""
    machine.says("0::/\n", V2.format(root="/", mount=UNIFIED))
    machine.put(UNIFIED, cpu__max="250000 100000", memory__max=str(GIB), memory__high="max")
    assert (machine.cores, machine.memory) == (3, GIB)


def test_a_container_of_version_1(machine: Machine) -> None:
    """/proc gives a path on the host, of which the mount shows the end."""
    group = "/kubepods/pod1/abc"
    machine.says(
        f"5:memory:{group}\n4:cpu,cpuacct:{group}\n1:name=systemd:{group}\n",
        V1.format(root=group, mount=CPU_V1, controllers="cpu,cpuacct")
        + V1.format(root=group, mount=MEMORY_V1, controllers="memory"),
    )
    machine.put(CPU_V1, cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    machine.put(MEMORY_V1, memory__limit_in_bytes=str(2 * GIB))
    assert (machine.cores, machine.memory) == (2, 2 * GIB)


def test_a_group_inside_a_container_of_version_1(machine: Machine) -> None:
    """The path of /proc begins on the host, the mount at the container's group: the rest of it lies in the mount."""
    machine.says("4:cpu:/pods/abc/job\n", V1.format(root="/pods/abc", mount="/c", controllers="cpu"))
    machine.put("/c/job", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert machine.cores == 3


@pytest.mark.parametrize("tight", ["system.slice", "system.slice/night.service", ""])
def test_the_tightest_of_groups_in_groups_counts(machine: Machine, tight: str) -> None:
    """A unit of an init system lies in a slice; a limit may stand at any level."""
    machine.says("0::/system.slice/night.service\n", V2.format(root="/", mount=UNIFIED))
    for level in ("", "system.slice", "system.slice/night.service"):
        strict = level == tight
        machine.put(
            f"{UNIFIED}/{level}",
            cpu__max="400000 100000" if strict else "max 100000",
            memory__max=str(3 * GIB) if strict else "max",
        )
    assert (machine.cores, machine.memory) == (4, 3 * GIB)


def test_both_versions_at_once(machine: Machine) -> None:
    """The hybrid layout: version 1 has the controllers, version 2 only the names."""
    machine.says(
        "3:cpu:/jobs/a\n2:memory:/\n0::/jobs/a\n",
        V1.format(root="/", mount="/sys/fs/cgroup/cpu", controllers="cpu") + V2.format(root="/", mount="/unified"),
    )
    machine.put("/sys/fs/cgroup/cpu/jobs", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    machine.put("/sys/fs/cgroup/cpu/jobs/a", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    machine.put("/unified/jobs/a")
    assert (machine.cores, machine.memory) == (1, 512 * GIB)


def test_no_limit_in_words_and_numbers(machine: Machine) -> None:
    """`max`, -1, and the enormous number that version 1 writes."""
    machine.says(
        "5:memory:/\n4:cpu:/\n",
        V1.format(root="/", mount="/c", controllers="cpu") + V1.format(root="/", mount="/m", controllers="memory"),
    )
    machine.put("/c", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    machine.put("/m", memory__limit_in_bytes="9223372036854771712")
    assert (machine.cores, machine.memory) == (64, 512 * GIB)


def test_affinity_may_be_tighter_than_a_quota(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller of both."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    machine.says("0::/\n", V2.format(root="/", mount=UNIFIED))
    machine.put(UNIFIED, cpu__max="600000 100000")
    assert machine.cores == 2


def test_a_group_above_the_mount_is_not_looked_for(machine: Machine) -> None:
    """A process that joined a namespace from outside sees `/..`."""
    machine.says("0::/../../other\n", V2.format(root="/", mount=UNIFIED))
    machine.put(UNIFIED, cpu__max="200000 100000")
    assert machine.cores == 2


def test_the_kernels_victims_are_counted(machine: Machine) -> None:
    """In the words of both versions."""
    machine.says("0::/\n", V2.format(root="/", mount=UNIFIED))
    assert limits.oom_kills(machine.root) == 0
    machine.put(UNIFIED, memory__events="low 0\noom 9\noom_kill 7")
    assert limits.oom_kills(machine.root) == 7
    machine.says("5:memory:/\n", V1.format(root="/", mount="/m", controllers="memory"))
    machine.put("/m", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3")
    assert limits.oom_kills(machine.root) == 3


def test_where_affinity_is_unknown_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no `sched_getaffinity`: settings can be loaded there, too."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert load_settings().threads == os.cpu_count()


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A control group of version 1 in a group, the outer one with half a core, where this machine lets us make one."""
    outer = Path("/sys/fs/cgroup/cpu/digitrec-test")
    try:
        (outer / "inner").mkdir(parents=True)
        (outer / "cpu.cfs_quota_us").write_text("50000")
    except OSError:
        pytest.skip("no control groups of version 1 to make here")
    yield outer / "inner"
    (outer / "inner").rmdir()
    outer.rmdir()


def test_a_real_group_of_this_machine(real_group: Path) -> None:
    """A process in a group in a group with half a core gets one."""
    script = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    code = "from digitrec.limits import cores; print(cores())"
    done = subprocess.run(["sh", "-c", script, real_group, sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
