"""IMAGE (B, H, W, C) in [0, 1] <-> (B, C, H, W)."""

from __future__ import annotations

from typing import cast

import comfy.model_management as mm
import torch
from torch import Tensor

from ..imaging.resize import resize


def split_image(image: Tensor, name: str = "image") -> tuple[Tensor, Tensor | None]:
    """IMAGE -> RGB (B, 3, H, W) in float32 and alpha (B, 1, H, W) or None; grey becomes RGB.

    Raises ValueError for anything that is not a finite image of 1, 3 or 4 channels.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(
            f"Got '{name}' of shape {tuple(image.shape)}: expected IMAGE (batch, height, width, channels) with 1, 3 or 4 "
            "channels and at least one pixel; connect the output of an image node."
        )
    pixels = image.movedim(-1, 1).float()
    finite = torch.isfinite(pixels).flatten(1).all(1)  # (B,)
    if not finite.all():
        broken = ", ".join(str(i + 1) for i, good in enumerate(finite.tolist()) if not good)
        raise ValueError(
            f"Image {broken} of {len(pixels)} in '{name}' has pixels that are NaN or infinite: expected finite values; "
            "look at the node that made it (black or broken pictures there mean a precision problem)."
        )
    if pixels.shape[1] == 1:
        return pixels.expand(-1, 3, -1, -1), None
    return pixels[:, :3], pixels[:, 3:] if pixels.shape[1] == 4 else None


COPIES = 3
"""Pictures of the result's size that exist at once: the sum of tiles, its colours, the IMAGE."""


SMALLER_PICTURE = "a smaller picture, or fewer at once"
"""Advice where the scale is fixed."""


def check_room(images: int, height: int, width: int, advice: str = "a smaller scale, width or height") -> None:
    """Raises ValueError for pictures that this machine cannot hold, before anything is computed for them."""
    needed = COPIES * 12 * images * height * width
    memory = cast("int", mm.get_total_memory(torch.device("cpu")))
    if needed > memory:
        raise ValueError(
            f"Got a result of {images} x {width} x {height} pixels: it would take {needed / 2**30:.0f} GB and this machine has "
            f"{memory / 2**30:.0f} GB of memory; expected {advice}."
        )


def cropped_to(image: Tensor, original: Tensor) -> Tensor:
    """IMAGE without what it has at the right and at the bottom beyond the size of another, which may be one or one for each."""
    for name, pixels in (("image", image), ("original", original)):
        split_image(pixels, name)
    (height, width), (rows, columns) = original.shape[1:3], image.shape[1:3]
    if height > rows or width > columns:
        raise ValueError(
            f"Got an image of {columns}x{rows} pixels to be cut to the original's {width}x{height}: expected one at least as large; connect "
            "to 'original' the enlarged picture that was extended, or resize the result."
        )
    return image[:, :height, :width]


def join_image(rgb: Tensor, alpha: Tensor | None = None) -> Tensor:
    """RGB (B, 3, H, W), with alpha resized to it, -> IMAGE on the host's device and dtype. Here is the one clamp."""
    if not bool(torch.isfinite(rgb).all()):
        raise ValueError(
            "The result has NaN or infinite pixels: expected finite ones; the network's weights are damaged, or its precision is too low "
            "(try --fp32-vae and --fp32-unet)."
        )
    if alpha is not None:
        rgb = torch.cat([rgb, resize(alpha, *rgb.shape[-2:]).to(rgb)], dim=1)
    return rgb.clamp(0, 1).movedim(1, -1).to(device=mm.intermediate_device(), dtype=_intermediate_dtype())


def _intermediate_dtype() -> torch.dtype:
    # ComfyUI before 0.18 has no such choice and keeps images in float32
    return mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32
