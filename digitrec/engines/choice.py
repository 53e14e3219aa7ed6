"""Which arithmetic scores: the one asked for, or the quickest that is native here and agrees with fp32."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from digitrec.engines import Arithmetic
from digitrec.errors import Misconfigured
from digitrec.options import Precision

AGREEMENT_MIN: Final = 0.9995
"""Share of labels that must be those of fp32 before `auto` takes a quicker arithmetic."""
CPUINFO: Final = Path("/proc/cpuinfo")
AMD: Final = "AuthenticAMD"
QUICKER: Final[dict[Arithmetic, tuple[frozenset[str], ...]]] = {
    "int8": tuple(frozenset({flag}) for flag in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")),
    # With AVX512-BF16 alone torch takes half as long as in fp32 on AMD's Zen 4, and 1.75 times as long on Intel's.
    "bf16": (frozenset({"amx_bf16"}), frozenset({"avx512_bf16", AMD})),
}
"""What a processor must have, any of these sets, to run that arithmetic quicker than fp32; quickest first."""


@dataclass(frozen=True)
class Choice:
    """An arithmetic, and why, in a few words."""

    precision: Arithmetic
    why: str


def choose(asked: Precision, card: Mapping[str, Any], flags: frozenset[str]) -> Choice:
    """The arithmetic for a model version with this card on a processor with these flags.

    Raises `Misconfigured` if int8 is asked for and the version has no engine for it.
    """
    measured = card.get("engines", {})
    if asked == "int8" and "int8" not in measured:
        raise Misconfigured(
            f"model {card.get('version', '')} has no int8 engine: ask for --precision fp32, or train it anew"
        )
    if asked != "auto":
        return Choice(asked, "as asked")
    against = []
    for precision in QUICKER:
        if reason := reason_against(precision, measured, is_quicker(precision, flags)):
            against.append(reason)
        else:
            return Choice(precision, f"{agreement(measured[precision])} as in fp32")
    return Choice("fp32", "; ".join(against))


def is_quicker(precision: Arithmetic, flags: frozenset[str]) -> bool:
    """Whether a processor with these flags runs it quicker than fp32."""
    return any(needed <= flags for needed in QUICKER[precision])


def reason_against(precision: Arithmetic, measured: Mapping[str, Any], quicker: bool) -> str:
    """Why `auto` does not take it; empty if it does."""
    if precision not in measured:
        return f"no {precision} on the model's card"
    if not quicker:
        return f"{precision} is no quicker on this processor"
    if measured[precision]["agreement"] < AGREEMENT_MIN:
        return f"in {precision} only {agreement(measured[precision])}, {AGREEMENT_MIN:.2%} expected"
    return ""


def agreement(measured: Mapping[str, Any]) -> str:
    return f"{measured['agreement']:.3%} of {measured['images']:,} labels"


def cascade_of(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the card of a model version says of its small net: `temperature`, `threshold` and how they were found.

    Raises `Misconfigured`, with the reason, if the version has none.
    """
    found: Mapping[str, Any] = card.get("cascade", {"none": "it was trained by an older digitrec"})
    if "none" in found:
        raise Misconfigured(
            f"model {card.get('version', '')} has no cascade: {found['none']}; score without --cascade, or train anew"
        )
    return found


def processor_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What the kernel says that this processor can do, and who made it; nothing where it says nothing."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    said = {name.strip(): value for name, _, value in (line.partition(":") for line in lines)}
    return frozenset(word for name in ("flags", "Features", "vendor_id") for word in said.get(name, "").split())
