"""The perceptron: uint8 images in, logits out. Scaling is part of it, so nobody downstream can scale differently.

It rebuilds itself from plain numbers (`Architecture`, as the card keeps it) and a safetensors file; no pickle is read.
"""

import safetensors.torch
import torch
from torch import Tensor, nn

from digitrec.architecture import SCALE, Architecture
from digitrec.contract import CLASSES, PIXELS
from digitrec.errors import Corrupt


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
        """Images as they are shown (`Architecture.shown`), uint8 or float, 0…255, [n, 784] → float logits [n, 10]."""
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
