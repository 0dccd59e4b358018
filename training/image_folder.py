"""Pictures of a folder as training crops, with the tags that lie beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def image_files(folder: Path) -> list[Path]:
    """All pictures below a folder by name; ValueError if it is none or holds none."""
    if not folder.is_dir():
        raise ValueError(f"'{folder}' is no folder: expected one with pictures ({', '.join(SUFFIXES)}).")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(
            f"The folder '{folder}' holds no picture: expected files ending in {', '.join(SUFFIXES)}; look at its path."
        )
    return files


def read_image(path: Path) -> Tensor:
    """(3, H, W) in [0, 1]; ValueError names a file that is no picture."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"'{path.name}' could not be read as a picture ({str(error)[:150]}): remove it from the folder, or save it again."
        ) from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def read_tags(path: Path) -> str | None:
    """The text beside a picture, "tag, tag, ..." without a comma at its end; None without such a file."""
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8").strip().strip(",").strip() if text.is_file() else None


def random_crop(picture: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square (3, side, side) of (3, H, W), mirrored half of the time; smaller pictures are enlarged first."""
    short = min(picture.shape[-2:])
    if short < side:
        size = [max(side, round(length * side / short)) for length in picture.shape[-2:]]
        picture = F.interpolate(picture[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in picture.shape[-2:])
    crop = picture[:, top : top + side, left : left + side]
    return crop.flip(-1) if float(torch.rand((), generator=generator)) < 0.5 else crop


def crops(pictures: Sequence[Path | Tensor], chosen: Sequence[int], side: int, generator: torch.Generator) -> Tensor:
    """Crops of the chosen pictures, which are files or tensors (3, H, W), (B, 3, side, side)."""
    loaded = (
        picture if isinstance(picture, Tensor) else read_image(picture) for picture in (pictures[i] for i in chosen)
    )
    return torch.stack([random_crop(picture, side, generator) for picture in loaded])
