"""Pairs for the crisp weights: small pictures, and what Real-ESRGAN x4plus (Wang et al. 2021) makes of them in place of the truth.

Its answer to a picture is one sharp picture, where the truth's mean is a blurred one: a small network that imitates it is sharp
without a discriminator of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...training.synthetic import SIZE
from .degrade_mild import Pixels
from .pool import VARIANTS, Pool

log = logging.getLogger("adaptivesr")

Enlarger = Callable[[Tensor], Tensor]
"""(1, 3, h, w) in [0, 1] to (1, 3, 4 h, 4 w)."""


def build_crisp_pool(folder: Path, sources: Sequence[Pool], enlarger: Enlarger, clean_share: float) -> None:
    """Writes hr.npy (the enlarger's pictures) and lr.npy (one version each) of all pictures of these pools.

    A picture takes seconds: what is done stays done, in done.txt, and the next call goes on.
    """
    chosen = [(pool, index) for pool in sources for index in range(len(pool.hr))]
    shapes = {"hr": (len(chosen), SIZE, SIZE, 3), "lr": (len(chosen), 1, SIZE // 4, SIZE // 4, 3)}
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done.txt"
    first = int(done.read_text()) if done.exists() else 0
    files = {name: folder / f"{name}.npy" for name in shapes}
    hr, lr = (
        np.load(files[name], mmap_mode="r+")
        if first
        else np.lib.format.open_memmap(files[name], mode="w+", dtype=np.uint8, shape=shapes[name])
        for name in ("hr", "lr")
    )
    for number in range(first, len(chosen)):
        pool, index = chosen[number]
        small = pool.lr[index, version_of(number, clean_share)]
        hr[number], lr[number, 0] = enlarged(small, enlarger), small
        done.write_text(str(number + 1))
        if (number + 1) % 20 == 0:
            log.info("crisp pool %d of %d pictures", number + 1, len(chosen))


def version_of(number: int, clean_share: float) -> int:
    """Which version of a picture is taken: clean for this share of the numbers, evenly spread, else the degraded ones by turns."""
    clean = int((number + 1) * clean_share) > int(number * clean_share)
    return 0 if clean else 1 + number % (VARIANTS - 1)


@torch.no_grad()
def enlarged(small: Pixels, enlarger: Enlarger) -> Pixels:
    """The enlarger's picture of 8-bit pixels (h, w, 3), in 8 bit."""
    picture = torch.from_numpy(small.copy()).permute(2, 0, 1).float()[None] / 255
    result = enlarger(picture)[0].clamp(0, 1).mul(255).round().byte()
    return result.permute(1, 2, 0).numpy()
