"""The champion: a numbered log, each entry put-if-absent, so that promotion and rollback are safe and kept.

A promotion is pushed, a rollback takes the last one off; the champion is what is on top after the whole log was read.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, NoInput, TryAgain, storage_errors
from digitrec.store.commit import put_if_absent
from digitrec.store.layout import Store, champion_folder, manifest_path, model_folder
from digitrec.store.manifest import canonical, check_format

Action = Literal["promote", "rollback"]
APPENDS_MAX = 100
"""So often another process may take the number first: far more than can happen by accident."""
ENTRY = re.compile(r"\d{5,}\.json")


@dataclass(frozen=True)
class Entry:
    """One line of the log. `version` is the champion from this entry on; `why` is for people."""

    number: int
    action: Action
    version: str
    why: str
    at: str


def promote(store: Store, version: str, why: str, *, instead_of: str | None = None) -> Entry:
    """Make a sealed model version the champion, unless it is. Raises `NoInput` if there is no such version.

    With `instead_of`, raises `TryAgain` if the champion is no longer the one ("": none) that it was compared with.
    """
    log = history(store)
    if champions(log)[-1:] == [version]:
        return log[-1]
    if not store.exists(manifest_path(model_folder(version))):
        raise NoInput(f"no model version {version} in {store.url}; see `digitrec list models`")

    def after(log: list[Entry]) -> str:
        best = "".join(champions(log)[-1:])
        if instead_of is not None and best != instead_of:
            raise TryAgain(f"{best} became champion while {version} was compared with {instead_of or 'nobody'}")
        return version

    return append(store, "promote", after, why)


def rollback(store: Store, why: str = "asked for") -> Entry:
    """Go back to the champion before this one. Raises `NoInput` if there is none."""

    def before(log: list[Entry]) -> str:
        stack = champions(log)
        if len(stack) < 2:
            raise NoInput(f"no earlier champion to go back to in {store.url}; see `digitrec list models`")
        return stack[-2]

    return append(store, "rollback", before, why)


def champion(store: Store) -> str | None:
    """The model version that scoring uses when none is named, or None."""
    stack = champions(history(store))
    return stack[-1] if stack else None


def champions(log: list[Entry]) -> list[str]:
    """The champions still standing after a log, oldest first."""
    stack: list[str] = []
    for entry in log:
        if entry.action == "promote":
            stack.append(entry.version)
        elif stack:
            stack.pop()
    return stack


def history(store: Store) -> list[Entry]:
    """Return the whole log, in order. Raises `Corrupt` if an entry is missing or unreadable.

    Entries are read forward until one is absent. A listing would not do: taken while others append, it may show 3
    without 2 (readdir(3) says nothing of names that come meanwhile).
    """
    log: list[Entry] = []
    while (entry := read_entry(store, len(log) + 1)) is not None:
        log.append(entry)
    # A missing entry ends the walk like an end would; only what stands beyond it tells the two apart.
    last = max((int(name[:-5]) for name in store.names(champion_folder()) if ENTRY.fullmatch(name)), default=0)
    if last > len(log) and read_entry(store, len(log) + 1) is None:
        raise Corrupt(
            f"the champion's log in {store.full(champion_folder())} has a gap: {entry_name(len(log) + 1)} is missing, "
            f"{entry_name(last)} is there"
        )
    return log


def append(store: Store, action: Action, choose: Callable[[list[Entry]], str], why: str) -> Entry:
    """Write the next entry. If another process takes the number first, look at the log and choose again.

    Raises `TryAgain` if that happens too often, or if the log does not show the entry that was in the way.
    """
    seen = -1
    for _ in range(APPENDS_MAX):
        log = history(store)
        if len(log) == seen:
            break
        entry = Entry(len(log) + 1, action, choose(log), why, datetime.now(UTC).isoformat(timespec="seconds"))
        text = canonical({"format": FORMAT} | asdict(entry), indent=1) + "\n"
        if put_if_absent(store, f"{champion_folder()}/{entry_name(entry.number)}", text.encode()):
            return entry
        seen = len(log)
    raise TryAgain(
        f"cannot append to the champion's log in {store.full(champion_folder())}: entry {seen + 1} was taken by "
        "another process each time; run it again"
    )


def entry_name(number: int) -> str:
    return f"{number:05d}.json"


def read_entry(store: Store, number: int) -> Entry | None:
    """Return an entry of the log, or None if there is none of this number. Raises `Corrupt` or `StorageFailed`."""
    path = f"{champion_folder()}/{entry_name(number)}"
    with storage_errors("read", store.full(path)):
        try:
            data = store.read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
    try:
        body = json.loads(data)
        found_format = int(body.pop("format"))
        check_format(found_format, store.full(path))
        entry = Entry(**body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{store.full(path)} is not an entry of the champion's log, or is damaged") from error
    if entry.number != number:
        raise Corrupt(f"{store.full(path)} holds entry {entry.number}: expected {number}")
    return entry
