"""Loading a model version for arithmetic: every byte is checked before it is used."""

from pathlib import Path

import numpy as np
import pytest
import torch

from digitrec.catalog.store import Store
from digitrec.engines import INT8_FILE, Arithmetic
from digitrec.errors import Corrupt
from digitrec.scoring.engine import load_engine
from digitrec.scoring.predict import predict
from tests.places import full
from tests.scoring.making import make_model, make_network


def test_fp32_is_the_network_as_it_was_trained(store: Store, images: np.ndarray) -> None:
    """The engine's logits are those of the network that was saved."""
    network = make_network()
    model = make_model(store, network=network, temperature=2.5)
    engine = load_engine(store, model.name, model.digest, "fp32")
    with torch.inference_mode():
        expected = network(torch.tensor(images)).numpy()
    assert np.array_equal(engine.network(images), expected)
    assert engine.temperature == 2.5


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_others_agree_with_fp32_but_for_close_calls(store: Store, images: np.ndarray, precision: Arithmetic) -> None:
    """Coarser arithmetic moves logits a little: labels differ only where the best two are close."""
    model = make_model(store, agreement=1)
    fp32, other = (
        predict(load_engine(store, model.name, model.digest, each).network, images) for each in ("fp32", precision)
    )
    clear = fp32.confidence - fp32.runner_up_confidence > 0.05
    assert clear.any()
    assert np.array_equal(fp32.label[clear], other.label[clear])


@pytest.mark.parametrize(
    ("name", "precision"), [("weights.safetensors", "fp32"), ("card.json", "fp32"), (INT8_FILE, "int8")]
)
def test_a_flipped_bit_in_a_model_is_found_and_named(store: Store, name: str, precision: Arithmetic) -> None:
    """Weights with a flipped bit would load silently as other weights."""
    model = make_model(store, agreement=1)
    path = Path(full(store, model.key(model.file(name))))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match=path.name):
        load_engine(store, model.name, model.digest, precision)


def test_a_model_that_is_not_the_one_asked_for_is_refused(store: Store) -> None:
    """A worker is given a path and a digest; both must fit."""
    model = make_model(store)
    with pytest.raises(Corrupt, match="changed while scoring"):
        load_engine(store, model.name, "0" * 64, "fp32")
