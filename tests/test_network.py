"""The perceptron: scaling inside, and a round trip through plain numbers and safetensors."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from digitrec.contract import CLASSES, PIXELS
from digitrec.errors import Corrupt
from digitrec.network import Architecture, Perceptron, load_network, save_network

architectures = st.builds(
    Architecture,
    hidden=st.lists(st.integers(1, 20), max_size=3).map(tuple),
    dropout=st.sampled_from([0.0, 0.5]),
    batch_norm=st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(architecture=architectures, rows=st.integers(0, 5))
def test_a_network_rebuilds_itself(architecture: Architecture, rows: int) -> None:
    """Card and weights give the same logits for any architecture and any number of rows."""
    network = Perceptron(architecture).eval()
    images = torch.randint(0, 256, (rows, PIXELS), dtype=torch.uint8)
    card = json.loads(json.dumps(architecture.to_json()))
    rebuilt = load_network(Architecture.from_json(card), save_network(network))
    assert not rebuilt.training
    assert torch.equal(rebuilt(images), network(images))
    assert rebuilt(images).shape == (rows, CLASSES)


def test_grey_values_are_scaled_inside() -> None:
    """255 is 1: bytes and the same values as floats give the same logits."""
    network = Perceptron(Architecture(())).eval()
    white = torch.full((1, PIXELS), 255, dtype=torch.uint8)
    linear = network.layers[-1]
    torch.testing.assert_close(network(white), linear.weight.sum(dim=1)[None] + linear.bias)
    assert torch.equal(network(white), network(white.float()))


def test_saving_twice_gives_the_same_bytes() -> None:
    """A digest of the weights says whether two trainings came out equal."""
    network = Perceptron(Architecture((8,), batch_norm=True))
    assert save_network(network) == save_network(network)


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"hidden": [8], "dropout": 0.0, "batch_norm": True, "scale": 1.0},
        Architecture((8,)).to_json() | {"hidden": None},
        Architecture((8,)).to_json() | {"dropout": "much"},
    ],
)
def test_a_card_that_cannot_be_read_is_corrupt(numbers: dict[str, object]) -> None:
    """Also one whose network scales its input otherwise."""
    with pytest.raises(Corrupt):
        Architecture.from_json(numbers)


@pytest.mark.parametrize("weights", [b"", b"not safetensors at all", save_network(Perceptron(Architecture((9,))))])
def test_weights_that_do_not_fit_are_corrupt(weights: bytes) -> None:
    """Cut short, something else, or another shape."""
    with pytest.raises(Corrupt, match="do not fit"):
        load_network(Architecture((8,)), weights)
