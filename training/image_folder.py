"""Pictures of a folder as training crops, with the tags that lie beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .picture_file import SUFFIXES, rgb_pixels

MOST_FILES = 1_000_000
"""Files that are looked at before a folder counts as a wrong one, such as a whole disk."""
LONGEST_STRIP = 16
"""How many times longer than wide a small picture may be before it is enlarged: a line of pixels would fill the memory."""
MOST_TAGS = 65536
"""Bytes of a text beside a picture."""


def image_files(folder: Path) -> list[Path]:
    """All pictures below a folder by name, hidden files aside; ValueError if it is none or holds none."""
    if not folder.is_dir():
        raise ValueError(f"'{folder.name}' is no folder: expected one with pictures ({', '.join(SUFFIXES)}).")
    files = sorted(path for path in _walk(folder) if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(
            f"The folder '{folder.name}' holds no picture: expected files ending in {', '.join(SUFFIXES)}; look at its path."
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder that are files; other systems' hidden companions ('._photo.png') are no pictures."""
    seen = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            seen += 1
            if seen > MOST_FILES:
                raise ValueError(
                    f"The folder '{folder.name}' holds more than {MOST_FILES} files: expected fewer; choose one inside of it."
                )
            path = Path(root) / name
            if not name.startswith(".") and path.is_file():
                yield path


def read_image(path: Path) -> Tensor:
    """(3, H, W) in [0, 1]; ValueError names a file that is no picture."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        with Image.open(path) as image:
            pixels = rgb_pixels(image)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"'{path.name}' could not be read as a picture ({str(error)[:150]}): remove it from the folder, or save it again."
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_tags(path: Path) -> str | None:
    """The text beside a picture, "tag, tag, ..." without a comma at its end; None without such a file."""
    text = path.with_suffix(".txt")
    if not text.is_file():
        return None
    raw = text.read_bytes()[:MOST_TAGS]
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        words = raw.decode(encoding)
    except UnicodeDecodeError:
        words = raw.decode("cp1252", errors="replace")  # what editors of older Windows wrote
    return words.strip().strip(",").strip()


def random_crop(picture: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square (3, side, side) of (3, H, W), mirrored half of the time; smaller pictures are enlarged first."""
    picture = grown_to(picture, side)
    top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in picture.shape[-2:])
    crop = picture[:, top : top + side, left : left + side]
    return crop.flip(-1) if float(torch.rand((), generator=generator)) < 0.5 else crop


def grown_to(picture: Tensor, side: int) -> Tensor:
    """A picture (3, H, W) whose shorter side is below `side` enlarged to it; of a narrow strip the middle alone, as long as LONGEST_STRIP sides."""
    short = min(picture.shape[-2:])
    if short >= side:
        return picture
    for axis in (-2, -1):
        length = min(picture.shape[axis], LONGEST_STRIP * short)
        picture = picture.narrow(axis, (picture.shape[axis] - length) // 2, length)
    size = [max(side, round(length * side / short)) for length in picture.shape[-2:]]
    return F.interpolate(picture[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)


def crops(pictures: Sequence[Path | Tensor], chosen: Sequence[int], side: int, generator: torch.Generator) -> Tensor:
    """Crops of the chosen pictures, which are files or tensors (3, H, W), (B, 3, side, side)."""
    loaded = (
        picture if isinstance(picture, Tensor) else read_image(picture) for picture in (pictures[i] for i in chosen)
    )
    return torch.stack([random_crop(picture, side, generator) for picture in loaded])
