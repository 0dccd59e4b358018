"""Golden checks of StableSR that need no host: colour correction, tiles, sampling, images."""

from __future__ import annotations

import torch
from torch import Tensor

from ...imaging.color import adain, blur_level, wavelet_color_fix, wavelet_decompose
from .stablesr_images import CHECKS as IMAGE_CHECKS
from .stablesr_networks import CHECKS as NETWORK_CHECKS
from .stablesr_sampling import CHECKS as SAMPLING_CHECKS
from .stablesr_tiles import CHECKS as TILE_CHECKS
from .vectors import NETWORK, Checks, Golden

# A float result nearer than this to a whole level may be truncated to either side.
LEVEL_MARGIN = 1e-3


def check_color_correction(golden: Golden) -> None:
    content, style, levels = golden["in.content"], golden["in.style"], golden.config["levels"]
    high, _ = wavelet_decompose(content, levels)
    _, style_low = wavelet_decompose(style, levels)
    golden.expect("out.adain", adain(content, style), NETWORK)
    golden.expect("out.wavelet", wavelet_color_fix(content, style, levels), NETWORK)
    low = content
    for level in range(levels):
        low = blur_level(low, 2**level)
        golden.expect(f"mid.content_low_level{level + 1}", low, NETWORK)
    golden.expect("mid.content_high", high, NETWORK)
    golden.expect("mid.style_low", style_low, NETWORK)
    variance, mean = torch.var_mean(content, dim=(2, 3), keepdim=True)
    golden.expect("mid.content_mean", mean, NETWORK)
    golden.expect("mid.content_std", (variance + 1e-5).sqrt(), NETWORK)
    _check_8bit(golden, levels)


def _check_8bit(golden: Golden, levels: int) -> None:
    target, source = (_from_8bit(golden[f"in.pil_{name}_u8"]) for name in ("target", "source"))
    for name, fixed in (("adain", adain(target, source)), ("wavelet", wavelet_color_fix(target, source, levels))):
        key = f"out.pil_{name}_u8"
        golden.expect(key, _truncated_like(fixed.clamp(0.0, 1.0) * 255.0, golden[key]))


def _from_8bit(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) in [0, 1]."""
    return image.permute(2, 0, 1)[None].float() / 255.0


def _truncated_like(levels: Tensor, expected: Tensor) -> Tensor:
    """Levels (1, 3, H, W) truncated to 8 bit (H, W, 3); those on the edge of two levels are given the expected one."""
    levels = levels[0].permute(1, 2, 0)
    low, high = (levels - LEVEL_MARGIN).floor(), (levels + LEVEL_MARGIN).floor()
    truncated = torch.where((expected >= low) & (expected <= high), expected.float(), levels.floor())
    return truncated.clamp(0, 255).to(torch.uint8)


CHECKS: Checks = {
    "13_color_correction": check_color_correction,
    **NETWORK_CHECKS,
    **TILE_CHECKS,
    **SAMPLING_CHECKS,
    **IMAGE_CHECKS,
}
