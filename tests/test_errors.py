"""Several errors at once end like one, in whichever order they came."""

import itertools

import pytest

from digitrec.errors import (
    BadData,
    ComputationFailed,
    Corrupt,
    DigitrecError,
    Misconfigured,
    OtherFormat,
    StorageFailed,
    TryAgain,
    Unavailable,
    combined,
)


@pytest.mark.parametrize(
    ("errors", "code", "transient"),
    [
        ([Corrupt("a"), StorageFailed("b")], 74, True),
        ([BadData("a"), StorageFailed("b")], 65, True),
        ([ComputationFailed("a"), Corrupt("b"), TryAgain("c")], 70, True),
        ([Corrupt("a"), BadData("b"), OtherFormat("c")], 74, False),
        ([OtherFormat("a"), Misconfigured("b")], 78, False),
        ([Unavailable("a"), TryAgain("b")], 69, True),
        ([TryAgain("a")], 75, True),
    ],
)
def test_the_order_decides_nothing(errors: list[DigitrecError], code: int, transient: bool) -> None:
    """The exit code tells what a person must do something about; it is tried again if that may help any of them."""
    for order in itertools.permutations(errors):
        error = combined(order, "all of it")
        assert (error.exit_code, error.transient, str(error)) == (code, transient, "all of it")
        assert type(error) is type(combined(errors, "all of it"))


def test_every_error_can_be_told() -> None:
    """No class is forgotten in the order."""
    leaves = [DigitrecError]
    for kind in leaves:
        leaves += kind.__subclasses__()
    for kind in leaves[1:]:
        assert combined([kind("x")], "x").exit_code == kind.exit_code


def test_one_error_s_hope_is_not_another_s() -> None:
    """Whether a retry may help is said of the error at hand, not of its class."""
    combined([Corrupt("a"), StorageFailed("b")], "both")
    assert not Corrupt("c").transient
