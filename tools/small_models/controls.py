"""Small ControlNet files for the small checkpoint: one in TASR's layout with adapters, and an ordinary one with a hint encoder.

Nothing in them is learned. They begin as DiffBIR does (section 3.3): the checkpoint's encoder, copied, with more inputs; what
would be zero at the start of a training is random here, so that hints and gates can be seen to matter. About 30 MB each.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ..env.client import Prompt
from .checkpoints import SD2, Kind, small_checkpoint
from .random_tensors import normal, random_tensor

SMALL_TASR = "small_tasr.pth"
SMALL_TILE = "small_tile.safetensors"
UNET = "model.diffusion_model."
WIDTH = 320
DECODER_BLOCKS = 4
HINT_LAYERS = ((3, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, WIDTH))
RESIDUAL = 0.3
"""Size of the residuals against the features that they are made of."""


def put_small_controls(base: Path) -> None:
    """Writes both files into a host's base directory."""
    latent = base / "models" / "adaptivesr" / "controlnet" / SMALL_TASR
    ordinary = base / "models" / "controlnet" / SMALL_TILE
    for path in (latent, ordinary):
        path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(small_tasr_file(), latent)
    save_file(small_tile_controlnet(), ordinary)


def with_small_controls(prompt: Prompt) -> Prompt:
    """A copy of an API workflow that loads these files."""
    changed = copy.deepcopy(prompt)
    for node in changed.values():
        if node["class_type"] == "AdaptiveSRLoadTimeAwareControlNet":
            node["inputs"].update(control_name=SMALL_TASR)
        elif node["class_type"] == "ControlNetLoader":
            node["inputs"].update(control_net_name=SMALL_TILE)
    return changed


def small_tasr_file(seed: int = 0) -> dict[str, Any]:
    """What torch.save writes for TASR: ControlNet, lite adapters, counters."""
    return {
        "checkpoint_controlnet": small_latent_controlnet(seed),
        "checkpoint_adapter": small_adapters(seed),
        "epoch": 1,
        "global_step": 2,
    }


def small_latent_controlnet(seed: int = 0) -> dict[str, Tensor]:
    """Eight input channels, no hint encoder; float16."""
    generator = torch.Generator().manual_seed(seed + 1)
    weights = _encoder(seed, generator)
    first = weights["input_blocks.0.0.weight"].float()
    weights["input_blocks.0.0.weight"] = torch.cat(
        [first, random_tensor("weight", first.shape, normal(generator))], dim=1
    ).half()
    return weights


def small_tile_controlnet(seed: int = 0, kind: Kind = SD2) -> dict[str, Tensor]:
    """Four input channels and a hint encoder, as the host's loader reads it; float16."""
    generator = torch.Generator().manual_seed(seed + 2)
    weights = _encoder(seed, generator, kind)
    for number, (inputs, outputs) in enumerate(HINT_LAYERS):
        weights[f"input_hint_block.{2 * number}.weight"] = random_tensor(
            "weight", (outputs, inputs, 3, 3), normal(generator)
        ).half()
        weights[f"input_hint_block.{2 * number}.bias"] = torch.zeros(outputs).half()
    return weights


def small_adapters(seed: int = 0, design: Any = "lite") -> dict[str, Tensor]:
    """Adapters for the small checkpoint's five sites, gates scattered about 1; float16."""
    pairs = [(WIDTH, WIDTH)] * DECODER_BLOCKS
    network = TimeAwareAdapters(TimeAwareAdaptersConfig.for_channels(design, WIDTH, pairs))
    generator = torch.Generator().manual_seed(seed + 3)
    network.reset_parameters(generator)
    with torch.no_grad():
        for site in range(DECODER_BLOCKS + 1):
            last = network.site(site).last
            for parameter in last.parameters():
                parameter.normal_(0, 3 * parameter[0].numel() ** -0.5, generator=generator)
    return {key: value.half() for key, value in network.state_dict().items()}


def _encoder(seed: int, generator: torch.Generator, kind: Kind = SD2) -> dict[str, Tensor]:
    """The checkpoint's encoder and middle block, with outputs for every skip and the middle block."""
    parts = ("time_embed.", "input_blocks.", "middle_block.")
    checkpoint = small_checkpoint(seed, kind)
    unet = {key.removeprefix(UNET): value for key, value in checkpoint.items() if key.startswith(UNET)}
    weights = {key: value for key, value in unet.items() if key.startswith(parts)}
    for name in [*(f"zero_convs.{number}.0" for number in range(DECODER_BLOCKS)), "middle_block_out.0"]:
        weights[f"{name}.weight"] = (RESIDUAL * random_tensor("weight", (WIDTH, WIDTH, 1, 1), normal(generator))).half()
        weights[f"{name}.bias"] = torch.zeros(WIDTH).half()
    return weights
