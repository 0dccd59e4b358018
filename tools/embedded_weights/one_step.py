"""The one-step weights that ship: a published compact enlarger's stack, fine-tuned on photographs and generated pictures.

Of TAD-SR's losses this network sees none: it is a regression to the truth. The call keeps the contract of a one-step
residual-shift model, with silent noise and noise-level inputs.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ...models.compact_denoiser import CompactDenoiser
from ...models.pixel_denoiser import precondition, upsampled_latent
from ...sampling.noise import generator_for
from ...sampling.residual_shift import last_index, scale_input
from ...training.checkpoint import TrainState
from ...training.ema import Ema
from ...training.picture_losses import LUMA, amplitude_loss, charbonnier, energy_loss
from ...training.runs import new_state, resume_run
from ...training.tad_sr.base import schedule_of
from .config import OneStepConfig
from .loop import LossFn, PhaseRun, header, train_phase
from .objectives import codec
from .pool import Batches
from .warm_start import Stack, start_from

log = logging.getLogger("adaptivesr")
SAVE_EVERY = 250
FIT_BATCHES, FIT_SIZE, FIT_PATCH, FIT_RIDGE = 40, 4, 48, 1e-3
FIT_MARGIN = 9  # LR pixels at a crop's border whose features see much of the border's zeros


Start = Stack | dict[str, Tensor]
"""What a run begins with: a published stack, or the state of weights that an earlier run exported."""


def network(config: OneStepConfig) -> CompactDenoiser:
    """The network, with the layers frozen that this recipe has nothing to teach."""
    model = CompactDenoiser(config.network)
    for layer in (model.embed_latent, model.film):
        # The noise says nothing of the image and there is one noise level: their gradients would be chance.
        layer.requires_grad_(False)
    return model


def started(config: OneStepConfig, start: Start, pool: Batches) -> CompactDenoiser:
    """The network with an earlier run's weights; or with the stack's head and body, and the tail that suits these features best."""
    model = network(config)
    if not isinstance(start, Stack):
        model.load_state_dict(start)
        return model
    start_from(model, start)
    model.silence()
    fit_tail(model, pool, config.seed)
    return model


@torch.no_grad()
def fit_tail(model: CompactDenoiser, pool: Batches, seed: int, batches: int = FIT_BATCHES) -> None:
    """Sets the tail to the ridge regression of the residual on the body's features: the best that it can do at once."""
    size = model.tail.weight[0].numel() + 1
    gram = torch.zeros(size, size, dtype=torch.float64)
    moments = torch.zeros(size, model.config.latent_channels, dtype=torch.float64)
    for index in range(batches):
        hr, lr = pool.batch(generator_for(seed, -1, index), FIT_SIZE, FIT_PATCH)
        y = upsampled_latent(lr)
        schedule = schedule_of(model)
        level = model.level(last_index(y, schedule))
        c_out = precondition(level, model.kappa, model.residual_std)[2].view(-1, 1, 1, 1)
        features = model.body_features(torch.zeros_like(y), level, lr)
        inner = slice(FIT_MARGIN - 1, 1 - FIT_MARGIN)
        columns = F.unfold(features[..., inner, inner], 3).transpose(1, 2).flatten(0, 1)
        rows = torch.cat([columns, torch.ones(len(columns), 1)], dim=1).double()
        target = ((codec.encode(hr) - y) / c_out)[..., FIT_MARGIN:-FIT_MARGIN, FIT_MARGIN:-FIT_MARGIN]
        gram += rows.T @ rows
        moments += rows.T @ target.flatten(2).transpose(1, 2).flatten(0, 1).double()
    ridge = FIT_RIDGE * gram.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    solution = torch.linalg.solve(gram + ridge, moments).float()
    model.tail.weight.copy_(solution[:-1].T.reshape(model.tail.weight.shape))
    model.tail.bias.copy_(solution[-1])


def foot(step: int, config: OneStepConfig) -> float:
    """The Charbonnier loss's eps: constant, then rising by `config.widening`."""
    progress = step / config.phase.steps
    return config.eps * config.widening ** max(0.0, (progress - config.soft) / (1 - config.soft))


def one_step_loss(state: TrainState, config: OneStepConfig) -> LossFn:
    """Charbonnier on colours and on luma, late with local sharpness, of the last level with no noise in its input (x_T = y)."""
    luma = torch.tensor(LUMA).view(1, 3, 1, 1)

    def loss(hr: Tensor, lr: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        model = state.model
        assert isinstance(model, CompactDenoiser)
        schedule, y = schedule_of(model), upsampled_latent(lr)
        t, eps = last_index(y, schedule), foot(state.step, config)
        picture = codec.decode(model(scale_input(y, t, schedule), t, lr))
        bright, true = ((side * luma).sum(1) for side in (picture, hr))
        colours = charbonnier(picture, hr, eps)
        value = (1 - config.luma_share) * colours + config.luma_share * charbonnier(bright, true, eps)
        numbers = {"loss": float(value.detach())}
        if state.step >= config.sharp * config.phase.steps:
            value = value + config.energy * energy_loss(picture, hr)
        if config.amplitude:
            value = value + config.amplitude * amplitude_loss(picture, hr)
        return value, numbers

    return loss


def run_one_step(
    config: OneStepConfig,
    pool: Batches,
    folder: Path,
    start: Start,
    *,
    until: int | None = None,
    save_every: int = SAVE_EVERY,
) -> dict[str, Tensor]:
    """Trains from the checkpoint in folder, if any, up to step `until`; returns the network's averaged state."""
    path, text = folder / "one_step.safetensors", json.dumps(asdict(config), sort_keys=True)
    model = network(config) if path.exists() else started(config, start, pool)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], config.phase.lr, betas=(0.9, 0.99))
    state = new_state("one_step", model, (adam,), Ema(model, config.ema_decay))
    loss = one_step_loss(state, config)
    run = PhaseRun(state, config.phase, pool, loss, config.seed, config.clip_norm, about=text)
    steps = config.phase.steps
    stop = steps if until is None else until
    if path.exists():
        resume_run(run, path)
    larger = replace(config.phase, batch=config.late_batch, patch=config.late_patch)
    for phase, end in ((config.phase, min(round(config.late * steps), stop)), (larger, stop)):
        run.phase = phase
        if state.step < end:
            train_phase(run, path, steps, until=end, save_every=save_every)
    return state.ema.averaged()


def export(state: dict[str, Tensor], path: Path, config: OneStepConfig, sources: str) -> None:
    """Writes half-precision weights with float32 schedule buffers, and a description of what they are and come from."""
    small = {name: value.half() if value.ndim >= 1 and name != "sqrt_etas" else value for name, value in state.items()}
    small["one_step"] = torch.tensor(1.0)
    licence = "Apache-2.0; started from BSD-3-Clause weights, see NOTICE"
    metadata = header("one-step x4 weights of ComfyUI-AdaptiveSR", "one_step", licence, sources, asdict(config))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in small.items()}, path, metadata=metadata)
    log.info("wrote %s (%.2f MB)", path.name, path.stat().st_size / 1e6)
