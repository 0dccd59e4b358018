"""One step of super-resolution on a picture that no memory holds, block by block, with the result of the whole picture.

For denoisers whose receptive field is finite: a block is computed with as many pixels around it as can reach it, so that what lies further
away makes no difference. Nothing is blended, there is no seam, and the cut does not matter. Windows and attention (ResShift's U-Net) see
further; those pictures need `one_step_sr`, whose tiles are merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ...imaging.color import GLOBAL_FIXES, ColorFix, match_color
from ...imaging.resize import bicubic_upsample
from ...imaging.tiles import Core, Region
from ..noise import gaussian_region
from ..samplers import sample_one_step
from ..schedules import ResidualShiftSchedule
from .protocols import Denoiser, PictureCodec

RESIZE_REACH = 2
"""LR pixels that the cubic kernel of the reference's enlargement reads beyond a pixel."""


@dataclass(frozen=True)
class BlockSettings:
    """How a picture is upscaled: the seed of its noise, and whose colours it gets (None: those that come out)."""

    seed: int = 0
    color_fix: ColorFix | None = None
    levels: int = 5

    def __post_init__(self) -> None:
        if self.color_fix in GLOBAL_FIXES:
            raise ValueError(
                f"Got the colour fix {self.color_fix}, which takes statistics of the whole picture: expected wavelet, ycbcr or none for a picture "
                "that is cut into blocks."
            )

    def fix_reach(self, scale: int) -> int:
        """LR pixels around a block that its colours depend on."""
        if self.color_fix is None:
            return 0
        blur = 2**self.levels - 1 if self.color_fix is ColorFix.WAVELET else 0  # radii 1, 2, 4, ...
        return -(-blur // scale) + RESIZE_REACH


def cut(height: int, width: int, side: int, halo: int) -> tuple[Core, ...]:
    """Blocks of side x side pixels from the top left corner on, those at the right and at the bottom smaller, each with the pixels around it."""

    def blocks() -> Iterator[Core]:
        for y in range(0, height, side):
            for x in range(0, width, side):
                inner = Region(y, x, min(side, height - y), min(side, width - x))
                yield Core(inner, grown(inner, halo, height, width))

    if side < 1 or halo < 0:
        raise ValueError(f"Expected a side of at least 1 and a halo of at least 0 pixels, got {side} and {halo}.")
    return tuple(blocks())


def grown(region: Region, reach: int, height: int, width: int) -> Region:
    """A region with the pixels around it that lie on the picture."""
    top, left = max(0, region.y - reach), max(0, region.x - reach)
    bottom = min(height, region.y + region.height + reach)
    right = min(width, region.x + region.width + reach)
    return Region(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class BlockUpscaler:
    """Networks and settings; `receptive_field` is the denoiser's, in LR pixels."""

    denoiser: Denoiser
    autoencoder: PictureCodec
    schedule: ResidualShiftSchedule
    receptive_field: int
    settings: BlockSettings

    @property
    def scale(self) -> int:
        """Output pixels per LR pixel."""
        return self.autoencoder.downscale // self.denoiser.lq_factor

    @property
    def halo(self) -> int:
        """LR pixels around a block that its result depends on."""
        return self.receptive_field + self.settings.fix_reach(self.scale)

    def __call__(self, rgb: Tensor, block: Core, size: tuple[int, int]) -> Tensor:
        """The block's result (1, 3, s * h, s * w), clamped to [0, 1].

        rgb (1, 3, H, W) in [0, 1] are the pixels of block.outer; size (height, width) is the whole picture's.
        """
        outer, inner = block.outer, block.inner
        lq = rgb.float() * 2 - 1
        y = self.autoencoder.encode(bicubic_upsample(lq, self.scale))
        noise = gaussian_region(y.shape[1], outer.y, outer.x, outer.height, outer.width, seed=self.settings.seed).to(y)

        def denoise(x: Tensor, timesteps: Tensor) -> Tensor:
            return self.denoiser(x, timesteps, lq)

        x0 = sample_one_step(denoise, y, self.schedule, noise[None])
        near = grown(inner, self.settings.fix_reach(self.scale), *size)
        kept = Region(near.y - outer.y, near.x - outer.x, near.height, near.width)
        result = self.autoencoder.decode(x0[(..., *kept.slices)]).add(1).div(2).clamp(0, 1)
        if self.settings.color_fix is not None:
            reference = rgb[(..., *kept.slices)]
            result = match_color(result, reference, self.settings.color_fix, self.settings.levels).clamp(0, 1)
        inside = Region(inner.y - near.y, inner.x - near.x, inner.height, inner.width).scaled(self.scale)
        return result[(..., *inside.slices)]
