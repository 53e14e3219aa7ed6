"""The champion is the top of a log that only grows."""

import threading
from pathlib import Path

import pytest
from digitrec.store import aliases

from digitrec.catalog.layout import model_folder
from digitrec.catalog.manifest import Manifest, publish
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt, NoInput, TryAgain


@pytest.fixture
def models(store: Store) -> Store:
    """A store with model versions a, b and c."""
    for version in "abc":
        publish(store, model_folder(version), Manifest("model", version, {"seed": version}, ()))
    return store


def test_an_empty_store_has_no_champion(store: Store) -> None:
    """Nothing was promoted: None, not an error."""
    assert aliases.champion(store) is None


def test_the_last_promotion_rules(models: Store) -> None:
    """Each promotion is the next number; the highest is the champion."""
    numbers = [aliases.promote(models, version, "better").number for version in "ab"]
    assert (numbers, aliases.champion(models)) == ([1, 2], "b")


def test_rollback_walks_back_and_keeps_the_history(models: Store) -> None:
    """Two rollbacks after three promotions lead to the first; all five entries stay."""
    for version in "abc":
        aliases.promote(models, version, "better")
    assert [aliases.rollback(models).version for _ in "12"] == ["b", "a"]
    assert aliases.champion(models) == "a"
    assert [entry.action for entry in aliases.history(models)] == ["promote"] * 3 + ["rollback"] * 2


def test_there_must_be_something_to_go_back_to(models: Store) -> None:
    """The first champion cannot be rolled back."""
    aliases.promote(models, "a", "first")
    with pytest.raises(NoInput, match="no earlier champion"):
        aliases.rollback(models)


def test_only_sealed_versions_are_promoted(store: Store) -> None:
    """A version that is not published cannot be champion."""
    with pytest.raises(NoInput, match="no model version ghost"):
        aliases.promote(store, "ghost", "why not")


def test_promotions_at_the_same_time_are_all_kept(models: Store) -> None:
    """Promotions at once take a number each, unless they find that their version rules already."""
    threads = [threading.Thread(target=aliases.promote, args=(models, "abc"[n % 3], "race")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = aliases.history(models)
    assert {entry.version for entry in log} == set("abc")
    assert [entry.number for entry in log] == list(range(1, len(log) + 1))


def test_a_gap_or_a_damaged_entry_is_named(models: Store) -> None:
    """The log is checked when read: a missing number or a broken file is corruption, not a different champion."""
    for version in "abc":
        aliases.promote(models, version, "better")
    Path(models.full("models/champion/00003.json")).write_text("{")
    with pytest.raises(Corrupt, match=r"00003\.json"):
        aliases.champion(models)
    Path(models.full("models/champion/00003.json")).unlink()
    Path(models.full("models/champion/00001.json")).unlink()
    with pytest.raises(Corrupt, match="has a gap"):
        aliases.champion(models)


def test_promoting_the_champion_again_changes_nothing(models: Store) -> None:
    """Its log gets no second entry, so that a rollback leads to the one before."""
    for version in "abb":
        aliases.promote(models, version, "better")
    assert len(aliases.history(models)) == 2
    assert aliases.rollback(models).version == "a"


def test_a_comparison_counts_only_for_the_champion_it_was_made_with(models: Store) -> None:
    """Better than a is no reason to replace b: the comparison is to be made again."""
    aliases.promote(models, "a", "first", instead_of="")
    aliases.promote(models, "b", "better", instead_of="a")
    with pytest.raises(TryAgain, match="b became champion while c was compared with a"):
        aliases.promote(models, "c", "better", instead_of="a")
    assert aliases.champion(models) == "b"


def test_a_log_is_read_forward_not_listed(models: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing taken while others append may show an entry without the one before; entries are read by number."""
    for version in "abc":
        aliases.promote(models, version, "better")
    monkeypatch.setattr(Store, "names", lambda *_: ["00003.json", "00001.json"])
    assert [entry.version for entry in aliases.history(models)] == ["a", "b", "c"]


def test_entries_are_in_order_of_their_numbers_beyond_five_digits(models: Store) -> None:
    """Entry 100,000 comes after 99,999; a file that is no entry is none."""
    for version in "ab":
        aliases.promote(models, version, "better")
    folder = Path(models.full("models/champion"))
    (folder / ".1f.tmp").touch()
    (folder / "100000.json").write_bytes((folder / "00002.json").read_bytes())
    with pytest.raises(Corrupt, match=r"has a gap: 00003\.json is missing, 100000\.json is there"):
        aliases.history(models)


def test_an_entry_under_another_number_is_damage(models: Store) -> None:
    """A copied entry is not a second promotion."""
    aliases.promote(models, "a", "first")
    folder = Path(models.full("models/champion"))
    (folder / "00002.json").write_bytes((folder / "00001.json").read_bytes())
    with pytest.raises(Corrupt, match=r"00002\.json holds entry 1"):
        aliases.champion(models)


@pytest.mark.timeout(30)
def test_a_name_that_is_taken_and_cannot_be_seen_ends_the_try(models: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is in the way does not show (a cache of the file system's), promoting is to be tried again later; it
    does not go round for ever."""
    tries: list[str] = []
    monkeypatch.setattr(aliases, "put_if_absent", lambda _store, path, _data: tries.append(path))
    with pytest.raises(TryAgain, match="entry 1 was taken by another process"):
        aliases.promote(models, "b", "better")
    assert len(tries) == 1


@pytest.mark.timeout(30)
def test_a_log_that_grows_faster_than_we_write_ends_the_try(models: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of tries is bounded."""
    put = aliases.put_if_absent

    def too_late(store: Store, path: str, data: bytes) -> bool:
        put(store, path, data)
        return False

    monkeypatch.setattr(aliases, "put_if_absent", too_late)
    monkeypatch.setattr(aliases, "APPENDS_MAX", 5)
    with pytest.raises(TryAgain):
        aliases.append(models, "promote", lambda _: "a", "race")
    assert len(aliases.history(models)) == 5
