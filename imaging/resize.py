"""Resizing and padding of images and latents, (B, C, H, W) in and out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bicubic_upsample(image: Tensor, factor: int) -> Tensor:
    """Enlarges by an integer factor: cubic a = -0.75, half-pixel centres, no antialiasing, not clamped."""
    if factor == 1:
        return image
    return F.interpolate(image, scale_factor=factor, mode="bicubic", align_corners=False)


def bicubic_resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resizes to (height, width) as `bicubic_upsample` does, by any factor; meant for enlarging, nothing is smoothed before."""
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False)


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resizes to (height, width) with antialiased bicubic interpolation; overshoot is left in, the caller clamps once."""
    if image.shape[-2:] == (height, width):
        return image
    if height < 1 or width < 1:
        raise ValueError(f"Expected a target of at least 1x1 pixels, got {width}x{height}.")
    return F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False, antialias=True)


def pad_amount(length: int, multiple: int) -> int:
    """Pixels that lift length to the next multiple."""
    return -length % multiple


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pads right and bottom by reflection until both sides are multiples.

    Reflection repeats when the image is smaller than the padding, where `F.pad` would refuse; one-pixel sides replicate.
    """
    height, width = image.shape[-2:]
    return reflect_to(image, height + pad_amount(height, multiple), width + pad_amount(width, multiple))


def reflect_to(image: Tensor, height: int, width: int) -> Tensor:
    """Extends the image to (height, width) at the right and bottom by (repeated) reflection about the last pixel."""
    return reflect_around(image, 0, 0, height, width)


def reflect_around(image: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Extends the image to (height, width), with `top` rows and `left` columns of them before it, by (repeated) reflection."""
    rows, columns = image.shape[-2:]
    if height > rows:
        image = image.index_select(-2, reflected_indices(rows, height, image.device, before=top))
    if width > columns:
        image = image.index_select(-1, reflected_indices(columns, width, image.device, before=left))
    return image


def reflected_indices(length: int, padded: int, device: torch.device, *, before: int = 0) -> Tensor:
    """Source index of each of `padded` positions when a line of `length` is reflected to and fro without repeating its ends.

    `before` positions come before the line.
    """
    if length == 1:
        return torch.zeros(padded, dtype=torch.long, device=device)
    period = 2 * (length - 1)
    position = (torch.arange(padded, device=device) - before) % period  # (padded,)
    return torch.minimum(position, period - position)
