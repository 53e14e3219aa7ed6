"""Engines: the same network in other arithmetic, and which of them scores."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from digitrec.contract import PIXELS
from digitrec.engines.choice import Choice, choose, processor_flags
from digitrec.engines.confidence import confidence, softmax
from digitrec.engines.floating import in_fp32, on_cores
from digitrec.engines.int8 import open_int8
from digitrec.engines.quantise import quantise
from digitrec.errors import Misconfigured
from digitrec.network import Architecture, Perceptron

IMAGES = np.random.default_rng(0).integers(0, 256, (400, PIXELS), dtype=np.uint8)


def random_network(architecture: Architecture, seed: int = 0) -> Perceptron:
    """Random weights, and batch norms that have seen something."""
    torch.manual_seed(seed)
    network = Perceptron(architecture)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "running_var" in name or name.endswith("1.weight"):
                tensor.uniform_(0.5, 2)
            elif "running_mean" in name:
                tensor.normal_(0, 0.3)
    return network.eval()


NETWORK = random_network(Architecture((64, 48), 0.1, batch_norm=True))
ENGINE = quantise(NETWORK, IMAGES[:200])


@pytest.mark.parametrize("architecture", [Architecture(()), Architecture((32,)), NETWORK.architecture])
def test_int8_is_the_network_but_for_rounding(architecture: Architecture) -> None:
    """With batch norm or without, with hidden layers or none: logits lie within a few steps of eight bits."""
    network = random_network(architecture)
    exact = in_fp32(network)(IMAGES)
    found = open_int8(quantise(network, IMAGES[:200]), "engine")(IMAGES)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 0.05 * np.ptp(exact)
    assert (found.argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.95


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(IMAGES)), max_size=5))
def test_an_answer_in_int8_does_not_depend_on_its_batch(cuts: list[int]) -> None:
    """To the last bit: sums of integers do not round."""
    network = open_int8(ENGINE, "engine")
    whole = network(IMAGES)
    pieces = [network(piece) for piece in np.split(IMAGES, sorted(cuts)) if len(piece)]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_the_same_network_and_images_make_the_same_bytes() -> None:
    """A version that is sealed twice is the same version."""
    assert quantise(NETWORK, IMAGES[:200]) == ENGINE


def test_the_number_of_cores_is_that_of_the_thread_that_asks() -> None:
    """Inside, a thread computes on as many as it asked for, whatever others do; outside, each has as many as it had."""
    before, there, go = torch.get_num_threads(), threading.Event(), threading.Event()

    def stay() -> int:
        with on_cores(1):
            there.set()
            go.wait(60)
            return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool, on_cores(2):
        other = pool.submit(stay)
        there.wait(60)
        assert torch.get_num_threads() == 2
        with on_cores(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        go.set()
        assert other.result() == 1
    assert torch.get_num_threads() == before


def test_one_node_a_layer_and_pixels_as_they_are() -> None:
    """No conversion costs time: bytes go into the first layer, and each layer is one product."""
    graph = onnx.load_from_string(ENGINE).graph
    assert [node.op_type for node in graph.node] == ["QGemm"] * 3
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_units_that_are_dead_or_all_bias_are_kept_as_they_are() -> None:
    """A unit without weights answers with its bias, however large, and a layer that is never active is all zeros."""
    network = Perceptron(Architecture((2,)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.layers[0].bias.copy_(torch.tensor([500.0, -3.0]))
        network.layers[2].weight[7, 0] = 2
        network.layers[2].bias[1] = -1e6
    found = open_int8(quantise(network.eval(), IMAGES[:50]), "engine")(IMAGES[:1])[0]
    assert found[7] == pytest.approx(1000, rel=0.01)
    assert found[1] == pytest.approx(-1e6, rel=1e-6)
    assert not np.delete(found, [1, 7]).any()


def test_an_engine_that_cannot_be_run_says_so() -> None:
    """An onnxruntime too old for the file is the environment's fault."""
    with pytest.raises(Misconfigured, match=r"cannot run some/engine\.onnx.*upgrade it"):
        open_int8(b"not an engine", "some/engine.onnx")


