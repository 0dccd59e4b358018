"""The training run of StableSR's encoder and SFT layers beside a frozen denoiser (Wang et al. 2023, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ...models.struct_parts import StructParts
from ..checkpoint import TrainState
from ..data import PairSource
from ..optim import make_adamw
from ..runs import TrainingRun, backward, clear, finish_step, new_state, take_step
from .config import StableSRConfig
from .losses import guided_diffusion_loss

TIMESTEPS = 1000


class GuidedBase(Protocol):
    """The networks that stay as they are; whoever binds them to a host decides how."""

    device: torch.device
    predicts_v: bool

    def encode(self, picture: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) of a picture (B, 3, H, W) in [0, 1], without gradients."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """The picture in [0, 1], not clamped, of scaled latents."""
        ...

    def predict(self, parts: StructParts | None, x_t: Tensor, t: Tensor, z_lr: Tensor) -> Tensor:
        """eps or v (B, C, h, w) for the null prompt, differentiable in the parts; None: the base alone."""
        ...


@dataclass
class StableSRRun(TrainingRun):
    """`state.model` has the encoder and the SFT layers under `parts`."""

    config: StableSRConfig
    base: GuidedBase
    source: PairSource

    @property
    def parts(self) -> StructParts:
        return cast("StructParts", self.state.model.get_submodule("parts"))

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.config.seed,)

    def recipe(self) -> str:
        return self.config.text(about=self.about)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """One step of AdamW on the mean loss of all batches that it takes."""
        config, total = self.config, 0.0
        clear(self.state.optimizers)
        for _ in range(config.accumulate):
            loss = self.loss(generator).mean()
            number = float(loss.detach())
            backward(self.state, loss, {"denoise": number}, 1 / config.accumulate)
            total += number / config.accumulate
        take_step(self.state.optimizers)
        finish_step(self.state, config.batch * config.accumulate)
        return {"denoise": total}

    def loss(self, generator: torch.Generator) -> Tensor:
        """Squared error of each picture of a fresh batch, (B,); timesteps are uniform over 0..999."""
        target, low = self.source.batch(generator, self.config.batch)
        hr, lr = self.base.encode(target), self.base.encode(low)
        t = torch.randint(TIMESTEPS, (len(hr),), generator=generator).to(hr.device)
        noise = torch.randn(hr.shape, generator=generator).to(hr)

        def predict(x_t: Tensor, timesteps: Tensor, latent: Tensor) -> Tensor:
            return self.base.predict(self.parts, x_t, timesteps, latent)

        kind = {"predicts_v": self.base.predicts_v, "weighted_as_v": self.config.weighted_as_v}
        return guided_diffusion_loss(predict, hr, lr, t, noise, **kind)


def stablesr_state(config: StableSRConfig, parts: StructParts) -> TrainState:
    """Step 0, with one AdamW; nothing is averaged (StableSR, section 4.1 and its public code)."""
    model = nn.ModuleDict({"parts": parts.requires_grad_(True)})
    return new_state("stablesr", model, [make_adamw(parts, config.lr, config.weight_decay)])
