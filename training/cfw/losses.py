"""What trains CFW: the picture's error and how it looks, and the discriminator's own loss (Wang et al. 2023, section 3.2)."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...imaging.metrics.named import named_metrics
from ..tad_sr.losses import discriminator_hinge
from .config import GRADIENTS, LPIPS, PERCEPTUAL

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(picture, target), both (B, 3, H, W) in [-1, 1] -> (B,); differentiable in the picture."""

PYIQA_NAME = "lpips-vgg"
FILES = "vgg16-397923af.pth and LPIPS_v0.1_vgg-a78928a0.pth"
"""Of torchvision and of pyiqa."""
SCALES = 3


class MissingLPIPSError(ValueError):
    """LPIPS's weights are not on this machine and could not be had; the message offers the loss that needs none."""


def make_perceptual(name: str, device: torch.device) -> Perceptual:
    """A perceptual loss by name; MissingLPIPSError if its weights cannot be had."""
    if name == GRADIENTS:
        return gradient_distance
    if name == LPIPS:
        return lpips(device)
    raise ValueError(f"Got the perceptual loss {name!r}: expected one of {', '.join(PERCEPTUAL)}.")


def lpips(device: torch.device) -> Perceptual:
    """pyiqa's LPIPS with VGG16 (Zhang et al. 2018), frozen; pyiqa fetches its weights when they are not there."""
    metric, reason = None, None
    try:
        metric = named_metrics([PYIQA_NAME], device, {PYIQA_NAME: {"as_loss": True}}).found.get(PYIQA_NAME)
    except torch.OutOfMemoryError:
        raise
    except (
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:  # what torch's reader raises for a file that was cut
        reason = error
    if metric is None:
        raise MissingLPIPSError(
            f"pyiqa's {PYIQA_NAME} could not be made, for want of its weights or of a network to fetch them: expected whole files {FILES} "
            f"where torch and pyiqa keep theirs (remove a damaged one, and it is fetched again); or choose the perceptual loss '{GRADIENTS}', "
            "which needs none."
        ) from reason
    return distance_of(metric.net)  # type: ignore[attr-defined]


def distance_of(network: nn.Module) -> Perceptual:
    """The distance of pyiqa's network, which stays as it is."""
    network.requires_grad_(False).eval()

    def distance(picture: Tensor, target: Tensor) -> Tensor:
        return network(picture, target, normalize=False).flatten()

    return distance


def gradient_distance(picture: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of neighbours' differences, at full, half and quarter size (ours), (B,).

    It asks for edges at their place. It is no measure of how a picture looks to people.
    """
    total = picture.new_zeros(len(picture))
    for scale in range(SCALES):
        error = F.avg_pool2d(picture - target, 2**scale)
        for axis in (2, 3):
            total = total + error.diff(dim=axis).abs().flatten(1).mean(1) / (2 * SCALES)
    return total


def picture_losses(picture: Tensor, target: Tensor, perceptual: Perceptual) -> dict[str, Tensor]:
    """|x - y| and the perceptual distance of each picture in [-1, 1], (B,); the loss is their sum."""
    return {"l1": (picture - target).abs().flatten(1).mean(1), "perceptual": perceptual(picture, target)}


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half the hinge loss of logits (B, 1, h, w), (B,)."""
    return 0.5 * discriminator_hinge(real, fake)
