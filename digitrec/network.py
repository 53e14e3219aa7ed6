"""The perceptron: uint8 images in, logits out. Scaling is part of it, so nobody downstream can scale differently.

It rebuilds itself from plain numbers (`Architecture`, as the card keeps it) and a safetensors file; no pickle is read.
"""

from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from digitrec.contract import CLASSES, PIXELS
from digitrec.errors import Corrupt

SCALE = 1 / 255
"""Grey values 0…255 become 0…1."""


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the network's shape, as plain numbers."""

    hidden: tuple[int, ...]
    dropout: float = 0.0
    batch_norm: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"scale": SCALE}

    @classmethod
    def from_json(cls, numbers: dict[str, Any]) -> "Architecture":
        """Raises `Corrupt` if the numbers are not those of a network this digitrec can build."""
        if numbers.get("scale") != SCALE:
            raise Corrupt(f"the model scales its input by {numbers.get('scale')}, expected {SCALE}")
        try:
            return cls(tuple(numbers["hidden"]), float(numbers["dropout"]), bool(numbers["batch_norm"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"the model's architecture cannot be read from its card: {numbers}") from error


class Perceptron(nn.Module):
    """784 → hidden layers (linear, batch norm if asked, ReLU, dropout) → 10 logits."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        layers: list[nn.Module] = []
        width = PIXELS
        for units in architecture.hidden:
            layers.append(nn.Linear(width, units, bias=not architecture.batch_norm))
            if architecture.batch_norm:
                layers.append(nn.BatchNorm1d(units))
            layers.append(nn.ReLU(inplace=True))
            if architecture.dropout:
                layers.append(nn.Dropout(architecture.dropout))
            width = units
        layers.append(nn.Linear(width, CLASSES))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (or float, still 0…255) [n, 784] → float logits [n, 10]."""
        logits: Tensor = self.layers(images.to(torch.get_default_dtype()) * SCALE)
        return logits


def load_network(architecture: Architecture, weights: bytes) -> Perceptron:
    """Rebuild a network in evaluation mode from a safetensors file's bytes. Raises `Corrupt` if they do not fit."""
    network = Perceptron(architecture)
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise Corrupt(f"the weights do not fit the model's architecture {architecture}: {error}") from error
    return network.eval()


def save_network(network: nn.Module) -> bytes:
    """The weights as safetensors bytes: contiguous, on the CPU, named as in `Perceptron`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(tensors)
