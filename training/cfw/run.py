"""The training run of CFW: fusion layers and their discriminator in turns beside a frozen autoencoder (Wang et al. 2023, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ...models.cfw import CFW
from ...models.judges.patch_discriminator import PatchDiscriminator
from ..checkpoint import TrainState
from ..runs import TrainingRun, add_share, backward, clear, closed, finish_step, new_state, take_step
from ..tad_sr.losses import generator_hinge
from .config import CFWTrainConfig
from .losses import Perceptual, discriminator_loss, picture_losses
from .triples import Triples

BETAS = (0.5, 0.9)


class FusedBase(Protocol):
    """The autoencoder, which stays as it is; whoever binds it to a host decides how."""

    device: torch.device

    def decode_fused(self, cfw: CFW | None, latent: Tensor, low: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], not clamped, of latents, with the features of LR pictures in [0, 1] fused in.

        Differentiable in the fusion layers, at w = 1; None: the autoencoder alone.
        """
        ...


@dataclass
class CFWRun(TrainingRun):
    """`state.model` has the fusion layers under `cfw` and, if there is one, the `discriminator`."""

    config: CFWTrainConfig
    base: FusedBase
    triples: Triples
    perceptual: Perceptual

    @property
    def cfw(self) -> CFW:
        return cast("CFW", self.state.model.get_submodule("cfw"))

    @property
    def discriminator(self) -> PatchDiscriminator | None:
        """None before its time too."""
        if not self.config.adversarial_weight or self.state.step < self.config.adversarial_after:
            return None
        return cast("PatchDiscriminator", self.state.model.get_submodule("discriminator"))

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.config.seed,)

    def recipe(self) -> str:
        return self.config.text(about=self.about)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """The fusion layers' step, then the discriminator's with the pictures from before it.

        ValueError if a loss is not finite: the network whose loss it is still holds the values of the step before.
        """
        config, state, discriminator = self.config, self.state, self.discriminator
        share, numbers = 1 / config.accumulate, dict[str, float]()
        clear(state.optimizers)
        with closed(discriminator):
            pairs = [self._learn_to_fuse(generator, share, numbers) for _ in range(config.accumulate)]
        take_step(state.optimizers[:1])
        if discriminator is not None:
            for target, picture in pairs:
                loss = discriminator_loss(discriminator(target), discriminator(picture)).mean()
                shown = {"discriminator": float(loss.detach())}
                backward(state, loss, shown, share)
                add_share(numbers, shown, share)
            take_step(state.optimizers[1:])
        finish_step(state, config.batch * config.accumulate)
        return numbers

    def losses(self, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Losses (B,) of a fresh batch by name, to be weighed by 1, 1 and `adversarial_weight`; target and picture in [-1, 1]."""
        target, low, latent = (x.to(self.base.device) for x in self.triples.batch(generator, self.config.batch))
        target = target * 2 - 1
        picture = self.base.decode_fused(self.cfw, latent, low)
        losses = picture_losses(picture, target, self.perceptual)
        if self.discriminator is not None:
            losses["adversarial"] = generator_hinge(self.discriminator(picture))
        return losses, target, picture

    def weighed(self, losses: dict[str, Tensor]) -> Tensor:
        """The loss of the fusion layers: mean(|x - y| + perceptual), and the verdict times its fixed weight."""
        weights = {"adversarial": self.config.adversarial_weight}
        return torch.stack([weights.get(name, 1.0) * value.mean() for name, value in losses.items()]).sum()

    def _learn_to_fuse(
        self, generator: torch.Generator, share: float, numbers: dict[str, float]
    ) -> tuple[Tensor, Tensor]:
        """Adds the gradients of a batch; target and picture, without a graph."""
        losses, target, picture = self.losses(generator)
        shown = {name: float(value.detach().mean()) for name, value in losses.items()}
        backward(self.state, self.weighed(losses), shown, share)
        add_share(numbers, shown, share)
        return target, picture.detach()


def cfw_state(config: CFWTrainConfig, cfw: CFW, discriminator: PatchDiscriminator | None) -> TrainState:
    """Step 0, with an Adam for each network; nothing is averaged."""
    if (discriminator is None) == bool(config.adversarial_weight):
        raise ValueError("A discriminator is trained where its verdict has a weight: expected both or neither.")
    networks: dict[str, nn.Module] = {"cfw": cfw}
    if discriminator is not None:
        networks["discriminator"] = discriminator
    model = nn.ModuleDict(networks).requires_grad_(True)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=config.lr, betas=BETAS, foreach=False)
        for network in networks.values()
    ]
    return new_state("cfw", model, optimizers)


@torch.no_grad()
def side_by_side(run: CFWRun, generator: torch.Generator) -> Tensor:
    """LR picture, the VAE alone, with fusion, true picture in a row, (1, 3, H, 4 W) in [0, 1] on the CPU."""
    target, low, latent = run.triples.batch(generator, 1)
    given = latent.to(run.base.device), low.to(run.base.device)
    made = [run.base.decode_fused(cfw, *given).float().cpu() / 2 + 0.5 for cfw in (None, run.cfw)]
    return torch.cat([low, *(picture.clamp(0, 1) for picture in made), target], dim=3)
