"""The pool of generated pairs that training crops from: HR images with one clean and several degraded LR versions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ...training.atomic import replace_file
from ...training.synthetic import SIZE, synthetic_image
from .degrade_mild import CLEAN, CLEAN_SHARE, Pixels, degrade, random_degradation

log = logging.getLogger("adaptivesr")
VARIANTS = 4  # LR version 0 is clean, the others are degraded
CHUNK = 40


def make_pairs(seed: int, start: int, count: int) -> tuple[Pixels, Pixels]:
    """HR (count, S, S, 3) and LR (count, VARIANTS, S/4, S/4, 3) of images start..start+count-1."""
    torch.set_num_threads(1)
    high, low = [], []
    for index in range(start, start + count):
        image = synthetic_image(seed, index)
        rng = np.random.default_rng((seed, index, 1))
        high.append(image)
        worse = [degrade(image, random_degradation(rng), rng) for _ in range(VARIANTS - 1)]
        low.append(np.stack([degrade(image, CLEAN, rng), *worse]))
    return np.stack(high), np.stack(low)


def build_pool(folder: Path, seed: int, count: int, workers: int = 1) -> None:
    """Writes hr.npy and lr.npy (plain arrays) of count images, a multiple of CHUNK; keeps files of the right length."""
    if count % CHUNK:
        raise ValueError(f"pool of {count} images: expected a multiple of {CHUNK}")
    shapes = {"hr": (count, SIZE, SIZE, 3), "lr": (count, VARIANTS, SIZE // 4, SIZE // 4, 3)}
    done = folder / "done.txt"
    if done.exists() and done.read_text() == f"{seed} {count}":
        return
    folder.mkdir(parents=True, exist_ok=True)
    hr, lr = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape)
        for name, shape in shapes.items()
    )
    starts = range(0, count, CHUNK)
    # Fresh interpreters: forking after torch has started its threads can hang. A single worker stays in this process.
    if workers == 1:
        chunks = (make_pairs(seed, start, CHUNK) for start in starts)
        _store(hr, lr, chunks, count)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
            _store(hr, lr, executor.map(make_pairs, [seed] * len(starts), starts, [CHUNK] * len(starts)), count)
    done.write_text(f"{seed} {count}")


def _store(hr: npt.NDArray[np.uint8], lr: npt.NDArray[np.uint8], chunks: object, count: int) -> None:
    for i, (high, low) in enumerate(chunks):  # type: ignore[call-overload]
        hr[i * CHUNK : (i + 1) * CHUNK], lr[i * CHUNK : (i + 1) * CHUNK] = high, low
        log.info("pool %d of %d images", (i + 1) * CHUNK, count)


def write_pictures(folder: Path, pools: Sequence[Pool]) -> None:
    """The HR pictures of these pools as PNG files, for trainings that read a folder; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(picture for pool in pools for picture in pool.hr):
        path = folder / f"{number:05}.png"
        if not path.exists():
            replace_file(path, lambda place, shown=picture: Image.fromarray(shown).save(place, "PNG"))


class Batches(Protocol):
    """What a training loop draws from."""

    def batch(self, generator: torch.Generator, size: int, patch: int) -> tuple[Tensor, Tensor]:
        """size random crops: HR (B, 3, 4 patch, 4 patch) and LR (B, 3, patch, patch), float32 in [-1, 1]."""
        ...


@dataclass(frozen=True)
class Pool:
    """Memory-mapped pairs."""

    hr: npt.NDArray[np.uint8]
    lr: npt.NDArray[np.uint8]
    clean_share: float = CLEAN_SHARE

    @classmethod
    def open(cls, folder: Path, clean_share: float = CLEAN_SHARE) -> Pool:
        """The pool that `build_pool` wrote into folder."""
        return cls(np.load(folder / "hr.npy", mmap_mode="r"), np.load(folder / "lr.npy", mmap_mode="r"), clean_share)

    def batch(self, generator: torch.Generator, size: int, patch: int) -> tuple[Tensor, Tensor]:
        """As `Batches.batch`. Crops are mirrored, transposed and their colour channels permuted; clean_share of them have the clean LR."""
        return as_batch([self.crop(generator, patch) for _ in range(size)])

    def crop(self, generator: torch.Generator, patch: int) -> tuple[Tensor, Tensor]:
        """One HR and LR crop in 8 bit."""
        draw = torch.rand(8, generator=generator).tolist()
        index = int(draw[0] * len(self.hr))
        version = 0 if draw[1] < self.clean_share else 1 + self._degraded(draw[1])
        room = self.lr.shape[2] - patch + 1
        top, left = int(draw[2] * room), int(draw[3] * room)
        rows, columns = slice(top, top + patch), slice(left, left + patch)
        wide_rows, wide_columns = slice(4 * top, 4 * (top + patch)), slice(4 * left, 4 * (left + patch))
        order = torch.randperm(3, generator=generator)
        pair = (self.hr[index, wide_rows, wide_columns], self.lr[index, version, rows, columns])
        return tuple(self._turn(torch.from_numpy(side.copy()), draw[4:7])[order] for side in pair)  # type: ignore[return-value]

    def _degraded(self, draw: float) -> int:
        """Which of the degraded versions a draw in [clean_share, 1) means."""
        return int((draw - self.clean_share) / (1 - self.clean_share) * (VARIANTS - 1))

    @staticmethod
    def _turn(image: Tensor, draw: list[float]) -> Tensor:
        chw = image.permute(2, 0, 1)
        if draw[0] < 0.5:
            chw = chw.flip(-1)
        if draw[1] < 0.5:
            chw = chw.flip(-2)
        return chw.transpose(-1, -2) if draw[2] < 0.5 else chw


@dataclass(frozen=True)
class Mixture:
    """Crops of several pools, each with its share."""

    pools: tuple[Pool, ...]
    shares: tuple[float, ...]

    def batch(self, generator: torch.Generator, size: int, patch: int) -> tuple[Tensor, Tensor]:
        """As `Batches.batch`; every crop's pool is drawn."""
        which = torch.multinomial(torch.tensor(self.shares), size, replacement=True, generator=generator).tolist()
        return as_batch([self.pools[index].crop(generator, patch) for index in which])


def as_batch(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Pairs of 8-bit crops as two float32 batches in [-1, 1]."""
    hr, lr = (torch.stack(side).float() / 127.5 - 1 for side in zip(*pairs))
    return hr, lr
