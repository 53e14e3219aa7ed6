"""Whether a new model version becomes champion: only if it is better on rows that neither was trained on."""

from dataclasses import dataclass

from digitrec.catalog.bundled import provide_champion
from digitrec.catalog.champion import find_champion, promote, read_champion, read_log
from digitrec.catalog.store import Store
from digitrec.errors import Misconfigured, NoInput, StorageFailed
from digitrec.training.comparison import PairedTest, compare

UNSEEN_ROWS_MIN = 200
SIGNIFICANT_BELOW = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether the version is to be champion, and why, for people."""

    promote: bool
    why: str


def settle_champion(store: Store, version: str, asked: bool | None) -> Verdict:
    """Promote `version` if that was asked for, or if it was left to the comparison and comes out better.

    With nothing asked, a store without a champion gets the bundled model first: that is to be beaten.

    Raises `TryAgain` if another version became champion meanwhile, `StorageFailed` if a promotion was asked for and
    the champion's log cannot be read.
    """
    try:
        champion = find_champion(store)
        best = champion.version if champion else None
        if best is None and asked is None:
            bundled, _ = provide_champion(store)
            best = bundled.name if bundled else None
    except (StorageFailed, Misconfigured) as error:
        if asked:
            raise
        return Verdict(False, f"nobody can be promoted: {error}")
    if best == version:
        return Verdict(False, "it is the champion already")
    if asked is not None:
        verdict, instead_of = Verdict(asked, "asked for" if asked else "--no-promote"), None
    else:
        verdict, instead_of = decide(store, version, best), best or ""
    if verdict.promote:
        promote(store, version, verdict.why, instead_of=instead_of)
    return verdict


def decide(store: Store, version: str, best: str | None) -> Verdict:
    """Compare with the champion on the validation rows of what both were trained on.

    A champion that cannot be read is left where it is: who is to rule instead is for a person to say.
    """
    if best is None:
        return Verdict(True, "there was no champion")
    try:
        if any(entry.version == version for entry in read_log(store)):
            return Verdict(False, "it was champion before and was replaced; --promote makes it champion again")
        read_champion(store)
        comparison = compare(store, version, best)
    except (StorageFailed, Misconfigured, NoInput) as error:
        return Verdict(False, f"cannot compare with champion {best}: {error}; --promote makes it champion all the same")
    verdict = judge(comparison.test or NOTHING_TO_TEST, best)
    return Verdict(verdict.promote, "; ".join([verdict.why, *comparison.notes]))


NOTHING_TO_TEST = PairedTest(rows=0, only_a=0, only_b=0, p=1.0)


def judge(test: PairedTest, best: str) -> Verdict:
    """What a paired test says of a new version (`a`) against the champion (`b`, named `best`)."""
    if test.rows < UNSEEN_ROWS_MIN:
        return Verdict(
            False,
            f"only {test.rows:,} validation rows that neither it nor champion {best} was trained on, "
            f"{UNSEEN_ROWS_MIN} are needed to compare; --promote makes it champion all the same",
        )
    found = (
        f"of {test.rows:,} rows neither saw, it is right on {test.only_a:,} where champion {best} is wrong, "
        f"and wrong on {test.only_b:,} where that is right (p = {test.p:.2g})"
    )
    better = test.only_a > test.only_b and test.p < SIGNIFICANT_BELOW
    return Verdict(better, found if better else f"not shown to be better: {found}")
