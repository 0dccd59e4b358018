"""Weights that golden files name by a seed instead of carrying them: every value follows from its key and its index."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .stablesr_tiles import metadata
from .vectors import Checks, Golden

_SPREAD, _FIRST, _SECOND = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
SEED = re.compile(r"hash[ _]seed (\d+)")


def hash_uniform(name: str, count: int, seed: int) -> NDArray[np.float64]:
    """`count` values in [-1, 1): a 32-bit mix of the index and of the name's CRC-32."""
    start = np.uint32(zlib.crc32(name.encode("utf-8")) ^ seed)
    x = np.arange(count, dtype=np.uint32) * _SPREAD + start
    x ^= x >> np.uint32(16)
    x *= _FIRST
    x ^= x >> np.uint32(13)
    x *= _SECOND
    x ^= x >> np.uint32(16)
    return 2.0 * x / 2.0**32 - 1.0


def hash_tensor(key: str, shape: Sequence[int], seed: int) -> Tensor:
    """The float32 parameter of a full key: matrices scaled by sqrt(3 / fan in), norm weights about 1, other lines 0.1."""
    values = hash_uniform(key, math.prod(shape), seed)
    if len(shape) >= 2:
        values *= math.sqrt(3.0 / math.prod(shape[1:]))
    elif key.endswith(".weight"):
        values = 1.0 + 0.2 * values
    else:
        values *= 0.1
    return torch.from_numpy(values.astype(np.float32)).reshape(tuple(shape))


def fill_by_hash(network: nn.Module, seed: int, prefix: str = "") -> None:
    """Gives every parameter of a network its hashed value in place."""
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            parameter.copy_(hash_tensor(prefix + key, parameter.shape, seed))


def seed_of(description: str) -> int:
    """The seed that a file's metadata names in words, its entry `weights`."""
    match = SEED.search(description)
    if match is None:
        raise ValueError(f"No seed in {description!r}, expected 'hash seed N'.")
    return int(match[1])


def check_generator(golden: Golden) -> None:
    """The generator's own check: four tensors of known keys."""
    seed = metadata(golden)["hash_seed"]
    keys = {
        "conv": "input_blocks.0.0.weight",
        "norm": "norm.weight",
        "bias": "norm.bias",
        "linear": "time_embed.0.weight",
    }
    for name, key in keys.items():
        golden.expect(f"out.{name}", hash_tensor(key, golden[f"out.{name}"].shape, seed), 1e-7)


CHECKS: Checks = {"00_hashweights_selfcheck": check_generator}
