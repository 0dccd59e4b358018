"""What `dev.py train embedded --part base` does inside of the host; only to be imported once the host can be."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...host.networks import UNetShape, VelocityUNet, unet
from ...models.latent_base import SIZES
from ...training.ema import Ema
from ...training.runs import new_state
from ..embedded_weights.latent_base import LatentBaseConfig, initialise, latent_base_loss
from ..embedded_weights.loop import PhaseRun, header, train_phase
from ..embedded_weights.pool import Batches

SAVE_EVERY = 250


def run(config: LatentBaseConfig, pool: Batches, folder: Path, start: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Trains from the checkpoint in folder, if any, or from an earlier run's weights, to the end; returns the averaged state."""
    network = unet(UNetShape(**SIZES), kind=VelocityUNet, dtype=torch.float32, device="cpu").requires_grad_(True)
    initialise(network, config.seed)
    if start is not None:
        network.load_state_dict({name: value.float() for name, value in start.items()})
    adam = torch.optim.Adam(network.parameters(), config.phase.lr, betas=(0.9, 0.99))
    state = new_state("latent_base", network, (adam,), Ema(network, config.ema_decay))
    loss = latent_base_loss(state, network.get_buffer("alphas_cumprod"))
    about = json.dumps(asdict(config), sort_keys=True)
    training = PhaseRun(state, config.phase, pool, loss, config.seed, config.clip_norm, about=about)
    steps = config.phase.steps
    train_phase(training, folder / "latent_base.safetensors", steps, until=steps, save_every=SAVE_EVERY)
    return state.ema.averaged()


def export(state: dict[str, Tensor], path: Path, config: LatentBaseConfig, sources: str) -> None:
    """Writes half-precision weights and a description of what they are and come from."""
    title = "small base of ComfyUI-AdaptiveSR for controls"
    metadata = header(title, "latent_base", "Apache-2.0", sources, asdict(config))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in state.items()}, path, metadata=metadata)
