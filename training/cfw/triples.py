"""Triples that CFW is trained on: LR picture, true picture, and the latent that the finished sampler makes of the LR picture.

Shards are files of a folder that is named by a hash of everything that decides them; what an interrupted run has left is
kept, and what is damaged is made again (Wang et al. 2023, section 4.1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...sampling.noise import generator_for
from ..atomic import replace_file
from ..data import PairSource

SHARD = 4
"""Triples in one file."""
NAMES = ("target", "low", "latent")
CHECKSUM = "checksum"

Restore = Callable[[Tensor, torch.Generator], Tensor]
"""LR pictures (B, 3, H, W) in [0, 1], enlarged -> latents (B, 4, h, w) at the end of the sampler's chain."""


@dataclass(frozen=True)
class Triples:
    """Whole shards on disk."""

    shards: Sequence[Path]

    def __len__(self) -> int:
        return SHARD * len(self.shards)

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """True and LR pictures (B, 3, H, W) in [0, 1] and latents (B, 4, h, w), drawn with replacement."""
        chosen = torch.randint(len(self), (size,), generator=generator).tolist()
        rows = [self._row(index) for index in chosen]
        target, low, latent = (torch.stack(column) for column in zip(*rows))
        return target.float() / 255, low.float() / 255, latent

    def _row(self, index: int) -> tuple[Tensor, ...]:
        with safe_open(self.shards[index // SHARD], framework="pt") as file:
            return tuple(file.get_slice(name)[index % SHARD] for name in NAMES)


@dataclass(frozen=True)
class TripleCache:
    """What decides a cache: how many triples (rounded up to whole shards), the seed, and words on the rest."""

    count: int
    seed: int
    about: Mapping[str, str]
    """Networks, pictures, degradation and chain: whatever would change the files."""

    def paths(self, folder: Path) -> list[Path]:
        """Where the shards lie; a greater count finds those of a smaller cache there."""
        key = json.dumps({"seed": self.seed, **self.about}, sort_keys=True)
        digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        return [folder / f"triples_{digest}" / f"{index:06}.safetensors" for index in range(-(-self.count // SHARD))]


@torch.no_grad()
def build(
    folder: Path,
    cache: TripleCache,
    source: PairSource,
    restore: Restore,
    after_shard: Callable[[int, int], None] | None = None,
) -> Triples:
    """Makes the shards that are missing or damaged and opens all; after_shard(done, of all) may show and raise."""
    paths = cache.paths(folder)
    for index, path in enumerate(paths):
        if not is_whole(path):
            _make_shard(path, source, restore, generator_for(cache.seed, index))
        if after_shard is not None:
            after_shard(index + 1, len(paths))
    return Triples(paths)


def is_whole(path: Path) -> bool:
    """Whether a shard is there and holds what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in NAMES}
            return (file.metadata() or {}).get(CHECKSUM) == checksum(tensors)
    except Exception:  # noqa: BLE001  whatever its reader raises, the shard is of no use
        return False


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Changes with any value of a shard."""
    digest = hashlib.blake2b(digest_size=16)
    for name in NAMES:
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _make_shard(path: Path, source: PairSource, restore: Restore, generator: torch.Generator) -> None:
    """One file; written beside and moved, so that a shard is whole or missing. Pictures are kept in 8 bit."""
    target, low = (_bytes(pictures) for pictures in source.batch(generator, SHARD))
    latent = restore(low.float() / 255, generator).float().cpu()
    if not bool(torch.isfinite(latent).all()):
        raise ValueError(
            "The sampler gave latents that are not finite: expected finite ones; use the MODEL in float32 or bfloat16, and look at the "
            "pictures of StableSR Apply first."
        )
    tensors = {"target": target, "low": low, "latent": latent.contiguous()}
    replace_file(path, lambda place: save_file(tensors, place, metadata={CHECKSUM: checksum(tensors)}))


def _bytes(pictures: Tensor) -> Tensor:
    return (pictures.clamp(0, 1) * 255).round().byte().contiguous()
