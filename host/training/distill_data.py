"""What Distill One-Step SR trains on and tries out, and its settings from the node's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging.degradation.presets import degrade
from ...models.pixel_denoiser import PixelDenoiser
from ...sampling.noise import generator_for
from ...training.embedded.synthetic import synthetic_image
from ...training.image_folder import image_files
from ...training.tad_sr.config import DistillSettings, variant
from ...training.tad_sr.data import DegradedPairs
from ..images import split_image
from ..resshift.loading import OneStepSR

TRIED = 4
"""Pictures on the sample sheet."""


def settings_of(method: str, teacher: OneStepSR, inputs: Mapping[str, Any]) -> DistillSettings:
    """The settings that the node's inputs mean; what is not given has its default.

    Weights are for latents of deviation 1, as the published models' are. The embedded family's residuals have another, by which
    the terms that are squares or lengths of latents are divided.
    """
    default, network = DistillSettings(), checked(teacher).network
    unit = 1.0 / float(network.residual_std) if isinstance(network, PixelDenoiser) else 1.0
    chosen = variant(
        method,
        DistillSettings(
            score_weight=unit * inputs.get("score_weight", default.score_weight),
            adversarial_weight=inputs.get("adversarial_weight", default.adversarial_weight),
            fidelity=unit * inputs.get("fidelity_weight", default.fidelity),
            energy=inputs.get("energy_weight", default.energy),
            score_form=inputs.get("score_form", default.score_form),
            teacher_steps=inputs.get("teacher_steps", default.teacher_steps),
            lr=inputs.get("learning_rate", default.lr),
            discriminator_lr=inputs.get("discriminator_learning_rate", default.discriminator_lr),
            warmup=inputs.get("warmup", default.warmup),
            ema_decay=inputs.get("ema_decay", default.ema_decay),
            batch=inputs.get("batch_size", default.batch),
            microbatch=inputs.get("microbatch", default.microbatch),
            random_times=inputs.get("random_times", default.random_times),
            seed=inputs.get("seed", default.seed),
        ),
    )
    distill = chosen.distill * unit**2 * inputs.get("distill_weight", default.distill)
    return replace(
        chosen,
        distill=distill,
        inverse=unit**2 * chosen.inverse,
        cycle=unit**2 * chosen.cycle,
        resshift=unit**2 * chosen.resshift,
    )


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
    if image is not None:
        return list(split_image(image, "images")[0].cpu().clone())
    if generated > 0:
        made = (torch.from_numpy(synthetic_image(seed, index)) for index in range(generated))
        return [picture.permute(2, 0, 1).float() / 255 for picture in made]
    return image_files(Path(folder.strip()).expanduser())


def trial_pair(image: Tensor | None, data: DegradedPairs, seed: int) -> tuple[Tensor, Tensor]:
    """HR and LR in [-1, 1] that are tried out: from the middle of an IMAGE's pictures, else crops of the training pictures."""
    generator = generator_for(seed, -2)
    if image is None:
        return data.batch(generator, TRIED)
    squares = [_middle(picture, data.side) for picture in split_image(image, "test_images")[0].cpu().clone()[:TRIED]]
    hr = torch.stack(squares)
    return hr * 2 - 1, degrade(hr, data.preset, generator, data.scale) * 2 - 1


def _middle(picture: Tensor, side: int) -> Tensor:
    """The square (3, side, side) in the middle; smaller pictures are enlarged first."""
    height, width = picture.shape[-2:]
    short = min(height, width)
    if short < side:
        size = [max(side, round(length * side / short)) for length in (height, width)]
        picture = F.interpolate(picture[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    top, left = ((length - side) // 2 for length in picture.shape[-2:])
    return picture[:, top : top + side, left : left + side]
