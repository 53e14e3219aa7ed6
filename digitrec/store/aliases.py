"""The champion: a numbered log, each entry put-if-absent, so that promotion and rollback are safe and kept.

A promotion is pushed, a rollback takes the last one off; the champion is what is on top after the whole log was read.
"""

import json
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
    """The whole log, in order. Raises `Corrupt` if an entry is missing or unreadable."""
    log = [read_entry(store, path) for path in store.glob(f"{champion_folder()}/[0-9]*.json")]
    if [entry.number for entry in log] != list(range(1, len(log) + 1)):
        raise Corrupt(
            f"the champion's log in {store.full(champion_folder())} has a gap: "
            f"expected 00001.json to {len(log):05d}.json"
        )
    return log


def append(store: Store, action: Action, choose: Callable[[list[Entry]], str], why: str) -> Entry:
    """Write the next entry. If another process takes the number first, look at the log and choose again."""
    while True:
        log = history(store)
        entry = Entry(len(log) + 1, action, choose(log), why, datetime.now(UTC).isoformat(timespec="seconds"))
        text = canonical({"format": FORMAT} | asdict(entry), indent=1) + "\n"
        if put_if_absent(store, f"{champion_folder()}/{entry.number:05d}.json", text.encode()):
            return entry


def read_entry(store: Store, path: str) -> Entry:
    try:
        with storage_errors("read"):
            body = json.loads(store.read(path))
        found_format = int(body.pop("format"))
        check_format(found_format, store.full(path))
        return Entry(**body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"{store.full(path)} is not an entry of the champion's log, or is damaged") from error
