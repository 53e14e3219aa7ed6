"""What a power loss would leave, computed from a trace of the system calls that a process really made (strace -f -y).

The model is POSIX's promise and no more: a file's bytes survive once fsync(2) of the file has returned, a name in a
folder survives once fsync of that folder has returned, and a path survives if all names on its way do. Everything else
is lost: SIGKILL keeps the page cache, so no killed process can show this.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

TRACED = (
    "open,openat,creat,write,pwrite64,writev,ftruncate,fsync,fdatasync,link,"
    "linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,copy_file_range,sendfile"
)
CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
UNFINISHED = " <unfinished ...>"
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"\d+<([^>]*)>")
FAILED = re.compile(r"= -1 [A-Z]+")


@dataclass
class Inode:
    """A file or folder, by whatever names."""

    folder: bool = False
    synced: bool = False


@dataclass
class Disk:
    """What the process sees (`names`) and what would survive (`durable`), by absolute path."""

    names: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)

    def survives(self, path: str, below: str) -> bool:
        """Whether a file would be found under a path, with all its bytes. Folders above `below` count as safe, and what
        was there before the trace: another trace has shown that."""
        places = [path, *(folder for folder in map(str, PurePosixPath(path).parents) if f"{folder}/".startswith(below))]
        ours = {place: self.names[place] for place in places if place in self.names}
        return all(inode.synced and self.durable.get(place) is inode for place, inode in ours.items())

    def create(self, path: str) -> None:
        self.names[path] = Inode()

    def make_folder(self, path: str) -> None:
        self.names[path] = Inode(folder=True, synced=True)

    def write(self, path: str) -> None:
        if path in self.names:
            self.names[path].synced = False

    def sync(self, path: str) -> None:
        inode = self.names.get(path)
        if inode and not inode.folder:
            inode.synced = True
            return
        inside = {name for name in self.names if name.rpartition("/")[0] == path}
        for name in {name for name in self.durable if name.rpartition("/")[0] == path} - inside:
            del self.durable[name]
        self.durable |= {name: self.names[name] for name in inside}

    def link(self, source: str, target: str) -> None:
        if source in self.names:
            self.names[target] = self.names[source]

    def rename(self, source: str, target: str) -> None:
        for path in [path for path in self.names if path == source or path.startswith(f"{source}/")]:
            self.names[target + path[len(source) :]] = self.names.pop(path)

    def remove(self, path: str) -> None:
        self.names.pop(path, None)


Named = Callable[[Disk, str], None]


def replay(lines: list[str], on_name: Named) -> Disk:
    """Replay a trace; `on_name` is called whenever a path is about to get a file by link or rename, with that path.

    A call counts when it began, but a sync when it returned: what ran beside it may have come before or after.
    """
    disk = Disk()
    for name, begun, rest in _calls(lines):
        paths = [_text(text) for text in QUOTED.findall(rest)]
        opened = [match for match in DESCRIPTOR.findall(rest) if match.startswith("/")]
        if begun and name in {"link", "linkat", "rename", "renameat", "renameat2"}:
            source, target = paths[0], paths[1]
            if source in disk.names and not disk.names[source].folder:
                on_name(disk, target)
        if begun and name in {"write", "pwrite64", "writev", "ftruncate", "copy_file_range", "sendfile"}:
            for path in opened[:1] if name != "copy_file_range" else opened:
                disk.write(path)
        if begun or FAILED.search(rest):
            continue
        if name in {"open", "openat", "creat"}:
            if "O_CREAT" in rest and paths[-1] not in disk.names:
                disk.create(paths[-1])
            elif "O_TRUNC" in rest:
                disk.write(paths[-1])
        elif name in {"fsync", "fdatasync"}:
            disk.sync(opened[0])
        elif name in {"link", "linkat"}:
            disk.link(paths[0], paths[1])
        elif name.startswith("rename"):
            disk.rename(paths[0], paths[1])
        elif name in {"unlink", "unlinkat", "rmdir"}:
            disk.remove(paths[-1] if paths[-1].startswith("/") else f"{opened[0]}/{paths[-1]}")
        elif name in {"mkdir", "mkdirat"}:
            disk.make_folder(paths[-1])
    return disk


def _calls(lines: list[str]) -> Iterator[tuple[str, bool, str]]:
    """Yield each call twice: name, True when it begins; name, False when it has returned, with all of its text."""
    waiting: dict[str, str] = {}
    for line in lines:
        if match := CALL.match(line):
            rest = match["rest"]
            yield match["name"], True, rest
            if rest.endswith(UNFINISHED):
                waiting[match["pid"]] = rest.removesuffix(UNFINISHED)
            else:
                yield match["name"], False, rest
        elif (match := RESUMED.match(line)) and match["pid"] in waiting:
            yield match["name"], False, waiting.pop(match["pid"]) + match["rest"]


def _text(quoted: str) -> str:
    return quoted.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")
