"""Steps of real-world degradations (Real-ESRGAN, Wang et al. 2021, section 3): each draws its numbers and changes one picture.

A picture is (1, 3, H, W) RGB. Numbers come from CPU generators only, so that a picture is degraded alike on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..resize import reflect_around, resize
from .parts import (
    filter_per_sample,
    gaussian_kernel,
    generalized_kernel,
    jpeg,
    plateau_kernel,
    quantize_to_8bit,
    sinc_kernel,
    usm_sharpen,
)

Range: TypeAlias = tuple[float, float]
Record: TypeAlias = dict[str, str | float | list[float] | list[int]]

KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
"""Shapes of blur kernels, in the order of their weights."""

USM_MARGIN = 25
"""Half the side of the sharpening kernel."""


@dataclass(frozen=True)
class Job:
    """One picture's run: its generators, the (height, width) of the result, and what was drawn so far.

    Draws that the papers make once for a batch come from `shared`, those that they make for each picture from `own`.
    """

    own: torch.Generator
    shared: torch.Generator
    target: tuple[int, int]
    log: list[Record] = field(default_factory=list[Record])

    def record(self, step: str, **values: str | float | list[float] | list[int]) -> None:
        self.log.append({"step": step, **values})


class DegradationStep(Protocol):
    """A part of a degradation."""

    def apply(self, image: Tensor, job: Job) -> Tensor: ...


def uniform(limits: Range, generator: torch.Generator) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(torch.rand((), generator=generator))


def pick(weights: Sequence[float], generator: torch.Generator) -> int:
    """An index with a probability in proportion to its weight."""
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float32), 1, generator=generator))


def odd_side(sides: tuple[int, int], generator: torch.Generator) -> int:
    """An odd number from sides[0] to sides[1], both included."""
    return int(torch.randint(sides[0] // 2, sides[1] // 2 + 1, (), generator=generator)) * 2 + 1


def reflected(image: Tensor, margin: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """`change`, which needs sides above `margin` for its reflection, on a picture of any size."""
    height, width = image.shape[-2:]
    if min(height, width) > margin:
        return change(image)
    large = reflect_around(image, margin, margin, height + 2 * margin, width + 2 * margin)
    return change(large)[..., margin : margin + height, margin : margin + width]


# --- Blur -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blur:
    """A kernel of a drawn kind and odd side, or a sinc; sigma in pixels, one or two of them and a turn.

    Shape parameters come from a fair coin between (low, 1) and (1, high), as in the released code of Real-ESRGAN.
    """

    sides: tuple[int, int]
    sigma: Range
    generalized: Range = (0.5, 4.0)
    plateau: Range = (1.0, 2.0)
    weights: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc: float = 0.1
    probability: float = 1.0

    def apply(self, image: Tensor, job: Job) -> Tensor:
        if uniform((0, 1), job.shared) >= self.probability:
            return image
        return correlate(image, self.kernel(job))

    def kernel(self, job: Job) -> Tensor:
        """A kernel (side, side)."""
        own = job.own
        side = odd_side(self.sides, own)
        if uniform((0, 1), own) < self.sinc:
            # Real-ESRGAN's released code: small kernels cannot hold the rings of a low cutoff
            cutoff = uniform((math.pi / (3 if side < 13 else 5), math.pi), own)
            job.record("blur", kind="sinc", side=side, cutoff=cutoff)
            return sinc_kernel(side, cutoff)
        kind = KINDS[pick(self.weights, own)]
        sigmas = [uniform(self.sigma, own)]
        turn = 0.0
        if kind.endswith("aniso"):
            sigmas.append(uniform(self.sigma, own))
            turn = uniform((-math.pi, math.pi), own)
        second = sigmas[-1] if len(sigmas) > 1 else None
        if kind in ("iso", "aniso"):
            job.record("blur", kind=kind, side=side, sigma=sigmas, rotation=turn)
            return gaussian_kernel(side, sigmas[0], second, turn)
        limits, shape = (
            (self.generalized, generalized_kernel) if kind.startswith("g") else (self.plateau, plateau_kernel)
        )
        below = uniform((0, 1), own) < 0.5
        beta = uniform((limits[0], 1.0) if below else (1.0, limits[1]), own)
        job.record("blur", kind=kind, side=side, sigma=sigmas, rotation=turn, beta=beta)
        return shape(side, beta, sigmas[0], second, turn)


@dataclass(frozen=True)
class Sinc:
    """The last low pass, which gives overshoot and rings (Real-ESRGAN, section 3.3)."""

    sides: tuple[int, int]
    probability: float = 0.8

    def apply(self, image: Tensor, job: Job) -> Tensor:
        if uniform((0, 1), job.own) >= self.probability:
            return image
        side, cutoff = odd_side(self.sides, job.own), uniform((math.pi / 3, math.pi), job.own)
        job.record("sinc", side=side, cutoff=cutoff)
        return correlate(image, sinc_kernel(side, cutoff))


@dataclass(frozen=True)
class Sharpen:
    """Unsharp masking before everything else."""

    def apply(self, image: Tensor, job: Job) -> Tensor:
        job.record("sharpen")
        return reflected(image, USM_MARGIN, usm_sharpen)


def correlate(image: Tensor, kernel: Tensor) -> Tensor:
    """The picture under a kernel (k, k), reflected at its border however small it is."""
    return reflected(image, kernel.shape[-1] // 2, lambda x: filter_per_sample(x, kernel[None]))


# --- Resizing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resize:
    """Up, down or neither with the given weights, by a factor from 1 to high or from low to 1, without antialiasing.

    of_target: the factor is for the size of the result, not for that of the picture.
    """

    weights: tuple[float, float, float]
    low: float
    high: float
    of_target: bool = False
    modes: tuple[str, ...] = ("area", "bilinear", "bicubic")

    def apply(self, image: Tensor, job: Job) -> Tensor:
        way = pick(self.weights, job.shared)
        drawn = uniform(((1.0, self.high), (self.low, 1.0), (1.0, 1.0))[way], job.shared)
        mode = self.modes[pick((1.0,) * len(self.modes), job.shared)]
        base = job.target if self.of_target else (image.shape[2], image.shape[3])
        size = max(1, int(base[0] * drawn)), max(1, int(base[1] * drawn))
        job.record("resize", factor=drawn, mode=mode, size=[size[1], size[0]])
        if self.of_target or size != (int(base[0] * drawn), int(base[1] * drawn)):
            return interpolate(image, size, mode)
        # With a factor instead of a size, interpolation steps by the factor's inverse exactly.
        return F.interpolate(image, scale_factor=drawn, mode=mode, **_corners(mode))


@dataclass(frozen=True)
class Shrink:
    """Bilinear reduction by a divisor drawn from low to high."""

    low: float
    high: float

    def apply(self, image: Tensor, job: Job) -> Tensor:
        by = uniform((self.low, self.high), job.shared)
        size = max(1, round(image.shape[2] / by)), max(1, round(image.shape[3] / by))
        job.record("resize", factor=1 / by, mode="bilinear", size=[size[1], size[0]])
        return interpolate(image, size, "bilinear")


@dataclass(frozen=True)
class ToTarget:
    """To the size of the result; 'antialias' is the bicubic reduction that smooths before."""

    modes: tuple[str, ...] = ("area", "bilinear", "bicubic")
    weights: tuple[float, ...] = (1.0, 1.0, 1.0)

    def apply(self, image: Tensor, job: Job) -> Tensor:
        mode = self.modes[pick(self.weights, job.shared)]
        job.record("resize", mode=mode, size=[job.target[1], job.target[0]])
        return resize(image, *job.target) if mode == "antialias" else interpolate(image, job.target, mode)


def interpolate(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """To (height, width) by torch's mode, half-pixel centres, no antialiasing."""
    return F.interpolate(image, size=size, mode=mode, **_corners(mode))


