"""What the adapters' steps maximise: CLIP-IQA, as in TASR (section 3.3), or a reward of ours that needs no weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sharpness import gradient_energy

Reward = Callable[[Tensor, Tensor], Tensor]
"""(picture, target), both (B, 3, H, W) in [0, 1] -> (B,), at best 1; differentiable in the picture."""

CLIP_IQA = "CLIP-IQA"
ENERGY = "gradient energy match (ours, weight-free)"
REWARDS = (CLIP_IQA, ENERGY)
CLIP_FILE, CLIP_SHA256 = "RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
CLIP_SIDE = 224
"""CLIP-IQA's backbone was trained at this size; smaller pictures are enlarged to it."""


class MissingRewardError(ValueError):
    """A reward's weights are not on this machine; the message offers the reward that needs none."""


def make_reward(name: str, device: torch.device) -> Reward:
    """A reward by name; MissingRewardError if its weights are absent (nothing is downloaded)."""
    if name == ENERGY:
        return gradient_energy_match
    if name == CLIP_IQA:
        return clip_iqa(clip_weights(), device)
    raise ValueError(f"Got the reward {name!r}: expected one of {', '.join(REWARDS)}.")


def gradient_energy_match(picture: Tensor, target: Tensor, floor: float = 1e-3) -> Tensor:
    """1 where 8 x 8 windows have the gradient energy of the target's, less where they are softer or sharper (ours), (B,).

    The smaller of the two energies over the larger, averaged over windows. It is no measure of quality: it sees how much
    detail there is and not whether it is right; the L1 term and the target's energy keep it from rewarding noise.
    """
    found = gradient_energy(picture * 2 - 1) + floor  # (B, 1, H / 8, W / 8)
    wanted = gradient_energy(target * 2 - 1) + floor
    return (torch.minimum(found, wanted) / torch.maximum(found, wanted)).flatten(1).mean(1)


def clip_weights() -> Path:
    """The file of CLIP's weights where pyiqa keeps it, verified."""
    path = Path(torch.hub.get_dir()) / "clip" / CLIP_FILE
    if not path.is_file():
        raise MissingRewardError(
            f"The reward {CLIP_IQA} needs CLIP's weights {CLIP_FILE}, which are not in {path.parent}: expected the file that "
            f"pyiqa fetches when its metric clipiqa is first used; put it there, or choose the reward '{ENERGY}'."
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != CLIP_SHA256:
        raise MissingRewardError(
            f"The reward {CLIP_IQA} found a {CLIP_FILE} in {path.parent} with another checksum than CLIP's: expected the "
            f"published file; delete it and get it again, or choose the reward '{ENERGY}'."
        )
    return path


def clip_iqa(weights: Path, device: torch.device) -> Reward:
    """pyiqa's CLIP-IQA with frozen weights from a file; the target is not looked at."""
    import pyiqa  # noqa: PLC0415  it takes seconds and is only needed by those who train with this reward

    # A path for the backbone: by its name pyiqa would fetch what it does not find.
    metric = pyiqa.create_metric("clipiqa", as_loss=True, device=device, backbone=str(weights))
    metric.requires_grad_(False).eval()

    def reward(picture: Tensor, target: Tensor) -> Tensor:
        short = min(picture.shape[-2:])
        if short < CLIP_SIDE:
            picture = F.interpolate(picture, scale_factor=CLIP_SIDE / short, mode="bilinear", antialias=False)
        return metric.net(picture).flatten()

    return reward
