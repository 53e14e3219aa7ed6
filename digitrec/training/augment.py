"""Whole-batch distortion of digits: an affine map and a smooth elastic field, drawn anew for every image.

After Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document
Analysis" (ICDAR 2003), with the field drawn on a coarse grid and interpolated, which is the same smoothness for a
fraction of the work. Randomness comes only from the generator that is handed in.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from digitrec.contract import SIDE


@dataclass(frozen=True)
class Distortion:
    """How far an image may be distorted, and when.

    The first four are bounds of uniform draws, `elastic_px` a standard deviation on a field of `grid` × `grid` points.
    The full strength is reached after the first `ramp` of the training, and over its last `calm` it falls to `end`:
    undistorted digits are learned first, and what is met at the end is closer to what will be scored. Into a share of
    `mixed` of the images, at any time, another one is mixed, by less than half: only for who learns from a teacher,
    which says what becomes of both.
    """

    rotation_deg: float = 12.0
    scale: float = 0.12
    shear: float = 0.12
    shift_px: float = 1.6
    elastic_px: float = 0.8
    grid: int = 7
    ramp: float = 0.0
    calm: float = 0.0
    end: float = 1.0
    mixed: float = 0.0

    def strength(self, progress: float) -> float:
        """What displacements are multiplied by when `progress` (0…1) of the training is done."""
        rise = min(progress / self.ramp, 1.0) if self.ramp else 1.0
        fall = max(0.0, progress - (1 - self.calm)) / self.calm if self.calm else 0.0
        return rise * (1 - (1 - self.end) * fall)


def distort(images: Tensor, distortion: Distortion, generator: Generator, *, strength: float = 1.0) -> Tensor:
    """uint8 [n, 784] → float32 [n, 784], still 0…255, each image distorted in its own way.

    `generator` lives on the device of `images`; what lies outside an image is background.
    """
    rows = len(images)
    still = centred_pixels(generator.device).view(2, SIDE, SIDE)
    moved_to = affine_source(rows, distortion, generator) + elastic_shift(rows, distortion, generator)
    source = torch.lerp(still, moved_to, strength)
    planes = images.view(rows, 1, SIDE, SIDE).float()
    # grid_sample wants its two coordinates last, from -1 at the first pixel's outer edge to 1 at the last one's.
    grid = (source * (2 / SIDE)).permute(0, 2, 3, 1)
    moved = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return mix(moved.view(rows, -1), distortion.mixed, generator)


def mix(images: Tensor, share: float, generator: Generator) -> Tensor:
    """float [n, 784] → the first `share` of them each with up to half of the one before mixed in, the others as they
    are (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018)."""
    first, others = images.tensor_split([round(len(images) * share)])
    of_another = torch.rand(len(first), 1, generator=generator, device=generator.device) / 2
    return torch.cat([torch.lerp(first, first.roll(1, dims=0), of_another), others])


def affine_source(rows: int, distortion: Distortion, generator: Generator) -> Tensor:
    """Where each pixel comes from under a random affine map: float32 [rows, 2, 28, 28], (x, y) px from the centre."""

    def uniform(bound: float) -> Tensor:
        return (torch.rand(rows, generator=generator, device=generator.device) * 2 - 1) * bound

    angle = uniform(math.radians(distortion.rotation_deg))
    shear, along, across = uniform(distortion.shear), uniform(distortion.scale), uniform(distortion.scale)
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).view(rows, 2, 2)
    stretch = torch.stack([1 + along, shear, torch.zeros_like(shear), 1 + across], dim=1).view(rows, 2, 2)
    shift = torch.stack([uniform(distortion.shift_px), uniform(distortion.shift_px)], dim=1)
    pixels = centred_pixels(generator.device)
    return (rotation @ stretch @ pixels + shift[:, :, None]).view(rows, 2, SIDE, SIDE)


def elastic_shift(rows: int, distortion: Distortion, generator: Generator) -> Tensor:
    """A smooth random displacement of each pixel: float32 [rows, 2, 28, 28] in px."""
    points = distortion.grid
    coarse = torch.randn(rows, 2, points, points, generator=generator, device=generator.device) * distortion.elastic_px
    spline = spline_matrix(points, generator.device)
    return spline @ coarse @ spline.T


@lru_cache
def centred_pixels(device: torch.device) -> Tensor:
    """Centres of the 784 pixels, row-major: float32 [2, 784], (x, y) px from the image's centre."""
    offsets = torch.arange(SIDE, device=device) - (SIDE - 1) / 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()])


@lru_cache
def spline_matrix(points: int, device: torch.device) -> Tensor:
    """Bicubic interpolation of some points to 28, as a matrix: float32 [28, points]."""
    unit = torch.eye(points).view(1, points, points, 1)
    return F.interpolate(unit, size=(SIDE, 1), mode="bicubic", align_corners=True).view(points, SIDE).T.to(device)
