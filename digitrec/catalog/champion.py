"""The champion: a numbered log, each entry put-if-absent, so that promotion and rollback are safe and kept.

A promotion is pushed, a rollback takes the last one off. Every entry says which model version is champion from it on,
by its manifest's digest too, and to which entry a rollback goes back; so the last entry alone decides. It is found by
reading forward until a number is absent, from where this machine was last; a listing decides nothing. An entry carries
the id of the attempt that wrote it: whoever is told "already there" reads it back, and may find its own.
"""

import getpass
import hashlib
import platform
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from digitrec.caches import user_cache
from digitrec.catalog.layout import champion_folder, model_folder
from digitrec.catalog.manifest import Manifest, canonical, find_manifest, parse_json
from digitrec.catalog.publish import create
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, NoInput, TryAgain
from digitrec.storage import NotFound

Action = Literal["promote", "rollback"]
APPENDS_MAX = 100
"""So often another process may take the number first: far more than can happen by accident."""
SUFFIX = ".json"
DIGITS = 5


@dataclass(frozen=True)
class Entry:
    """One entry of the log. `version` is the champion from this entry on, published with the manifest of this `digest`.

    `back_to`: the number of the entry whose version a rollback makes champion again, 0 if there is none; `attempt`: an
    id of the write; `who`: user, host and, if any, run; `at`: ISO 8601 in UTC; `why` is for people.
    """

    number: int
    action: Action
    version: str
    digest: str
    back_to: int
    attempt: str
    who: str
    at: str
    why: str


def find_champion(store: Store) -> Entry | None:
    """Return the last entry of the log: its version is what scoring uses when none is named. None if there is none.

    Raises `Corrupt` if one is missing, `Corrupt`, `OtherFormat` or `StorageFailed` if one cannot be read.
    """
    hint = _read_hint(store)
    last = read_entry(store, hint) if hint else None
    number = last.number if last else 0  # of a store that was made anew the hint says nothing
    while entry := read_entry(store, number + 1):
        last, number = entry, number + 1
    if number != hint or not number:
        _check_end(store, number)
    if number != hint:
        _write_hint(store, number)
    return last


def read_champion(store: Store) -> Manifest | None:
    """Return the champion's manifest, or None if there is no champion.

    Raises `Corrupt` if the version is not there any more, or is not the one that was promoted.
    """
    entry = find_champion(store)
    if entry is None:
        return None
    manifest = find_manifest(store, model_folder(entry.version))
    if manifest is None or manifest.digest != entry.digest:
        state = "is missing" if manifest is None else "was made anew since"
        raise Corrupt(
            f"model {entry.version}, champion by {store.address(entry_key(entry.number))}, {state}; restore it, or "
            "choose another one with `digitrec promote VERSION`"
        )
    return manifest


def read_log(store: Store) -> list[Entry]:
    """Return the whole log, in order. Raises `Corrupt` if an entry is unreadable, or missing with others beyond it."""
    log: list[Entry] = []
    while entry := read_entry(store, len(log) + 1):
        log.append(entry)
    _check_end(store, len(log))
    return log


def promote(store: Store, version: str, why: str, *, instead_of: str | None = None, who: str | None = None) -> Entry:
    """Make a published model version the champion, unless it is. Raises `NoInput` if there is no such version.

    With `instead_of`, raises `TryAgain` if the champion is no longer the one ("": none) that it was compared with.
    """
    manifest = find_manifest(store, model_folder(version))
    if manifest is None:
        raise NoInput(f"no model version {version} in {store.url}; see `digitrec list models`")

    def after(last: Entry | None) -> Entry | None:
        champion = last.version if last else ""
        if instead_of is not None and champion != instead_of:
            raise TryAgain(f"{champion} became champion while {version} was compared with {instead_of or 'nobody'}")
        if last and (last.version, last.digest) == (version, manifest.digest):
            return None
        return _entry(last, "promote", version, manifest.digest, last.number if last else 0, why, who)

    return _append(store, after)


