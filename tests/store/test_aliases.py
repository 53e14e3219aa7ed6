"""The champion is the top of a log that only grows."""

import threading
from pathlib import Path

import pytest

from digitrec.errors import Corrupt, NoInput, TryAgain
from digitrec.store import aliases
from digitrec.store.layout import Store, model_folder
from digitrec.store.manifest import Manifest, publish


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
