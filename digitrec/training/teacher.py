"""The convolutional network that teaches the perceptron: better at pictures, dearer to score with, and not kept.

That a perceptron learns more from such a network's answers than from labels: Urban et al., "Do Deep Convolutional Nets
Really Need to Be Deep and Convolutional?" (ICLR 2017). That both must look at the same distorted picture, and for long:
Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from digitrec.contract import CLASSES, SIDE

MEAN, DEVIATION = 33.0, 79.0
"""Of MNIST's grey values, roughly."""
DROPOUT = 0.3
"""Before and after the hidden layer: a better loss on rows of development at no price (0.0140 instead of 0.0145)."""
LEFT = SIDE // 4
"""Pixels of a side after the two convolutions that take every second one."""


class Teacher(nn.Module):
    """Four convolutions and one hidden layer: 464,000 parameters, 4.1 million multiply-adds an image."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            *convolution(1, 16, 5, stride=2),
            *convolution(16, 32, 3),
            *convolution(32, 64, 3, stride=2),
            *convolution(64, 64, 3),
            nn.Flatten(),
            nn.Dropout(DROPOUT),
            nn.Linear(64 * LEFT * LEFT, 128, bias=False),
            nn.BatchNorm1d(128),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Linear(128, CLASSES),
        ]
        # Channels last is how processors convolve fastest; torch's stubs do not know that a module takes it.
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (or float, still 0…255) [n, 784] → float logits [n, 10]."""
        planes = ((images.float() - MEAN) / DEVIATION).view(-1, 1, SIDE, SIDE)
        logits: Tensor = self.layers(planes.contiguous(memory_format=torch.channels_last))
        return logits


def convolution(channels: int, out: int, size: int, *, stride: int = 1) -> list[nn.Module]:
    """With batch norm and ReLU, padded so that only `stride` makes the picture smaller."""
    convolved = nn.Conv2d(channels, out, size, stride, padding=size // 2, bias=False)
    return [convolved, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def distillation_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far answers are from those that are taught (both logits [n, classes]): their mean Kullback-Leibler
    divergence, softened by `temperature`, whose square keeps the gradients' size (Hinton, Vinyals and Dean, 2015)."""
    given, wanted = (F.log_softmax(each / temperature, dim=1) for each in (logits, taught))
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True) * temperature**2