def rollback(store: Store, why: str = "asked for", *, who: str | None = None) -> Entry:
    """Go back to the champion before this one. Raises `NoInput` if there is none."""

    def before(last: Entry | None) -> Entry:
        earlier = read_entry(store, last.back_to) if last and last.back_to else None
        if earlier is None:
            raise NoInput(f"no earlier champion to go back to in {store.url}; see `digitrec list models`")
        return _entry(last, "rollback", earlier.version, earlier.digest, earlier.back_to, why, who)

    return _append(store, before)


def read_entry(store: Store, number: int) -> Entry | None:
    """Return an entry of the log, or None if there is none of this number. Raises `Corrupt` or `StorageFailed`."""
    key = entry_key(number)
    try:
        data = store.storage.read(key)
    except NotFound:
        return None
    where = store.address(key)
    damaged = f"{where} is not an entry of the champion's log, or is damaged"
    body = parse_json(data, where, damaged)
    try:
        entry = Entry(**{name: value for name, value in body.items() if name != "format"})
    except TypeError as error:
        raise Corrupt(damaged) from error
    if entry.number != number:
        raise Corrupt(f"{where} holds entry {entry.number}: expected {number}")
    return entry


def entry_key(number: int) -> str:
    return f"{champion_folder()}/{number:0{DIGITS}d}{SUFFIX}"


def _check_end(store: Store, last: int) -> None:
    """Raise `Corrupt` if the log goes on beyond the entry after `last`, which is missing.

    A missing entry ends a walk like an end would; what a listing shows beyond it tells the two apart. The entry is read
    again, as the listing may be younger than the walk.
    """
    beyond = [number for name in store.storage.list(champion_folder()) if (number := _number_of(name)) > last + 1]
    if beyond and read_entry(store, last + 1) is None:
        raise Corrupt(
            f"the champion's log has a gap: {store.address(entry_key(last + 1))} is missing, entry {max(beyond)} is "
            "there; restore it"
        )


def _append(store: Store, choose: Callable[[Entry | None], Entry | None]) -> Entry:
    """Write the next entry, unless `choose`, given the last one, wants none. If another process takes the number first,
    look at the log and choose again.

    Raises `TryAgain` if that happens too often, `Corrupt` if entries are missing: none is written into a gap.
    """
    for _ in range(APPENDS_MAX):
        last = find_champion(store)
        entry = choose(last)
        if entry is None:
            assert last
            return last
        _check_end(store, entry.number - 1)
        data = (canonical({"format": FORMAT} | asdict(entry), indent=1) + "\n").encode()
        if create(store, entry_key(entry.number), data):
            _write_hint(store, entry.number)
            return entry
    raise TryAgain(
        f"cannot append to the champion's log in {store.address(champion_folder())}: another process took the next "
        f"number {APPENDS_MAX} times; run it again"
    )


def _entry(
    last: Entry | None, action: Action, version: str, digest: str, back_to: int, why: str, who: str | None
) -> Entry:
    return Entry(
        number=last.number + 1 if last else 1,
        action=action,
        version=version,
        digest=digest,
        back_to=back_to,
        attempt=uuid.uuid4().hex,
        who=who or name_self(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        why=why,
    )


def name_self() -> str:
    """Return who runs this process, for people: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{platform.node()}"


def _number_of(name: str) -> int:
    digits = name.removesuffix(SUFFIX)
    return int(digits) if name.endswith(SUFFIX) and digits.isascii() and digits.isdigit() else 0


def _hint_path(store: Store) -> Path:
    """Where this machine remembers how far it has read the log; it saves reads, and decides nothing."""
    return user_cache() / "digitrec" / "champion" / hashlib.sha256(store.url.encode()).hexdigest()[:16]


def _read_hint(store: Store) -> int:
    with suppress(OSError, ValueError, RuntimeError):
        return max(0, int(_hint_path(store).read_text()[:DIGITS]))
    return 0


def _write_hint(store: Store, number: int) -> None:
    with suppress(OSError, RuntimeError):
        path = _hint_path(store)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
