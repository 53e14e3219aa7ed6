"""Where the device multiplies bf16 itself, trainings do so too; what they keep is fp32."""

from pathlib import Path

import pytest
import torch

from digitrec.catalog.store import Store
from digitrec.network import Perceptron
from digitrec.progress import silent
from digitrec.training import classifier
from digitrec.training.classifier import multiplies_bf16
from digitrec.training.fitting import Course, Fitted, fit, own_torch_state
from digitrec.training.recipe import Distillation, Recipe
from digitrec.training.rows import Rows
from digitrec.training.split import split_rows
from tests.training.conftest import Digits

TAUGHT = Recipe((128,), 12, 64, distillation=Distillation(epochs=3, batch=64))


def trained(folder: Path, digits: Digits) -> Fitted[Perceptron]:
    with own_torch_state(1):
        split = split_rows(Rows.of(digits[0][:2000], digits[1][:2000]))
        return fit(Course(Store.at(folder), "quick-00000001", 1, 0, split, silent), TAUGHT)


def right(network: torch.nn.Module, digits: Digits) -> float:
    """Share of the digits that it has not seen."""
    with torch.inference_mode():
        answers = network(torch.from_numpy(digits[0][2000:])).argmax(1).numpy()
    return float((answers == digits[1][2000:]).mean())


def test_training_in_bf16_is_as_good(tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher and perceptron come out otherwise than in fp32, but no worse; their weights are fp32."""
    monkeypatch.setattr(classifier, "multiplies_bf16", lambda device: False)
    exact = trained(tmp_path / "fp32", digits)
    monkeypatch.setattr(classifier, "multiplies_bf16", lambda device: True)
    rough = trained(tmp_path / "bf16", digits)
    assert exact.teacher is not None
    assert rough.teacher is not None
    assert {tensor.dtype for tensor in rough.network.parameters()} == {torch.float32}
    for one, other in ((exact, rough), (exact.teacher, rough.teacher)):
        assert one.history[0].train_loss != other.history[0].train_loss
        assert right(other.network, digits) == pytest.approx(right(one.network, digits), abs=0.02)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx512_bf16", "GenuineIntel"}, False),
        ({"avx512_bf16", "amx_bf16", "GenuineIntel"}, True),
        ({"avx2", "AuthenticAMD"}, False),
        ({"avx512_bf16", "AuthenticAMD"}, True),
    ],
)
def test_a_processor_must_be_quicker_with_it(flags: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX-512 BF16 alone is slower than fp32 in torch on Intel's processors, and quicker on AMD's; AMX is quicker."""
    monkeypatch.setattr(classifier, "processor_flags", lambda: frozenset(flags))
    assert multiplies_bf16(torch.device("cpu")) == expected
