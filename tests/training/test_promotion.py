"""A champion is replaced only by what is shown to be better on rows that neither was trained on."""

from pathlib import Path

import pytest

from digitrec import storage
from digitrec.catalog import bundled
from digitrec.catalog import listing as catalog
from digitrec.catalog.champion import promote, read_log
from digitrec.catalog.store import Store
from digitrec.errors import Corrupt
from digitrec.options import TrainOptions
from digitrec.storage.faulty import FaultyStorage, Verb, once
from digitrec.training import promotion
from digitrec.training.comparison import PairedTest
from digitrec.training.promotion import judge, settle_champion
from digitrec.training.quality import mcnemar
from tests.places import full
from tests.training.conftest import Digits, Publish, champion_of, constant, publish_model, train

QUICK = TrainOptions(preset="quick")


def outcome(only_new: int, only_old: int, rows: int = 300) -> PairedTest:
    return PairedTest(rows, only_new, only_old, mcnemar(only_new, only_old))


def test_clearly_better_is_promoted() -> None:
    """Right on 60 rows where the champion is wrong, wrong on 20 where it is right: no chance of a coin."""
    verdict = judge(outcome(60, 20), "old")
    assert verdict.promote
    assert "right on 60 where champion old is wrong" in verdict.why


@pytest.mark.parametrize("only_old", [50, 60])
def test_a_little_better_or_as_good_is_not(only_old: int) -> None:
    """More right answers alone may be luck."""
    verdict = judge(outcome(60, only_old), "old")
    assert not verdict.promote
    assert "not shown to be better" in verdict.why


def test_clearly_worse_is_not() -> None:
    """The test has two sides; only one of them promotes."""
    assert not judge(outcome(20, 60), "old").promote


def test_too_few_rows_prove_nothing() -> None:
    """However clear it looks: below 200 rows that neither saw, the champion stays, and the verdict says what to do."""
    assert judge(outcome(60, 0, rows=200), "old").promote
    verdict = judge(outcome(60, 0, rows=199), "old")
    assert not verdict.promote
    assert "only 199 validation rows" in verdict.why
    assert "--promote" in verdict.why


def test_a_champion_that_cannot_be_read_stays(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """The training is sealed all the same; the verdict names the damaged file, and --promote goes past it."""
    publish_dataset("sample", digits[0][:1000], digits[1][:1000])
    first = train(store, QUICK)
    model = catalog.model(store, first.version)
    weights = Path(full(store, model.key(model.file("weights.safetensors"))))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    second = train(store, QUICK.model_copy(update={"seed": 1}))
    assert not second.promoted
    assert f"cannot compare with champion {first.version}" in second.why
    assert weights.name in second.why
    assert train(store, QUICK.model_copy(update={"seed": 1, "promote": True})).promoted
    assert champion_of(store) == second.version


def test_in_a_store_without_champion_the_bundled_model_is_to_be_beaten(
    store: Store, publish_dataset: Publish, digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put in and made champion first; with --promote or --no-promote there is nothing to compare."""
    made = Store.at(tmp_path / "made")
    publish_model(made, "pretrained-0123456789abcdef", constant(3))
    monkeypatch.setattr(bundled, "BUNDLE", Path(full(made, "models/pretrained-0123456789abcdef")))
    sample = publish_dataset("sample", digits[0][:1000], digits[1][:1000])
    publish_model(store, "quick-00000001", constant(4), datasets=[sample])
    assert not settle_champion(store, "quick-00000001", False).promote
    assert champion_of(store) is None
    verdict = settle_champion(store, "quick-00000001", None)
    assert not verdict.promote
    assert "validation rows that neither it nor champion pretrained-0123456789abcdef was trained on" in verdict.why
    assert champion_of(store) == "pretrained-0123456789abcdef"


def test_a_log_that_cannot_be_read_is_left_alone(store: Store) -> None:
    """What was trained stays sealed and is reported; only a promotion that was asked for fails."""
    store.storage.put_if_absent("models/champion/00001.json", b"{")
    verdict = settle_champion(store, "quick-12345678", asked=None)
    assert not verdict.promote
    assert "00001.json" in verdict.why
    with pytest.raises(Corrupt, match=r"00001\.json"):
        settle_champion(store, "quick-12345678", asked=True)


def test_both_are_compared_on_what_either_was_trained_on(
    store: Store, publish_dataset: Publish, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The champion's validation rows count as much as the new one's; of a dataset that is gone, the verdict says so."""
    monkeypatch.setattr(promotion, "UNSEEN_ROWS_MIN", 1)
    for name, part in (("old", slice(0, 1000)), ("new", slice(1000, 1700))):
        publish_dataset(name, digits[0][part], digits[1][part])
    old = train(store, QUICK.model_copy(update={"dataset": ("old",)}))
    new = train(store, QUICK.model_copy(update={"dataset": ("new",)}))
    assert f"of {old.validation_rows + new.validation_rows:,} rows neither saw" in new.why
    Path(full(store, "datasets/old")).rename(full(store, "datasets/gone"))
    again = train(store, QUICK.model_copy(update={"dataset": ("new",)}))
    assert f"of {new.validation_rows:,} rows neither saw" in again.why
    assert f"dataset old, which {old.version} was trained on, is not in this store" in again.why


@pytest.mark.parametrize("fault", ["lose_reply_of", "fail_after"])
@pytest.mark.parametrize("asked", [None, True])
def test_a_lost_reply_to_a_promotion_leaves_one_entry(
    store: Store, asked: bool | None, fault: str, publish_dataset: Publish, digits: Digits
) -> None:
    """The training's own put comes back to it as "already there", or as an error: the version is champion, by one
    entry, and reported as such."""

    def entry_is_put(verb: Verb, key: str) -> bool:
        return verb == "put_if_absent" and key.startswith("models/champion/")

    whens = {fault: once(entry_is_put)}
    faulty = Store.at(storage.register(FaultyStorage(store.storage, **whens)).url)
    publish_dataset("sample", digits[0][:1000], digits[1][:1000])
    options = QUICK.model_copy(update={"promote": asked})
    report = train(faulty, options)
    assert [(entry.number, entry.action, entry.version) for entry in read_log(store)] == [
        (1, "promote", report.version)
    ]
    assert report.promoted
    assert "champion already" in train(faulty, options).why


def test_a_lost_reply_does_not_promote_over_another_one(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """Each put to the log is done twice: each version leaves one entry, and the last one is champion."""
    faulty = Store.at(
        storage.register(FaultyStorage(store.storage, lose_reply_of=lambda verb, _: verb == "put_if_absent")).url
    )
    publish_dataset("sample", digits[0][:1000], digits[1][:1000])
    versions = [train(faulty, QUICK.model_copy(update={"seed": seed, "promote": True})).version for seed in (1, 2)]
    assert [(entry.number, entry.version) for entry in read_log(store)] == list(enumerate(versions, start=1))


def test_a_champion_that_was_made_anew_is_no_measure(store: Store, publish_dataset: Publish, digits: Digits) -> None:
    """Under its name stands another network than the one that was promoted: it is not compared with, and stays."""
    sample = publish_dataset("sample", digits[0][:1000], digits[1][:1000])
    promote(store, publish_model(store, "old", constant(4), datasets=[sample]), "for a test")
    store.storage.delete("models/old/manifest.json")
    publish_model(store, "old", constant(5), datasets=[sample])
    report = train(store, QUICK)
    assert not report.promoted
    assert "was made anew since" in report.why
    assert champion_of(store) == "old"
