"""Pixels of picture files as people have them; without torch, which takes seconds to import."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def is_deep(image: Image.Image) -> bool:
    """Whether a picture's one channel has more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def rgb_pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    """Pixels (H, W, 3) float32 in [0, 1]: Pillow itself cuts pictures of 16 bit and of floating numbers off at 255.

    ValueError for values that are not finite.
    """
    if is_deep(image):
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("it has values that are not finite")
        # Floating pictures are in [0, 1], [0, 255] or [0, 65535]; whole numbers beyond 8 bit are of 16.
        top = float(values.max(initial=0.0))
        scale = 65535.0 if image.mode != "F" or top > 255 else 255.0 if top > 1 else 1.0
        return np.repeat((values / scale).clip(0, 1)[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255