def _corners(mode: str) -> dict[str, bool]:
    return {} if mode == "area" else {"align_corners": False}


# --- Noise, JPEG, rounding --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of a deviation in 8-bit levels, else Poisson noise times a scale; grey: one plane for all channels."""

    sigma: Range
    poisson: Range = (0.0, 0.0)
    gaussian: float = 0.5
    gray: float = 0.4

    def apply(self, image: Tensor, job: Job) -> Tensor:
        is_gaussian = uniform((0, 1), job.shared) < self.gaussian
        strength = uniform(self.sigma if is_gaussian else self.poisson, job.own)
        is_gray = uniform((0, 1), job.own) < self.gray
        colors = "grey" if is_gray else "colour"
        if is_gaussian:
            job.record("noise", kind="gaussian", colors=colors, sigma=strength)
            shape = (1, 1 if is_gray else 3, *image.shape[2:])
            noise = torch.randn(shape, generator=job.own) / 255.0
        else:
            job.record("noise", kind="poisson", colors=colors, scale=strength)
            noise = poisson_noise(image, job.own, gray=is_gray)
        return (image + strength * noise.to(image)).clamp(0.0, 1.0)


def poisson_noise(image: Tensor, generator: torch.Generator, *, gray: bool) -> Tensor:
    """Poisson(v x) / v - x on the CPU, (1, 3 or 1, H, W), with v = 2^ceil(log2(number of distinct 8-bit levels)).

    (Real-ESRGAN's released code; more levels mean finer noise.) x is the picture, or its luma (BT.601), in 8 bit.
    """
    import kornia.color  # noqa: PLC0415  see degradation.filter_per_sample

    levels = image.detach().float().cpu()
    levels = quantize_to_8bit(kornia.color.rgb_to_grayscale(levels) if gray else levels)
    counts = float(2 ** (len(torch.unique(levels)) - 1).bit_length())
    return torch.poisson(levels * counts, generator=generator) / counts - levels


@dataclass(frozen=True)
class Jpeg:
    """The JPEG of `degradation.jpeg` at a drawn quality."""

    quality: Range

    def apply(self, image: Tensor, job: Job) -> Tensor:
        quality = uniform(self.quality, job.own)
        job.record("jpeg", quality=quality)
        return jpeg(image.clamp(0.0, 1.0), torch.tensor([quality], device=image.device))


@dataclass(frozen=True)
class Round:
    """To 8 bit."""

    def apply(self, image: Tensor, job: Job) -> Tensor:
        return quantize_to_8bit(image)


# --- Order ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightedChoice:
    """`steps` with a probability, else `otherwise`."""

    probability: float
    steps: tuple[DegradationStep, ...]
    otherwise: tuple[DegradationStep, ...] = ()

    def apply(self, image: Tensor, job: Job) -> Tensor:
        chosen = self.steps if uniform((0, 1), job.shared) < self.probability else self.otherwise
        return apply_all(chosen, image, job)


def apply_all(steps: Sequence[DegradationStep], image: Tensor, job: Job) -> Tensor:
    """The steps in their order."""
    for step in steps:
        image = step.apply(image, job)
    return image
