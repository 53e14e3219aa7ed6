"""The matrix peak of one core: the best square product that torch and onnxruntime make of an arithmetic."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from digitrec.scoring.peak import PRODUCTS, Product, seconds
from onnx import TensorProto, helper, numpy_helper

from digitrec.engines import Arithmetic
from digitrec.engines.int8 import settings

SIDES, ROUNDS = (1024, 2048), 8


def peak(precision: Arithmetic) -> float:
    """Multiply-adds/s of one core, the best of all products."""
    makers = (PRODUCTS[precision], *OTHERS[precision])
    return max(side**3 / best(maker(side)) for maker in makers for side in SIDES)


def best(product: Product) -> float:
    return min(seconds(product) for _ in range(ROUNDS))


def torch_int8(side: int) -> Product:
    square = torch.randint(-127, 128, (side, side), dtype=torch.int8)
    return lambda: torch._int_mm(square, square)


def onnxruntime_fp32(side: int) -> Product:
    square = np.random.default_rng(0).random((side, side), np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in "xy")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(square, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings(), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": square})


OTHERS: dict[Arithmetic, tuple[Callable[[int], Product], ...]] = {
    "fp32": (onnxruntime_fp32,),
    "bf16": (),
    "int8": (torch_int8,),
}
"""Products besides those of the engines."""
