"""Stable Diffusion 2.1 and StableSR's parts at full size in the host, and the clocks around them."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ....host.loading import OPERATIONS, host_attention, network_patcher
from ....host.networks import UNetShape, base_model
from ....host.stablesr.loading import LoadedStableSR, patched
from ....host.stablesr.patch import LR_LATENT, residual_blocks
from ....models.spade import SpadeShape
from ....models.struct_parts import StructParts, StructPartsConfig
from ...golden.stablesr_networks import PUBLISHED_ENCODER, encoder_config

HIDDEN, FEATURES, TOKENS = 128, 256, 77
SIGMA = 5.0
SCALE = 0.02


def randomise(network: torch.nn.Module) -> None:
    """Small values everywhere: the host's layers are uninitialised memory."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.requires_grad_(False).uniform_(-SCALE, SCALE, generator=generator)


def wait() -> None:
    """For the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(call: Callable[[], Any]) -> float:
    """Of one call: of the processor without a GPU, so that other programs on the machine count less."""
    clock = perf_counter if torch.cuda.is_available() else process_time
    wait()
    start = clock()
    call()
    wait()
    return clock() - start


def flop(call: Callable[[], Any]) -> int:
    """Multiplications and additions of matrices and convolutions, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return counter.get_total_flops()


class FullSizeNetworks:
    """A MODEL and its patched clone, loaded, and calls of both on the same latents."""

    def __init__(self, cells: int) -> None:
        shape = UNetShape()
        self._plain = base_model(shape, dtype=torch.float32)
        self._model, device = self._plain.model, self._plain.load_device
        randomise(self._model.diffusion_model)
        self._parts = _parts(self._model.diffusion_model).to(device)
        weights = dict(self._parts.state_dict())
        self._patched = patched(self._plain, LoadedStableSR(network_patcher(self._parts, weights), "", None), 1.0)
        draw = torch.Generator().manual_seed(1)
        self._latents = [torch.randn(1, 4, cells, cells, generator=draw).to(device) for _ in range(2)]
        self._context = torch.randn(1, TOKENS, shape.context_dim, generator=draw).to(device)

    @property
    def parameters(self) -> str:
        """Sizes in words."""
        unet, parts = (sum(p.numel() for p in m.parameters()) for m in (self._model.diffusion_model, self._parts))
        return f"UNet of {unet / 1e6:.1f} M and StableSR parts of {parts / 1e6:.1f} M parameters"

    @torch.inference_mode()
    def measure(self, rows: int, repeats: int) -> dict[str, float]:
        """Medians of alternating turns, and counted arithmetic; `rows` copies of one latent, as guidance has them."""
        plain, guided = (lambda: self._call(self._plain, rows)), (lambda: self._call(self._patched, rows))
        work = flop(plain), flop(guided)  # also the warm-up
        turns = [(seconds(plain), seconds(guided), seconds(lambda: self._alone(rows))) for _ in range(repeats)]
        without, with_patch, alone = (median(column) for column in zip(*turns))
        return {
            "without_s": without,
            "with_s": with_patch,
            "time_ratio": with_patch / without,
            "alone_s": alone,
            "left_over": median((b - a - c) / a for a, b, c in turns),
            "flop_without": work[0],
            "flop_added": work[1] - work[0],
            "flop_ratio": work[1] / work[0],
        }

    def _call(self, patcher: Any, rows: int) -> Tensor:
        """One call of the model by the host, wrappers of the patcher included."""
        x, lr = (latent.expand(rows, -1, -1, -1) for latent in self._latents)
        self._model.current_patcher = patcher
        options = {"wrappers": patcher.wrappers, "cond_or_uncond": list(range(rows))}
        sigma = torch.full((rows,), SIGMA, device=x.device)
        context = self._context.expand(rows, -1, -1)
        conds = {LR_LATENT: lr} if patcher is self._patched else {}
        return self._model.apply_model(x, sigma, c_crossattn=context, transformer_options=options, **conds)

    def _alone(self, rows: int) -> None:
        """Encoder and SFT layers on maps of the sizes that they meet in a call; one latent whatever the rows."""
        latent = self._latents[1]
        timesteps = torch.full((1,), 500.0, device=latent.device)
        maps = self._parts.encoder(latent, timesteps)
        chosen = None if rows == 1 else torch.zeros(rows, dtype=torch.long, device=latent.device)
        modulations = self._parts.modulations()
        for placed in residual_blocks(self._model.diffusion_model):
            size = maps[placed.level].shape[2:]
            h = latent.new_ones(rows, placed.block.out_channels, *size)
            modulations[placed.name](h, maps[placed.level], chosen)


def _parts(unet: Any) -> StructParts:
    shapes = tuple((p.name, SpadeShape(p.block.out_channels, HIDDEN, FEATURES)) for p in residual_blocks(unet))
    config = StructPartsConfig(encoder_config(PUBLISHED_ENCODER), shapes)
    parts = StructParts(config, operations=OPERATIONS, attention=host_attention)
    randomise(parts)
    return parts
