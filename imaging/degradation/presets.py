"""Small, damaged pictures out of good ones: the degradation tables of the papers, as data.

Order and tables are those of Real-ESRGAN (Wang et al. 2021, section 3) and of the papers that train with variants of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .steps import (
    Blur,
    DegradationStep,
    Job,
    Jpeg,
    Noise,
    Range,
    Record,
    Resize,
    Round,
    Sharpen,
    Shrink,
    Sinc,
    ToTarget,
    WeightedChoice,
    apply_all,
)


@dataclass(frozen=True)
class RealWorldPreset:
    """The steps from a good picture to a small bad one, and a sentence about them."""

    about: str
    steps: tuple[DegradationStep, ...]
    gray: float = 0.0
    """Share of pairs that a training makes grey, the good picture too."""


LARGE, SMALL = (7, 21), (3, 13)
"""Least and greatest side of kernels."""

REDUCED: tuple[DegradationStep, ...] = (ToTarget(("antialias",), (1.0,)),)
"""Bicubic reduction that smooths before, and nothing else."""


def _ending(sides: tuple[int, int], quality: Range, sinc: float = 0.8) -> WeightedChoice:
    """The last reduction with its low pass stands before or after the last JPEG (Real-ESRGAN, section 3.4)."""
    last: tuple[DegradationStep, ...] = (ToTarget(), Sinc(sides, sinc))
    return WeightedChoice(0.5, (*last, Jpeg(quality)), (Jpeg(quality), *last))


# Real-ESRGAN, released settings; DiffBIR trains with the same numbers and without sharpening.
_FULL: tuple[DegradationStep, ...] = (
    Blur(LARGE, (0.2, 3.0)),
    Resize((0.2, 0.7, 0.1), 0.15, 1.5),
    Noise((1, 30), (0.05, 3.0)),
    Jpeg((30, 95)),
    Blur(LARGE, (0.2, 1.5), probability=0.8),
    Resize((0.3, 0.4, 0.3), 0.3, 1.2, of_target=True),
    Noise((1, 25), (0.05, 2.5)),
    _ending(LARGE, (30, 95)),
    Round(),
)

# ResShift, SinSR, TAD-SR and InvSR (training): smaller kernels, and the second order for half of the pictures.
_HALF: tuple[DegradationStep, ...] = (
    Blur((3, 19), (0.2, 3.0)),
    Resize((0.2, 0.7, 0.1), 0.15, 1.5),
    Noise((1, 30), (0.05, 3.0)),
    Jpeg((30, 95)),
    WeightedChoice(
        0.5,
        (
            Blur(SMALL, (0.2, 1.5), probability=0.8),
            Resize((0.3, 0.4, 0.3), 0.3, 1.2, of_target=True),
            Noise((1, 25), (0.05, 2.5)),
        ),
    ),
    _ending(SMALL, (30, 95)),
    Round(),
)

# InvSR's synthetic test set (ImageNet-Test): first order only, light.
_TEST: tuple[DegradationStep, ...] = (
    Blur((3, 11), (0.2, 0.8), (1.0, 1.5), (1.0, 1.2), (0.6, 0.4, 0.0, 0.0, 0.0, 0.0)),
    Resize((0.2, 0.7, 0.1), 0.5, 1.5),
    Noise((1, 15), (0.05, 0.3)),
    Jpeg((70, 95)),
    _ending(SMALL, (80, 100), 0.2),
    Round(),
)

# TASR's public training code, named after CodeFormer (Zhou et al. 2022, section 4.1); its paper names Real-ESRGAN.
_FIRST: tuple[DegradationStep, ...] = (
    Blur((41, 41), (0.1, 12.0), weights=(0.5, 0.5, 0.0, 0.0, 0.0, 0.0), sinc=0.0),
    Shrink(1.0, 12.0),
    Noise((0, 15), gaussian=1.0, gray=0.0),
    Round(),
    Jpeg((30, 100)),
    ToTarget(("bilinear",), (1.0,)),
    Round(),
)

# TAD-SR and ResShift for faces, after GFPGAN (Wang et al. 2021, section 4.1), whose training enlarges the result again.
_FACE: tuple[DegradationStep, ...] = (
    Blur((41, 41), (0.1, 15.0), weights=(0.5, 0.5, 0.0, 0.0, 0.0, 0.0), sinc=0.0),
    Shrink(0.8, 32.0),
    Noise((0, 20), gaussian=1.0, gray=0.0),
    Round(),
    Jpeg((30, 100)),
    ToTarget(("bilinear",), (1.0,)),
    Round(),
)

# The mixture on which the embedded weights were trained (`tools.embedded_weights.degrade_mild`); there an uneven blur lies along the axes.
_MILD: tuple[DegradationStep, ...] = (
    Blur((15, 15), (0.05, 2.2), weights=(0.7, 0.3, 0.0, 0.0, 0.0, 0.0), sinc=0.0),
    Round(),
    ToTarget(("antialias", "area"), (0.8, 0.2)),
    WeightedChoice(0.7, (Noise((0.5, 10), gaussian=1.0, gray=0.0),)),
    Round(),
    WeightedChoice(0.6, (Jpeg((55, 96)),)),
    Round(),
)


def _stablesr(last_quality: Range) -> tuple[DegradationStep, ...]:
    """StableSR's weaker table; nothing is rounded to 8 bit.

    A hundredth of its LR pictures are the picture itself; here, where the result is small, they are only reduced.
    """
    return (
        Blur(LARGE, (0.2, 1.5), (0.5, 2.0), (1.0, 1.5)),
        Resize((0.2, 0.7, 0.1), 0.3, 1.5),
        Noise((1, 15), (0.05, 2.0)),
        Jpeg((60, 95)),
        Blur(LARGE, (0.2, 1.0), (0.5, 2.0), (1.0, 1.5), probability=0.5),
        Resize((0.3, 0.4, 0.3), 0.6, 1.2, of_target=True),
        Noise((1, 12), (0.05, 1.0)),
        _ending(LARGE, last_quality),
    )


_STABLESR: tuple[DegradationStep, ...] = (WeightedChoice(0.99, (Sharpen(), *_stablesr((60, 100))), REDUCED),)

PRESETS: Mapping[str, RealWorldPreset] = {
    "real-esrgan": RealWorldPreset("Real-ESRGAN, second order; sharpened before", (Sharpen(), *_FULL)),
    "diffbir": RealWorldPreset("DiffBIR v2.1: Real-ESRGAN's table without sharpening", _FULL),
    "stablesr": RealWorldPreset("StableSR, 512: weaker second order; sharpened before", _STABLESR),
    "stablesr_768": RealWorldPreset("StableSR, 768: as 512 without sharpening", _stablesr((60, 95))),
    "adadiffsr": RealWorldPreset("AdaDiffSR, which follows StableSR's training", _STABLESR),
    "tad_sr": RealWorldPreset("ResShift, SinSR, TAD-SR: second order for half of the pictures", _HALF),
    "invsr": RealWorldPreset("InvSR's training, the numbers of ResShift", _HALF),
    "invsr_test": RealWorldPreset("InvSR's and ResShift's synthetic test set: light, first order", _TEST),
    "tasr": RealWorldPreset("TASR's public code: strong blur, reduction up to 12, noise, JPEG", _FIRST),
    "mild": RealWorldPreset(
        "light blur, noise and JPEG; a third is only reduced", (WeightedChoice(0.65, _MILD, REDUCED),)
    ),
    "bicubic": RealWorldPreset("antialiased bicubic reduction, nothing else", REDUCED),
    "gfpgan_face": RealWorldPreset(
        "faces: ResShift, TAD-SR and StableSR after GFPGAN, reduction up to 32", _FACE, 0.01
    ),
}
"""By name. Kernels, noise levels, grey flags and JPEG qualities are drawn for every picture."""


def degrade(
    hr: Tensor, preset: RealWorldPreset, generator: torch.Generator, scale: int = 4, *, shared: bool = False
) -> Tensor:
    """The LR pictures (B, 3, H / scale, W / scale) in [0, 1] of pictures (B, 3, H, W) in [0, 1], on their device.

    Everything is drawn for each picture, one after another, so that a batch equals its pictures one by one with the same
    generator. shared: as in the papers' training a batch has one resize factor and mode, kind of noise and order.
    `generator` is on the CPU; sides are multiples of scale.
    """
    seed = int(torch.randint(2**62, (), generator=generator)) if shared else None
    return torch.cat([degrade_one(image, preset, generator, scale, seed)[0] for image in hr.split(1)])


def degrade_one(
    image: Tensor, preset: RealWorldPreset, generator: torch.Generator, scale: int = 4, shared_seed: int | None = None
) -> tuple[Tensor, list[Record]]:
    """One picture (1, 3, H, W) and what was drawn, step by step; see `degrade`.

    Pictures with the same shared_seed have those draws in common that the papers make once for a batch.
    """
    height, width = image.shape[-2:]
    if height % scale or width % scale or 0 in (height, width):
        raise ValueError(
            f"Got a picture of {width}x{height} to be reduced by {scale}: expected sides that are multiples; crop it first."
        )
    shared = generator if shared_seed is None else torch.Generator().manual_seed(shared_seed)
    job = Job(generator, shared, (height // scale, width // scale))
    low = apply_all(preset.steps, image, job).clamp(0.0, 1.0)
    return low, job.log
