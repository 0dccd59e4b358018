"""What Distill One-Step SR trains on and tries out, and its settings from the node's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...imaging.degradation.presets import degrade
from ...models.pixel_denoiser import PixelDenoiser
from ...models.residual_unet_config import ResidualUNetConfig
from ...sampling.noise import generator_for
from ...training.config import OWN_SETTINGS, START_ANEW
from ...training.data import DegradedPairs
from ...training.image_folder import grown_to
from ...training.synthetic import synthetic_image
from ...training.tad_sr.config import PAPER, DistillOptions, DistillSettings, paper_settings, variant
from ..images import split_image
from ..resshift.loading import OneStepSR
from .files import pictures_of as given_pictures
from .run import preset_inputs

TRIED = 4
"""Pictures on the sample sheet."""


def settings_of(method: str, teacher: OneStepSR, inputs: Mapping[str, Any]) -> DistillSettings:
    """The settings that the node's inputs mean; what is not given has its default.

    Weights are for latents of deviation 1, as the published models' are. The embedded family's residuals have another, by which
    the terms that are squares or lengths of latents are divided.
    """
    network = checked(teacher).network
    unit = 1.0 / float(network.residual_std) if isinstance(network, PixelDenoiser) else 1.0
    given = preset_inputs(DistillSettings, presets_of(teacher), inputs.get("settings", OWN_SETTINGS), inputs)
    chosen = variant(method, replace(given, score_weight=unit * given.score_weight, fidelity=unit * given.fidelity))
    squares = {name: unit**2 * getattr(chosen, name) for name in ("distill", "inverse", "cycle", "resshift")}
    return replace(chosen, **squares)


def options_of(teacher: OneStepSR, steps: int, inputs: Mapping[str, Any]) -> DistillOptions:
    """What the node's inputs tell a run beyond its settings. The paper's number of steps is a fresh run's."""
    name, presets = inputs.get("settings", OWN_SETTINGS), presets_of(teacher)
    if inputs.get("resume", START_ANEW) != START_ANEW:
        presets = {key: {**preset, "steps": steps} for key, preset in presets.items()}
    return preset_inputs(DistillOptions, presets, name, inputs, steps=steps)


def presets_of(teacher: OneStepSR) -> dict[str, Mapping[str, Any]]:
    """Settings by name for this kind of teacher."""
    config = checked(teacher).network.config
    channels = config.latent_channels if isinstance(config, ResidualUNetConfig) else 3
    return {PAPER: paper_settings(channels)}


def checked(teacher: Any) -> OneStepSR:
    """ValueError for what is not a ONE_STEP_SR."""
    if not isinstance(teacher, OneStepSR):
        raise ValueError(f"teacher is a {type(teacher).__name__}: expected ONE_STEP_SR from Load One-Step SR.")
    return teacher


def pictures_of(folder: str, image: Tensor | None, generated: int, seed: int) -> Sequence[Path | Tensor]:
    """Files of a folder, the pictures of an IMAGE, or generated ones; ValueError where there is none of them or more than one."""
    given = [bool(folder.strip()), image is not None, generated > 0]
    if sum(given) != 1:
        raise ValueError(
            f"Got {sum(given)} sources of pictures: expected one; write the path of a folder, or connect images, or set "
            "generated_pictures above 0, and leave the others empty."
        )
    if not generated:
        return given_pictures(folder, image)
    made = (torch.from_numpy(synthetic_image(seed, index)) for index in range(generated))
    return [picture.permute(2, 0, 1).float() / 255 for picture in made]


def trial_pair(image: Tensor | None, data: DegradedPairs, seed: int) -> tuple[Tensor, Tensor]:
    """HR and LR in [-1, 1] that are tried out: from the middle of an IMAGE's pictures, else crops of the training pictures."""
    generator = generator_for(seed, -2)
    if image is None:
        hr, lr = data.batch(generator, TRIED)
        return hr * 2 - 1, lr * 2 - 1
    squares = [_middle(picture, data.side) for picture in split_image(image, "test_images")[0].cpu().clone()[:TRIED]]
    hr = torch.stack(squares)
    return hr * 2 - 1, degrade(hr, data.preset, generator, data.scale) * 2 - 1


def _middle(picture: Tensor, side: int) -> Tensor:
    """The square (3, side, side) in the middle; smaller pictures are enlarged first."""
    picture = grown_to(picture, side)
    top, left = ((length - side) // 2 for length in picture.shape[-2:])
    return picture[:, top : top + side, left : left + side]
