"""Pictures of a folder: which there are, what they are called beside one another, and their pixels."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ...training.picture_file import SUFFIXES, is_deep, rgb_pixels
from ..env.steps import StepError

if TYPE_CHECKING:
    from torch import Tensor

SCALE_MARK = re.compile(r"[_-]?x\d$", re.IGNORECASE)
"""What data sets put behind the names of their small pictures (DIV2K: 0801x4)."""

ROUNDED = "16 bits rounded to 8, which is what Load Image gives"


class UnreadableError(ValueError):
    """A file is no picture; no other try can change that."""


@dataclass(frozen=True)
class Picture:
    """A file below the input folder: its name there with forward slashes, its place, the name of its result, its reference."""

    name: str
    path: Path
    result: str
    reference: Path | None = None

    @property
    def stamp(self) -> str:
        """Changes when the file or its reference does."""
        files = [self.path] if self.reference is None else [self.path, self.reference]
        return " ".join(f"{status.st_size}:{status.st_mtime_ns}" for status in map(os.stat, files))


def list_pictures(folder: Path, references: Path | None) -> tuple[list[Picture], dict[str, str]]:
    """The pictures below a folder by name, and why other files are left out. Hidden files are passed over without a word.

    references: the folder whose file of the same name, whatever its ending, a picture is compared with.
    """
    if not folder.is_dir():
        raise StepError(f"{folder} is no folder: expected one with pictures ({', '.join(SUFFIXES)}).")
    names: list[str] = []
    left_out: dict[str, str] = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in SUFFIXES:
            names.append(name)
        else:
            left_out[name] = f"no picture by its name: expected an ending in {', '.join(SUFFIXES)}"
    if not names:
        raise StepError(f"{folder} holds no picture: expected files ending in {', '.join(SUFFIXES)}.")
    known = {} if references is None else _references(references)
    results = _result_names(names)
    return [Picture(name, folder / name, results[name], _reference_of(name, known)) for name in names], left_out


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith("."))


def _result_names(names: list[str]) -> dict[str, str]:
    """`a/b.png` for `a/b.jpg`; the whole name is kept where two would become one, on systems that do not tell capitals apart, too."""
    short = {name: PurePosixPath(name).with_suffix(".png").as_posix() for name in names}
    counts: dict[str, int] = {}
    for result in short.values():
        counts[result.casefold()] = counts.get(result.casefold(), 0) + 1
    return {name: result if counts[result.casefold()] == 1 else f"{name}.png" for name, result in short.items()}


def _references(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise StepError(f"{folder} is no folder: expected one with the pictures to compare with.")
    files = [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def _reference_of(name: str, known: Mapping[str, Path]) -> Path | None:
    stem = PurePosixPath(name).with_suffix("").as_posix()
    return known.get(stem, known.get(SCALE_MARK.sub("", stem)))


def seed_of(seed: int, name: str) -> int:
    """A picture's own seed, from 0 to 2^32 - 1: of its name, so that it does not depend on what else is in the folder."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=4).digest(), "big")


@dataclass(frozen=True)
class Decoded:
    """Pixels (H, W, 3) float32 in [0, 1], and what was lost on the way to them."""

    pixels: np.ndarray[Any, Any]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def tensor(self) -> Tensor:
        """(1, 3, H, W)."""
        import torch  # noqa: PLC0415  (seconds, and memory: for those who measure or degrade)

        return torch.from_numpy(np.ascontiguousarray(self.pixels)).movedim(2, 0)[None]


def decode(content: bytes) -> Decoded:
    """The picture in a file's bytes, turned as its camera says.

    Raises UnreadableError for bytes that are no picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            notes = ["its first frame alone"] if getattr(image, "n_frames", 1) > 1 else []
            if image.mode == "RGB" and any(";16" in str(tile[3]) for tile in image.tile):
                notes.append(ROUNDED)
            image.load()
            turned = ImageOps.exif_transpose(image)
            return _decoded(turned, notes)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format or damaged" if isinstance(error, UnidentifiedImageError) else str(error)[:150]
        raise UnreadableError(f"cannot be read as a picture ({reason})") from error


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height by a file's head."""
    with Image.open(io.BytesIO(content)) as image:
        return image.size


def _decoded(image: Image.Image, notes: list[str]) -> Decoded:
    if not is_deep(image) and ("A" in image.getbands() or "transparency" in image.info):
        notes.append("without its transparency, which Load Image gives as a mask")
    return Decoded(rgb_pixels(image), (*notes, *([ROUNDED] if is_deep(image) else [])))


def as_png(pixels: np.ndarray[Any, Any]) -> bytes:
    """An 8-bit PNG of pixels (H, W, 3) in [0, 1]."""
    stream = io.BytesIO()
    levels = (pixels.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(levels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
