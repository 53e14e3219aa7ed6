"""The matrix peak of one core: the best square product that torch and onnxruntime make of an arithmetic."""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from digitrec.contract import CLASSES, PIXELS
from digitrec.engines import Arithmetic
from digitrec.engines.floating import on_cores
from digitrec.engines.int8 import settings

SIDES, ROUNDS = (1024, 2048), 8
Product = Callable[[], object]


def peak(precision: Arithmetic) -> float:
    """Return the multiply-adds/s of one core, the best of all products."""
    return max(side**3 / best(maker(side)) for maker in PRODUCTS[precision] for side in SIDES)


def best(product: Product) -> float:
    return min(seconds(product) for _ in range(ROUNDS))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def multiply_adds(card: Mapping[str, Any]) -> int:
    """Return those of one image through the network that a model version's card describes."""
    widths = (PIXELS, *card["architecture"]["hidden"], CLASSES)
    return sum(wide * narrow for wide, narrow in pairwise(widths))


def torch_fp32(side: int) -> Product:
    return on_one_core(torch.rand(side, side))


def torch_bf16(side: int) -> Product:
    return on_one_core(torch.rand(side, side).bfloat16())


def on_one_core(square: torch.Tensor) -> Product:
    @on_cores(1)
    def product() -> object:
        return square @ square

    return product


def torch_int8(side: int) -> Product:
    square = torch.randint(-127, 128, (side, side), dtype=torch.int8)
    return lambda: torch._int_mm(square, square)


def onnxruntime_fp32(side: int) -> Product:
    square = np.random.default_rng(0).random((side, side), np.float32)
    return in_onnxruntime(helper.make_node("MatMul", ["x", "w"], ["y"]), square, square, TensorProto.FLOAT)


def onnxruntime_int8(side: int) -> Product:
    """Return the product of unsigned and signed bytes."""
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (side, side), dtype=np.int8)
    images = random.integers(0, 256, (side, side), dtype=np.uint8)
    return in_onnxruntime(helper.make_node("MatMulInteger", ["x", "w"], ["y"]), images, weights, TensorProto.INT32)


def in_onnxruntime(node: NodeProto, left: np.ndarray, right: np.ndarray, result: int) -> Product:
    x = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(left.dtype), left.shape)
    y = helper.make_tensor_value_info("y", result, left.shape)
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(right, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings(), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": left})


PRODUCTS: dict[Arithmetic, tuple[Callable[[int], Product], ...]] = {
    "fp32": (torch_fp32, onnxruntime_fp32),
    "bf16": (torch_bf16,),
    "int8": (onnxruntime_int8, torch_int8),
}
