"""Pseudo-random weights that golden files do not store: every tensor follows from a seed and its own name."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def formula_tensor(base_seed: int, name: str, shape: torch.Size) -> Tensor:
    """n / sqrt(fan in) for two or more dimensions, 1 + 0.1 n for norm weights, 0.05 n for the rest, n ~ N(0, 1) of the name.

    The stream is numpy's legacy generator, which is frozen; float32.
    """
    seed = (base_seed + zlib.crc32(name.encode("utf-8"))) % 2**32
    n = np.random.RandomState(seed).standard_normal(math.prod(shape)).reshape(tuple(shape))
    if len(shape) >= 2:
        n = n / math.sqrt(math.prod(shape[1:]))
    else:
        n = 1 + 0.1 * n if name.endswith("weight") else 0.05 * n
    return torch.from_numpy(np.asarray(n, dtype=np.float32))


def formula_weights(network: nn.Module, prefix: str, base_seed: int) -> dict[str, Tensor]:
    """A state dict for network, each tensor from prefix + key."""
    return {key: formula_tensor(base_seed, prefix + key, value.shape) for key, value in network.state_dict().items()}


def meta_of(path: Path) -> dict[str, Any]:
    """meta.json beside a golden file; ValueError if it is not there."""
    meta = path.with_name("meta.json")
    if not meta.is_file():
        raise ValueError("The configuration stands in meta.json, which is not beside the file.")
    return json.loads(meta.read_text(encoding="utf-8"))
