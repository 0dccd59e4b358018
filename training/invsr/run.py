"""The training run of InvSR: the predictor and its discriminator in turns. Nothing of the frozen networks is touched.

run = InvSRRun(invsr_state(config, predictor, discriminator), config, base, source, text, lpips)
train(run, 1000)
weights = run.state.ema.averaged()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...models.judges.latent_discriminator import LatentDiscriminator, LatentDiscriminatorConfig, TextTransformer
from ...models.judges.latent_lpips import LatentLPIPS
from ...models.noise_predictor import NoisePredictor, NoisePredictorConfig, ResnetBlock, SelfAttention
from ..checkpoint import TrainState
from ..checkpointing import recompute
from ..data import PairSource
from ..ema import Ema
from ..optim import learning_rate, make_adamw, set_learning_rate
from ..runs import TrainingRun, add_share, backward, clear, closed, finish_step, new_state, take_step
from .config import InvSRConfig
from .steps import InvSRBatch, OneStepBase, discriminator_loss, judged, one_step, predictor_losses, prepare

PHASE = "noise predictor"


@dataclass
class InvSRRun(TrainingRun):
    """`state.model` has the trained networks under `predictor` and, if there is one, `discriminator`."""

    config: InvSRConfig
    base: OneStepBase
    source: PairSource
    text: Tensor
    """(1, L, C) of the prompt of all pictures."""
    lpips: LatentLPIPS | None

    @property
    def predictor(self) -> NoisePredictor:
        return cast("NoisePredictor", self.state.model.get_submodule("predictor"))

    @property
    def discriminator(self) -> LatentDiscriminator | None:
        if not self.config.adversarial_weight:
            return None
        return cast("LatentDiscriminator", self.state.model.get_submodule("discriminator"))

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.config.seed,)

    def recipe(self) -> str:
        return self.config.text(about=self.about)

    def train_step(self, generator: torch.Generator) -> dict[str, float]:
        """The predictor's step, then the discriminator's with the predictions from before it, then the average's.

        ValueError if a loss is not finite: the network whose loss it is still holds the values of the step before.
        """
        config, state, discriminator = self.config, self.state, self.discriminator
        hr, lr = self.source.batch(generator, config.batch)
        parts = prepare(config, self.base, hr, lr, self.text, generator).split(config.microbatch)
        numbers: dict[str, float] = {}
        clear(state.optimizers)
        with closed(discriminator):
            predictions = [self._learn_to_start(part, share, numbers) for part, share in parts]
        # The public code takes its first step at the full rate and begins the warm-up after it.
        set_learning_rate(state.optimizers[:1], learning_rate(config.lr, state.step, config.warmup))
        take_step(state.optimizers[:1])
        if discriminator is not None:
            for (part, share), z in zip(parts, predictions):
                with self.base.cast():
                    loss = discriminator_loss(*judged(discriminator, z, part)).mean()
                shown = {"discriminator": float(loss.detach())}
                backward(state, loss, shown, share)
                add_share(numbers, shown, share)
            take_step(state.optimizers[1:])
        finish_step(state, len(hr))
        return numbers

    def _learn_to_start(self, part: InvSRBatch, share: float, numbers: dict[str, float]) -> Tensor:
        """Adds the gradients of a part of the batch; the prediction, without a graph."""
        config = self.config
        with self.base.cast():
            _, z = one_step(self.base, self.predictor, self.predictor, part)
            losses = predictor_losses(config, self.state.step, z, part, self.lpips, self.discriminator)
        weighed = [getattr(config, f"{name}_weight") * value.mean() for name, value in losses.items()]
        shown = {name: float(value.detach().mean()) for name, value in losses.items()}
        backward(self.state, torch.stack(weighed).sum(), shown, share)
        add_share(numbers, shown, share)
        return z.detach()


def invsr_state(
    config: InvSRConfig, predictor: NoisePredictor, discriminator: LatentDiscriminator | None
) -> TrainState:
    """Step 0: AdamW without decay for the predictor, whose average is kept, and Adam with L2 decay for the discriminator."""
    if (discriminator is None) == bool(config.adversarial_weight):
        raise ValueError("A discriminator is trained where its verdict has a weight: expected both or neither.")
    predictor.requires_grad_(True)
    model = nn.ModuleDict({"predictor": predictor})
    optimizers: list[torch.optim.Optimizer] = [make_adamw(predictor, config.lr)]
    if discriminator is not None:
        model["discriminator"] = discriminator.requires_grad_(True)
        rate, decay = config.discriminator_lr, config.discriminator_decay
        optimizers.append(torch.optim.Adam(discriminator.parameters(), lr=rate, weight_decay=decay, foreach=False))
    return new_state(PHASE, model, optimizers, Ema(predictor, config.ema_decay))


def fresh_predictor(config: NoisePredictorConfig, generator: torch.Generator) -> NoisePredictor:
    """A predictor at its start."""
    network = NoisePredictor(config)
    initialise(network, generator)
    return network


def fresh_discriminator(config: LatentDiscriminatorConfig, generator: torch.Generator) -> LatentDiscriminator:
    """A discriminator at its start; the learned vector of its text pool has about length 1."""
    network = LatentDiscriminator(config)
    initialise(network, generator)
    with torch.no_grad():
        vector = network.add_embedding.pool.positional_embedding
        vector.copy_(torch.randn(vector.shape, generator=generator) * vector.shape[1] ** -0.5)
    return network


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Torch's own start of convolutions and linear layers, uniform within 1 / sqrt(fan in), from a CPU generator."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = layer.weight[0].numel() ** -0.5
            for value in layer.parameters(recurse=False):
                value.copy_(bound * (2 * torch.rand(value.shape, generator=generator) - 1))


def save_memory(networks: nn.Module) -> None:
    """Gradient checkpointing of all blocks of predictor and discriminator."""
    kinds = (ResnetBlock, SelfAttention, TextTransformer)
    recompute(module for module in networks.modules() if isinstance(module, kinds))


@torch.no_grad()
def sample_starts(run: InvSRRun, hr: Tensor, lr: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Pictures (B, 3, H, W) by name of one step from the averaged predictor, at every trained start step."""
    averages = {**dict(run.predictor.named_buffers()), **run.state.ema.values}

    def predict(picture: Tensor, t: Tensor) -> Tensor:
        return functional_call(run.predictor, averages, (picture, t))

    return {f"from {tau}": _restored(run, hr, lr, tau, predict, generator) for tau in run.config.taus}


def _restored(
    run: InvSRRun,
    hr: Tensor,
    lr: Tensor,
    tau: int,
    predict: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator,
) -> Tensor:
    one = InvSRConfig(taus=(tau,), batch=max(1, len(hr)), microbatch=1)
    parts = prepare(one, run.base, hr, lr, run.text, generator).split(1)
    with run.base.cast():
        z = torch.cat([one_step(run.base, predict, run.predictor, part)[1] for part, _ in parts])
    return torch.cat([run.base.decode(part) for part in z.split(1)]).float().cpu().clamp(0, 1)