def measured(agreement: float) -> dict[str, object]:
    return {"agreement": agreement, "images": 50_000}


GOOD, BAD = measured(0.9995), measured(0.9994)
EVERYTHING = frozenset({"avx512_vnni", "amx_bf16"})


@pytest.mark.parametrize(
    ("engines", "flags", "precision", "why"),
    [
        ({"int8": GOOD, "bf16": GOOD}, EVERYTHING, "int8", "99.950% of 50,000 labels as in fp32"),
        ({"int8": GOOD}, {"asimddp"}, "int8", "as in fp32"),
        ({"int8": BAD, "bf16": GOOD}, EVERYTHING, "bf16", "as in fp32"),
        ({"int8": BAD, "bf16": GOOD}, {"avx512_bf16", "AuthenticAMD"}, "bf16", "as in fp32"),
        ({"int8": BAD, "bf16": BAD}, EVERYTHING, "fp32", "in int8 only 99.940% of 50,000 labels, 99.95% expected"),
        (
            {"int8": GOOD, "bf16": GOOD},
            {"avx2", "avx512_bf16"},
            "fp32",
            "int8 is no quicker on this processor; bf16",
        ),
        ({}, EVERYTHING, "fp32", "no int8 on the model's card"),
    ],
)
def test_auto_is_the_quickest_that_is_native_and_agrees(
    engines: dict[str, object], flags: set[str], precision: str, why: str
) -> None:
    """int8 before bf16 before fp32, and the choice says why."""
    choice = choose("auto", {"engines": engines}, frozenset(flags))
    assert choice.precision == precision
    assert why in choice.why


def test_what_is_asked_for_is_taken() -> None:
    """Whether or not it is native, or agrees; but an engine that is not there cannot be taken."""
    assert choose("bf16", {}, frozenset()) == Choice("bf16", "as asked")
    assert choose("int8", {"engines": {"int8": BAD}}, frozenset()) == Choice("int8", "as asked")
    with pytest.raises(Misconfigured, match="model quick-1 has no int8 engine: ask for --precision fp32"):
        choose("int8", {"version": "quick-1"}, EVERYTHING)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2", {"AuthenticAMD", "fpu", "avx2"}),
        ("Features\t: fp asimddp", {"fp", "asimddp"}),
    ],
)
def test_the_processor_says_what_it_can_do(tmp_path: Path, lines: str, expected: set[str]) -> None:
    """Linux lists maker and flags on x86 and features on Arm, for each core; elsewhere nothing is known."""
    cpuinfo = tmp_path / "cpuinfo"
    assert processor_flags(cpuinfo) == frozenset()
    cpuinfo.write_text(f"processor\t: 0\n{lines}\n\nprocessor\t: 1\n{lines}\n")
    assert processor_flags(cpuinfo) == expected


def test_running_int8_imports_no_torch() -> None:
    """Neither the choice nor the engine: torch takes seconds."""
    code = "import digitrec.engines.choice, digitrec.engines.int8, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "onnx", "distributed", "pytorch_lightning"}


@pytest.mark.parametrize("size", [1, 2, 7, 8, 16, 33, 257])
def test_confidences_do_not_depend_on_who_is_beside_a_row(size: int) -> None:
    """The same bits for a row alone, among a few or among many."""
    logits = np.random.default_rng(0).normal(0, 5, (514, 10)).astype(np.float32)
    cuts = [logits[start : start + size] for start in range(0, len(logits), size)]
    together = softmax(logits, 1.5)
    assert np.array_equal(np.concatenate([softmax(cut, 1.5) for cut in cuts], axis=1), together)
    assert np.array_equal(np.concatenate([confidence(cut, 1.5) for cut in cuts]), confidence(logits, 1.5))
    assert np.allclose(together.sum(axis=0), 1, atol=1e-6)
