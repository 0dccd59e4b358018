"""Stand-ins for the two files that pyiqa's LPIPS with VGG16 reads: every key and shape of theirs, nothing in them is learned."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

VGG_FILE, OWN_FILE = "vgg16-397923af.pth", "LPIPS_v0.1_vgg-a78928a0.pth"
SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Numbers of VGG16's convolutions; a pool stands before every slice but the first."""
WIDTHS = (64, 128, 256, 512, 512)
CLASSIFIER = {"0": (4096, 25088), "3": (4096, 4096), "6": (1000, 4096)}


def put_small_lpips(hub: Path, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Writes both below a folder of torch.hub, where torchvision and pyiqa look for them; returns their tensors."""
    generator = torch.Generator().manual_seed(seed)
    vgg, own = _vgg(generator), _own(generator)
    for path, weights in ((hub / "checkpoints" / VGG_FILE, vgg), (hub / "pyiqa" / OWN_FILE, own)):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(weights, path)
    return vgg, own


def _vgg(generator: torch.Generator) -> dict[str, Tensor]:
    """Convolutions that keep the size of what they are given, and a classifier of zeros."""
    weights: dict[str, Tensor] = {}
    before = 3
    for layers, width in zip(SLICES, WIDTHS):
        for layer in layers:
            deviation = (2 / (9 * before)) ** 0.5
            weights[f"features.{layer}.weight"] = deviation * torch.randn(width, before, 3, 3, generator=generator)
            weights[f"features.{layer}.bias"] = 0.1 * torch.randn(width, generator=generator)
            before = width
    for layer, shape in CLASSIFIER.items():
        weights[f"classifier.{layer}.weight"] = torch.zeros(1).expand(shape)  # one number in the file
        weights[f"classifier.{layer}.bias"] = torch.zeros(shape[0])
    return weights


def _own(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        f"lin{index}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for index, width in enumerate(WIDTHS)
    }
