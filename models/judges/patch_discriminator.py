"""The discriminator of patches (Isola et al. 2017, pix2pix, section 3.2.2), which judges pictures while CFW is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LAYERS = 3
SLOPE = 0.2
LARGEST = 8
"""Times the first width that later layers have at most."""


class PatchDiscriminator(nn.Module):
    """Three convolutions that halve, one that does not, and one that gives a logit for each patch of 70 x 70 pixels.

    Norms take the statistics of the batch and keep none: a verdict is only asked for while training.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        before = width
        for number in range(1, LAYERS + 1):
            after = width * min(2**number, LARGEST)
            stride = 2 if number < LAYERS else 1
            layers += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after, track_running_stats=False),
                nn.LeakyReLU(SLOPE),
            ]
            before = after
        self.main = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        """Logits (B, 1, H / 8 - 2, W / 8 - 2) of pictures (B, 3, H, W) in [-1, 1]."""
        return self.main(picture)


@torch.no_grad()
def initialise(discriminator: PatchDiscriminator, generator: torch.Generator) -> None:
    """Kernels N(0, 0.02), norms N(1, 0.02), biases 0 (pix2pix, section 6.2)."""
    for layer in discriminator.modules():
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
            mean = 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0
            layer.weight.copy_(mean + 0.02 * torch.randn(layer.weight.shape, generator=generator))
            if layer.bias is not None:
                layer.bias.zero_()
