"""The champion is the last entry of a log that only grows."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from digitrec.catalog import champion
from digitrec.catalog.champion import (
    APPENDS_MAX,
    Entry,
    entry_key,
    find_champion,
    promote,
    read_champion,
    read_log,
    rollback,
)
from digitrec.catalog.manifest import canonical
from digitrec.catalog.store import Store
from digitrec.contract import FORMAT
from digitrec.errors import Corrupt, NoInput, OldStore, OtherFormat, StorageFailed, TryAgain
from digitrec.storage.faulty import Verb, once, once_each
from tests.catalog.conftest import in_memory, publish_model, with_faults
from tests.places import full


@pytest.fixture
def models(anywhere: Store) -> Store:
    """A store with model versions a, b and c."""
    for version in "abc":
        publish_model(anywhere, version)
    return anywhere


def best(store: Store) -> str | None:
    entry = find_champion(store)
    return entry.version if entry else None


def is_entry(verb: Verb, key: str) -> bool:
    return verb == "put_if_absent" and key.startswith("models/champion/")


def write_entry(store: Store, number: int, **changes: object) -> None:
    """An entry as it is written, with changes."""
    entry = Entry(number, "promote", "a", "0", 0, "attempt", "somebody", "2026-01-01T00:00:00+00:00", "a test")
    body = {"format": FORMAT} | asdict(entry) | changes
    store.storage.put(entry_key(number), canonical(body).encode())


def test_an_empty_store_has_no_champion(anywhere: Store) -> None:
    """Nothing was promoted: None, not an error; and asking leaves nothing behind."""
    assert find_champion(anywhere) is read_champion(anywhere) is None
    assert read_log(anywhere) == anywhere.storage.list("") == []


def test_the_last_promotion_counts(models: Store) -> None:
    """Each promotion is the next number; the highest is the champion, and its manifest that of the version."""
    assert [promote(models, version, "better").number for version in "ab"] == [1, 2]
    assert best(models) == "b"
    manifest = read_champion(models)
    assert manifest is not None
    assert (manifest.kind, manifest.name) == ("model", "b")


def test_an_entry_says_what_who_when_and_why(models: Store) -> None:
    """Digest of the version's manifest, an id of the attempt, user and host or who was named, the time, the reason."""
    manifest = publish_model(models, "d")
    entry = promote(models, "d", "better by 0.2 %")
    assert entry == read_log(models)[0]
    assert (entry.digest, entry.why, entry.action, entry.back_to) == (manifest.digest, "better by 0.2 %", "promote", 0)
    assert entry.who == champion.name_self()
    assert "@" in entry.who
    assert entry.at.endswith("+00:00")
    named = promote(models, "a", "asked for", who="anna")
    assert named.who == "anna"
    assert rollback(models, who="otto").who == "otto"
    assert len({entry.attempt for entry in read_log(models)}) == 3
    assert models.storage.list("models/champion") == ["00001.json", "00002.json", "00003.json"]


def test_rollback_walks_back_and_keeps_the_history(models: Store) -> None:
    """Two rollbacks after three promotions lead to the first; all five entries stay; a promotion goes on from there."""
    for version in "abc":
        promote(models, version, "better")
    assert [rollback(models).version for _ in "12"] == ["b", "a"]
    assert best(models) == "a"
    assert [entry.action for entry in read_log(models)] == ["promote"] * 3 + ["rollback"] * 2
    with pytest.raises(NoInput, match="no earlier champion"):
        rollback(models)
    promote(models, "c", "after all")
    assert rollback(models).version == "a"


def test_only_published_versions_are_promoted(anywhere: Store) -> None:
    """A version that is not published cannot be champion."""
    with pytest.raises(NoInput, match="no model version ghost"):
        promote(anywhere, "ghost", "why not")
    assert anywhere.storage.list("") == []


def test_promoting_the_champion_again_changes_nothing(models: Store) -> None:
    """Its log gets no second entry, so that a rollback leads to the one before."""
    for version in "abb":
        promote(models, version, "better")
    assert len(read_log(models)) == 2
    assert rollback(models).version == "a"


