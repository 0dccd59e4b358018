"""What the adapters' steps maximise: CLIP-IQA, as in TASR (section 3.3), MANIQA or MUSIQ as in its Table 4, or a reward of ours
that needs no weights."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..sharpness import gradient_energy

Reward = Callable[[Tensor, Tensor], Tensor]
"""(picture, target), both (B, 3, H, W) in [0, 1] -> (B,), at best 1; differentiable in the picture."""

CLIP_IQA = "CLIP-IQA"
ENERGY = "gradient energy match (ours, weight-free)"
MANIQA, MUSIQ = "MANIQA", "MUSIQ"
REWARDS = (CLIP_IQA, ENERGY, MANIQA, MUSIQ)
CLIP_FILE, CLIP_SHA256 = "RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
CLIP_SIDE = 224
"""CLIP-IQA's backbone was trained at this size; smaller pictures are enlarged to it."""


@dataclass(frozen=True)
class NamedReward:
    """A metric of pyiqa without a reference: its file in pyiqa's folder, its options, and its score for the best picture."""

    file: str
    best: float
    options: Mapping[str, Any]


NAMED = {
    # One crop of 224 pixels in place of twenty: each goes through a ViT on the way back.
    MANIQA: NamedReward("ckpt_koniq10k.pt", 1.0, {"train_dataset": "koniq", "test_sample": 1}),
    MUSIQ: NamedReward("musiq_koniq_ckpt-e95806b9.pth", 100.0, {}),
}


class MissingRewardError(ValueError):
    """A reward's weights are not on this machine; the message offers the reward that needs none."""


def make_reward(name: str, device: torch.device) -> Reward:
    """A reward by name; MissingRewardError if its weights are absent (nothing is downloaded)."""
    if name == ENERGY:
        return gradient_energy_match
    if name == CLIP_IQA:
        return clip_iqa(clip_weights(), device)
    if name in NAMED:
        return named_reward(name, named_weights(name), device)
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
            f"The reward {CLIP_IQA} needs CLIP's weights {CLIP_FILE}, which are not in the folder '{path.parent.name}' of torch's hub: expected the file that "
            f"pyiqa fetches when its metric clipiqa is first used; put it there, or choose the reward '{ENERGY}'."
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != CLIP_SHA256:
        raise MissingRewardError(
            f"The reward {CLIP_IQA} found a {CLIP_FILE} in the folder '{path.parent.name}' of torch's hub with another checksum than CLIP's: expected the "
            f"published file; delete it and get it again, or choose the reward '{ENERGY}'."
        )
    return path


def clip_iqa(weights: Path, device: torch.device) -> Reward:
    """pyiqa's CLIP-IQA with frozen weights from a file; the target is not looked at."""
    import pyiqa  # noqa: PLC0415  it takes seconds and is only needed by those who train with this reward

    # A path for the backbone: by its name pyiqa would fetch what it does not find.
    metric = pyiqa.create_metric("clipiqa", as_loss=True, device=device, backbone=str(weights))
    metric.requires_grad_(False).eval()

    return lambda picture, target: metric.net(enlarged(picture)).flatten()


def enlarged(picture: Tensor) -> Tensor:
    """A picture (B, 3, H, W) whose shorter side is at least what the metrics were trained on."""
    short = min(picture.shape[-2:])
    if short >= CLIP_SIDE:
        return picture
    return F.interpolate(picture, scale_factor=CLIP_SIDE / short, mode="bilinear", antialias=False)


def named_weights(name: str) -> Path:
    """The file of a metric's weights where pyiqa keeps it."""
    path = Path(torch.hub.get_dir()) / "pyiqa" / NAMED[name].file
    if not path.is_file():
        raise MissingRewardError(
            f"The reward {name} needs its weights {path.name}, which are not in the folder '{path.parent.name}' of torch's hub: expected the file that pyiqa "
            f"fetches when its metric {name.lower()} is first used; put it there, or choose the reward '{ENERGY}'."
        )
    return path


def named_reward(name: str, weights: Path, device: torch.device) -> Reward:
    """A metric of pyiqa with frozen weights from a file, divided by its best score; the target is not looked at."""
    named = NAMED[name]
    network = bare_network(name.lower(), named.options)
    try:
        # pyiqa would unpickle what it finds.
        found = torch.load(weights, map_location="cpu", weights_only=True)
        tensors = found.get("params", found)
        network.load_state_dict({key.removeprefix("module."): value for key, value in tensors.items()})
    except Exception as error:  # a damaged file raises anything
        raise MissingRewardError(
            f"The reward {name} could not read {weights.name} ({type(error).__name__}): expected the published weights; delete "
            f"the file and get it again, or choose the reward '{ENERGY}'."
        ) from error
    network.to(device).requires_grad_(False).eval()
    return lambda picture, target: network(enlarged(picture)).flatten() / named.best


def bare_network(metric: str, options: Mapping[str, Any]) -> nn.Module:
    """The network of one of pyiqa's metrics without weights, so that nothing is fetched."""
    import pyiqa  # noqa: PLC0415  see clip_iqa

    with without_backbones():
        return pyiqa.create_metric(metric, as_loss=True, device=torch.device("cpu"), pretrained=False, **options).net


@contextmanager
def without_backbones() -> Generator[None, None, None]:
    """Inside, timm gives the backbone of MANIQA without weights: pyiqa always asks for them, which fetches a file, and then
    overwrites all of them with its own."""
    timm: Any = importlib.import_module("timm")
    create = timm.create_model
    timm.create_model = lambda name, **more: create(name, **{**more, "pretrained": False})
    try:
        yield
    finally:
        timm.create_model = create
