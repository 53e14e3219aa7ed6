"""A trained perceptron → an ONNX graph in int8, calibrated on images.

Symmetric weights of eight bits, scaled by column; unsigned activations of eight bits, scaled by layer (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018). Pixels are
eight bits as they are; a layer is one QGemm, whose rounding to unsigned bytes is its ReLU too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from digitrec.contract import CLASSES, PIXELS
from digitrec.engines.floating import on_cores
from digitrec.network import SCALE, Perceptron

OPSET, IR_VERSION = 17, 8
CLIPPED = 1e-5
"""Share of a layer's activations that may lie above its range: the few largest would make all others coarse."""
WEIGHT_MAX, ACTIVATION_MAX, BIAS_MAX = 127, 255, 2**30
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Layer:
    """activations @ weight + bias, with batch norm folded in. float64 [in, out], [out]."""

    weight: Tensor
    bias: Tensor


def quantise(network: Perceptron, images: np.ndarray) -> bytes:
    """The network in int8: uint8 images [n, 784] → float32 logits [n, 10], as the bytes of an ONNX file.

    `images`, uint8 [m, 784], are what it will see: they decide the ranges of its activations. The bytes depend on
    weights and images alone, as far as one processor's fp32 arithmetic does.
    """
    layers = folded(network)
    graph = Graph()
    for number, (layer, scale_in, scale_out) in enumerate(zip_scales(layers, activation_scales(layers, images))):
        graph.add(number, layer, scale_in, scale_out)
    return graph.to_bytes()


def folded(network: Perceptron) -> list[Layer]:
    """The linear layers of a network in evaluation mode. ReLU follows each but the last; dropout does nothing."""
    layers: list[Layer] = []
    for module in network.layers:
        if isinstance(module, nn.Linear):
            bias = torch.zeros(module.out_features) if module.bias is None else module.bias.detach()
            layers.append(Layer(module.weight.detach().double().T, bias.double()))
        elif isinstance(module, nn.BatchNorm1d):
            layers[-1] = normalised(layers[-1], module)
    return layers


def normalised(layer: Layer, norm: nn.BatchNorm1d) -> Layer:
    """A layer followed by batch norm is another layer."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    gain = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
    return Layer(layer.weight * gain, (layer.bias - mean.double()) * gain + norm.bias.detach().double())


@on_cores(1)
@torch.inference_mode()
def activation_scales(layers: Sequence[Layer], images: np.ndarray) -> list[float]:
    """What one step of eight bits is worth behind each hidden layer."""
    activations = torch.tensor(images).float() * SCALE
    scales = []
    for layer in layers[:-1]:
        activations = torch.addmm(layer.bias.float(), activations, layer.weight.float()).relu_()  # [m, out]
        above = max(1, int(CLIPPED * activations.numel()))
        largest = float(activations.flatten().topk(above).values[-1])
        scales.append(max(largest / ACTIVATION_MAX, SMALLEST))
    return scales


def zip_scales(layers: Sequence[Layer], hidden: Sequence[float]) -> Iterator[tuple[Layer, float, float | None]]:
    """Each layer with the scales of what goes in and comes out; the last one's logits are float32."""
    return zip(layers, [SCALE, *hidden], [*hidden, None], strict=True)


class Graph:
    """The ONNX graph, layer by layer."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = [numpy_helper.from_array(np.array(0, np.uint8), "zero")]
        self.last = "images"

    def add(self, number: int, layer: Layer, scale_in: float, scale_out: float | None) -> None:
        """One QGemm: (images or activations - 0) · weights, plus bias, rescaled."""
        weight, bias = layer.weight.numpy(), layer.bias.numpy()
        # A column whose bias dwarfs its weights is scaled so that the bias still fits its 32 bits.
        scale = np.maximum(np.abs(weight).max(axis=0) / WEIGHT_MAX, np.abs(bias) / (BIAS_MAX * scale_in))
        scale = np.maximum(scale, SMALLEST).astype(np.float32)
        inputs = [
            self.last,
            self.constant(f"scale_in_{number}", np.float32(scale_in)),
            "zero",
            self.constant(f"weight_{number}", np.rint(weight / scale).astype(np.int8)),
            self.constant(f"scale_{number}", scale),
            self.constant(f"zeros_{number}", np.zeros(len(scale), np.int8)),
            self.constant(f"bias_{number}", np.rint(bias / (scale_in * scale.astype(np.float64))).astype(np.int32)),
        ]
        if scale_out is not None:
            inputs += [self.constant(f"scale_out_{number}", np.float32(scale_out)), "zero"]
        self.last = f"activations_{number}" if scale_out else "logits"
        self.nodes.append(helper.make_node("QGemm", inputs, [self.last], domain="com.microsoft"))

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def to_bytes(self) -> bytes:
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", PIXELS])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])
        graph: GraphProto = helper.make_graph(self.nodes, "perceptron", [images], [logits], self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        data: bytes = model.SerializeToString(deterministic=True)
        return data
