"""The matrix peak: what the processor's multipliers can do, as the measure of what scoring makes of them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from digitrec.engines import Arithmetic
from digitrec.errors import Unavailable
from digitrec.scoring.cluster import Cluster, within

SIDE = 1024
ROUNDS = 8
"""The best of so many products counts; together they take a quarter of a second at most."""
ANSWER_S = 20.0
if TYPE_CHECKING:
    import torch

Product = Callable[[], object]


def matrix_peak(cluster: Cluster, precision: Arithmetic) -> float | None:
    """Multiply-adds/s of all cores of a cluster at once, each busy with square products; None if it does not tell.

    The products go ahead of partitions that wait, and cost each core a fraction of a second.
    """
    client = cluster.client
    asked = [client.submit(core_peak, precision, pure=False, priority=1) for _ in range(cluster.slots)]
    try:
        peaks: list[float] = within(ANSWER_S, lambda: client.gather(asked), "no peak")
        return sum(peaks)
    except Unavailable:
        return None


def core_peak(precision: Arithmetic) -> float:
    """Multiply-adds/s of one core: the best of some products of two square matrices, as the engine does them."""
    product = PRODUCTS[precision](SIDE)
    return SIDE**3 / min(seconds(product) for _ in range(ROUNDS))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# torch and onnx are imported only where they compute.


def in_fp32(side: int) -> Product:
    """By torch, on one core."""
    import torch

    return floating(torch.rand(side, side))


def in_bf16(side: int) -> Product:
    """By torch, on one core."""
    import torch

    return floating(torch.rand(side, side).bfloat16())


def floating(square: "torch.Tensor") -> Product:
    from digitrec.engines.floating import on_cores

    @on_cores(1)
    def product() -> object:
        return square @ square

    return product


def in_int8(side: int) -> Product:
    """By onnxruntime, unsigned × signed bytes, on one core."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from digitrec.engines.int8 import settings

    random = np.random.default_rng(0)
    weights = numpy_helper.from_array(random.integers(-127, 128, (side, side), dtype=np.int8), "w")
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [side, side])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [side, side])
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings(), providers=["CPUExecutionProvider"])
    images = random.integers(0, 256, (side, side), dtype=np.uint8)
    return lambda: session.run(None, {"x": images})


PRODUCTS: dict[Arithmetic, Callable[[int], Product]] = {"fp32": in_fp32, "bf16": in_bf16, "int8": in_int8}