def test_a_comparison_counts_only_for_the_champion_it_was_made_with(models: Store) -> None:
    """Better than a is no reason to replace b: the comparison is to be made again."""
    promote(models, "a", "first", instead_of="")
    promote(models, "b", "better", instead_of="a")
    with pytest.raises(TryAgain, match="b became champion while c was compared with a"):
        promote(models, "c", "better", instead_of="a")
    with pytest.raises(TryAgain, match="compared with nobody"):
        promote(models, "c", "first", instead_of="")
    assert best(models) == "b"


# A lost reply: the put was done, and the caller was told "already there", or an error.


@pytest.mark.parametrize("fault", ["lose_reply_of", "fail_after"])
def test_a_lost_reply_rolls_back_once(models: Store, fault: str) -> None:
    """F7: from c to b, with one entry; never on to a."""
    for version in "abc":
        promote(models, version, "better")
    store, _ = with_faults(models, **{fault: once_each(is_entry)})
    entry = rollback(store)
    assert (entry.version, best(models), len(read_log(models))) == ("b", "b", 4)
    assert read_log(models)[-1] == entry


@pytest.mark.parametrize("fault", ["lose_reply_of", "fail_after"])
def test_a_lost_reply_promotes_once(models: Store, fault: str) -> None:
    """At each put of a log that grows: an entry each, and the last one is the champion."""
    store, _ = with_faults(models, **{fault: once_each(is_entry)})
    for number, version in enumerate("abc", 1):
        instead_of = " abc"[number - 1].strip()
        assert promote(store, version, "better", instead_of=instead_of).number == number
    assert [entry.version for entry in read_log(models)] == ["a", "b", "c"]


def test_a_put_that_failed_changes_nothing(models: Store) -> None:
    """The error passes; the next try does it."""
    store, _ = with_faults(models, fail_before=once(is_entry))
    with pytest.raises(StorageFailed, match="on purpose"):
        promote(store, "a", "better")
    assert read_log(models) == []
    assert promote(store, "a", "better").number == 1


@pytest.mark.timeout(30)
def test_a_number_that_is_taken_and_cannot_be_seen_ends_the_try(models: Store) -> None:
    """Where what is in the way does not show, it is to be tried again later; it does not go round for ever."""
    store, faulty = with_faults(models)
    faulty.inner = type("Blind", (), {"__getattr__": lambda _, name: getattr(models.storage, name)})()
    faulty.inner.put_if_absent = lambda key, data: False
    with pytest.raises(TryAgain, match=f"took the next number {APPENDS_MAX} times"):
        promote(store, "a", "better")


