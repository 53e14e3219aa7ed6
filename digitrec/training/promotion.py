"""Whether a new model version becomes champion: only if it is better on rows that neither was trained on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from digitrec.store.aliases import champion, history, promote
from digitrec.store.layout import Store
from digitrec.training.quality import logits_of, mcnemar
from digitrec.training.rows import Rows
from digitrec.training.sealing import Sealed, open_sealed

UNSEEN_ROWS_MIN = 200
SIGNIFICANT_BELOW = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether the version is to be champion, and why, for people."""

    promote: bool
    why: str


def settle_champion(store: Store, version: str, asked: bool | None, validation: Callable[[], Rows]) -> Verdict:
    """Promote `version` if that was asked for, or if it was left to the comparison and comes out better.

    `validation` reads the rows to compare on; it is called only if a comparison is needed. Raises `TryAgain` if
    another version became champion meanwhile.
    """
    best = champion(store)
    if best == version:
        return Verdict(False, "it is the champion already")
    if asked is not None:
        verdict, instead_of = Verdict(asked, "asked for" if asked else "--no-promote"), None
    else:
        verdict, instead_of = decide(store, version, best, validation), best or ""
    if verdict.promote:
        promote(store, version, verdict.why, instead_of=instead_of)
    return verdict


def decide(store: Store, version: str, best: str | None, validation: Callable[[], Rows]) -> Verdict:
    if best is None:
        return Verdict(True, "there was no champion")
    if any(entry.version == version for entry in history(store)):
        return Verdict(False, "it was champion before and was replaced; --promote makes it champion again")
    return compare(open_sealed(store, version), open_sealed(store, best), validation())


def compare(new: Sealed, old: Sealed, rows: Rows) -> Verdict:
    """McNemar's paired test on distinct rows that neither was trained on."""
    _, distinct = np.unique(rows.digests, return_index=True)
    seen = np.concatenate([new.trained_on, old.trained_on])
    unseen = rows.where(distinct[~np.isin(rows.digests[distinct], seen)])
    if len(unseen) < UNSEEN_ROWS_MIN:
        return Verdict(
            False,
            f"only {len(unseen):,} validation rows that neither it nor champion {old.version} was trained on, "
            f"{UNSEEN_ROWS_MIN} are needed to compare; --promote makes it champion all the same",
        )
    gained, lost = disagreements(new, old, unseen)
    p = mcnemar(gained, lost)
    found = (
        f"of {len(unseen):,} rows neither saw, it is right on {gained:,} where champion {old.version} is wrong, "
        f"and wrong on {lost:,} where that is right (p = {p:.2g})"
    )
    better = gained > lost and p < SIGNIFICANT_BELOW
    return Verdict(better, found if better else f"not shown to be better: {found}")


def disagreements(new: Sealed, old: Sealed, rows: Rows) -> tuple[int, int]:
    """Rows that only the new one, and only the old one, gets right."""
    new_right, old_right = (
        logits_of(sealed.network, rows.images).argmax(axis=1) == rows.labels for sealed in (new, old)
    )
    return int((new_right & ~old_right).sum()), int((old_right & ~new_right).sum())
