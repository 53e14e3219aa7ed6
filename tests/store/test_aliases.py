"""The champion is the top of a log that only grows."""

import threading
from pathlib import Path

import pytest

from digitrec.errors import Corrupt, NoInput
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
    """Eight promotions at once take eight numbers."""
    threads = [threading.Thread(target=aliases.promote, args=(models, "abc"[n % 3], "race")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.number for entry in aliases.history(models)] == list(range(1, 9))


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