@pytest.mark.timeout(30)
def test_a_log_that_grows_faster_than_we_write_ends_the_try(models: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of tries is bounded, and what others have written stays."""

    def taken(store: Store, key: str, data: bytes) -> bool:
        body = json.loads(data)
        write_entry(store, body["number"], version="b")
        return False

    monkeypatch.setattr(champion, "create", taken)
    monkeypatch.setattr(champion, "APPENDS_MAX", 5)
    with pytest.raises(TryAgain):
        rollback_or_promote(models)
    assert [entry.version for entry in read_log(models)] == ["b"] * 5


def rollback_or_promote(store: Store) -> None:
    promote(store, "a", "race")


RACE = """
import sys
from digitrec.catalog.champion import promote, rollback
from digitrec.catalog.store import Store
from digitrec.errors import NoInput
store, me = Store.at(sys.argv[1]), int(sys.argv[2])
sys.stdin.read()
for turn in range(4):
    try:
        entry = rollback(store) if (me + turn) % 4 == 3 else promote(store, "abc"[(me + turn) % 3], f"{me}.{turn}")
    except NoInput:
        continue
    print(entry.number, entry.attempt)
"""


def test_of_sixteen_processes_no_entry_is_lost(store: Store) -> None:
    """Promotions and rollbacks at once take a number each, unless they find their version champion; the log replays."""
    for version in "abc":
        publish_model(store, version)
    command = [sys.executable, "-c", RACE, store.url]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([*command, str(n)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(16)
    ]
    said = [process.communicate("")[0] for process in running]
    assert [process.returncode for process in running] == [0] * 16
    log = read_log(store)
    assert [entry.number for entry in log] == list(range(1, len(log) + 1))
    told = {tuple(line.split()) for words in said for line in words.splitlines()}
    assert {(str(entry.number), entry.attempt) for entry in log} == told
    for entry in log:
        before = log[entry.number - 2] if entry.number > 1 else None
        if entry.action == "promote":
            assert entry.back_to == (before.number if before else 0)
            assert before is None or before.version != entry.version
        else:
            assert before is not None
            target = log[before.back_to - 1]
            assert (entry.version, entry.back_to) == (target.version, target.back_to)
    assert best(store) == log[-1].version


# What is missing, damaged or of another format.


@pytest.mark.parametrize("hinted", [True, False])
def test_a_gap_is_named_and_nothing_is_written_into_it(models: Store, own_cache: Path, hinted: bool) -> None:
    """A missing entry is no end: reading the log says so, and so does promoting, from wherever it was read before."""
    for version in "abc":
        promote(models, version, "better")
    models.storage.delete(entry_key(2))
    if not hinted:
        next((own_cache / "digitrec/champion").iterdir()).unlink()
    with pytest.raises(Corrupt, match=r"has a gap: .*00002\.json is missing, entry 3 is there"):
        read_log(models)
    if hinted:
        assert best(models) == "c"
    else:
        with pytest.raises(Corrupt, match="has a gap"):
            best(models)
        with pytest.raises(Corrupt, match="has a gap"):
            promote(models, "b", "better")
        with pytest.raises(Corrupt, match="has a gap"):
            promote(models, "c", "better")
    assert models.storage.list("models/champion") == ["00001.json", "00003.json"]


def test_entries_go_on_beyond_five_digits(models: Store) -> None:
    """Numbers are compared, not names; what is no entry is none."""
    write_entry(models, 1)
    for name in ("100000.json", "note.txt", "x.json", "00009.txt"):
        models.storage.put(f"models/champion/{name}", b"")
    with pytest.raises(Corrupt, match=r"00002\.json is missing, entry 100000 is there"):
        read_log(models)
    models.storage.delete("models/champion/100000.json")
    assert [entry.number for entry in read_log(models)] == [1]
    assert (entry_key(1), entry_key(100_000)) == ("models/champion/00001.json", "models/champion/100000.json")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"format": 3}', b'{"format": 3, "number": 2}', b'{"format": 3, "surplus": 1}']
)
def test_a_damaged_entry_is_named(models: Store, data: bytes) -> None:
    """Another champion is not chosen instead."""
    promote(models, "a", "better")
    models.storage.put(entry_key(2), data)
    for ask in (find_champion, read_champion, read_log, rollback):
        with pytest.raises(Corrupt, match=r"00002\.json"):
            ask(models)


def test_an_entry_under_another_number_is_damage(models: Store) -> None:
    """A copied entry is not a second promotion."""
    promote(models, "a", "first")
    models.storage.copy(entry_key(1), entry_key(2))
    with pytest.raises(Corrupt, match=r"00002\.json holds entry 1"):
        find_champion(models)


@pytest.mark.parametrize(("found", "error"), [(FORMAT + 1, OtherFormat), (FORMAT - 1, OldStore)])
def test_an_entry_of_another_format_is_refused(models: Store, found: int, error: type[Exception]) -> None:
    """Exit 78, with the entry."""
    write_entry(models, 1, format=found)
    for ask in (find_champion, lambda store: promote(store, "a", "better")):
        with pytest.raises(error, match=rf"00001\.json has format {found}"):
            ask(models)


def test_an_entry_that_cannot_be_read_is_no_absence(models: Store) -> None:
    """F39: an error while looking passes; the entry before is not taken instead."""
    promote(models, "a", "better")
    promote(models, "b", "better")
    store, _ = with_faults(models, fail_before=lambda verb, key: key == entry_key(2))
    for ask in (find_champion, read_log):
        with pytest.raises(StorageFailed, match="on purpose"):
            ask(store)


@pytest.mark.parametrize("how", ["made anew", "missing"])
def test_a_version_that_is_not_the_one_that_was_promoted_is_refused(models: Store, how: str) -> None:
    """A name is no model: what took its place was never compared with anything. To promote it anew is possible."""
    promote(models, "a", "better")
    models.storage.delete("models/a/manifest.json")
    if how == "made anew":
        publish_model(models, "a", b"other weights", seed=1)
    words = {"made anew": "was made anew since", "missing": "is missing"}[how]
    with pytest.raises(Corrupt, match=rf"model a, champion by .*00001\.json, {words}.*digitrec promote VERSION"):
        read_champion(models)
    if how == "made anew":
        assert promote(models, "a", "anew").number == 2
        assert read_champion(models) is not None


def test_a_log_is_read_forward_not_listed(models: Store) -> None:
    """F38: a listing that lags, as object stores' do, hides no entry and makes no gap."""
    store, _ = with_faults(models, list_lag=3)
    for number, version in enumerate("abc", 1):
        promote(store, version, "better")
        assert [entry.number for entry in read_log(store)] == list(range(1, number + 1))
        assert best(store) == version


def test_entries_that_come_while_the_log_is_read_are_no_gap(models: Store) -> None:
    """F38: two more are appended between the last one that was read and the look for others."""
    promote(models, "a", "better")

    def appended(verb: Verb, key: str) -> bool:
        if verb == "list":
            write_entry(models, 2)
            write_entry(models, 3)
        return False

    store, _ = with_faults(models, fail_before=appended)
    assert [entry.number for entry in read_log(store)] == [1]
    assert [entry.number for entry in read_log(models)] == [1, 2, 3]


# Where this machine has read the log to.


def test_what_was_read_is_not_read_again(models: Store) -> None:
    """The next look at a log of many entries reads two: the last one, and that there is no further one."""
    for number in range(1, 40):
        write_entry(models, number, version="abc"[number % 3])
    store, faulty = with_faults(models)
    find_champion(store)
    faulty.calls.clear()
    assert best(store) == "a"
    assert [key for _, key in faulty.calls] == [entry_key(39), entry_key(40)]


@pytest.mark.parametrize("hint", ["7", "99999999999999999999", "-1", "0", "", "x", "1\n2", "\0", "9" * 5000])
def test_a_wrong_hint_is_harmless(models: Store, own_cache: Path, hint: str) -> None:
    """Of another log under this address, torn, or nonsense: the champion is found, and the hint is right again."""
    promote(models, "a", "better")
    promote(models, "b", "better")
    (path,) = (own_cache / "digitrec/champion").iterdir()
    path.write_text(hint)
    assert best(models) == "b"
    assert path.read_text() == "2"
    assert promote(models, "c", "better").number == 3


def test_a_store_made_anew_under_the_same_address(own_cache: Path) -> None:
    """The hint of the one before is beyond the end of its log."""
    store = in_memory()
    publish_model(store, "a")
    for number in range(1, 6):
        write_entry(store, number)
    find_champion(store)
    for number in range(1, 6):
        store.storage.delete(entry_key(number))
    assert find_champion(store) is None
    assert promote(store, "a", "first").number == 1


def test_two_stores_have_hints_of_their_own(own_cache: Path) -> None:
    """What was read in one says nothing about the other."""
    one, other = in_memory(), in_memory()
    write_entry(one, 1)
    assert (best(one), best(other)) == ("a", None)
    assert len(list((own_cache / "digitrec/champion").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(
    models: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file in its place, or no home at all."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    promote(models, "a", "better")

    def no_home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(champion, "user_cache", no_home)
    promote(models, "b", "better")
    assert best(models) == "b"


def test_a_private_entry_is_storage_not_absence(store: Store) -> None:
    """Another user's umask: exit 74 with what to do, not another champion."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    publish_model(store, "a")
    promote(store, "a", "better")
    Path(full(store, entry_key(1))).chmod(0o600)
    try:
        Path(store.url).parent.chmod(0o755)
        os.seteuid(65534)
        with pytest.raises(StorageFailed):
            find_champion(store)
    finally:
        os.seteuid(0)
