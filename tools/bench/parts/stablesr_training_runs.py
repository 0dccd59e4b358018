"""Runs of `bench stablesr-training`; imported once the host can be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....host.conditioning import empty_prompt
from ....host.latent_base import load_latent_base
from ....host.regions.events import RegionDisplay
from ....host.stablesr.loading import loaded_from_file
from ....host.stablesr.upscale import StableSRParts, StableSRSettings, upscale_rgb
from ....host.training.run import ends_of
from ....host.training.stablesr import fresh_parts
from ....host.training.stablesr_base import GuidedNetworks, guided_base
from ....imaging.color import ColorFix
from ....imaging.degradation.presets import PRESETS
from ....sampling.noise import generator_for
from ....training.data import DegradedPairs
from ....training.runs import train
from ....training.stablesr.config import SMALL, StableSRConfig
from ....training.stablesr.losses import noised
from ....training.stablesr.run import StableSRRun, stablesr_state
from ....training.stablesr.samples import sampled
from ....training.synthetic import synthetic_image
from ...train.tasr_recipe import load_base
from .condition_strength import strength, told_one_time
from .measures import luma
from .spectrum import spectrum_distance

PICTURES, HELD_OUT, SIDE, CHAIN, LOW = 16, 1000, 64, 20, 1 / 32


def pictures(first: int, count: int) -> list[Tensor]:
    """Generated pictures (3, H, W) in [0, 1]."""
    made = (torch.from_numpy(synthetic_image(0, first + index).copy()) for index in range(count))
    return [picture.permute(2, 0, 1).float() / 255 for picture in made]


def all_runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Losses, PSNR and spectrum distance of (LR, without, with) for every seed."""
    base, source, pair = material(options)
    return [one_run(base, source, pair, options, seed) for seed in range(options.seeds)]


def material(options: argparse.Namespace) -> tuple[GuidedNetworks, DegradedPairs, tuple[Tensor, Tensor]]:
    """The small base, what is trained on, and a batch (targets, LR pictures) that is not."""
    model, _, vae = load_base(None)
    base = guided_base(model, vae, empty_prompt(model)[0][0], torch.float32, frugal=False)
    train_on = DegradedPairs(pictures(0, PICTURES), options.crop, PRESETS["stablesr"], scale=1)
    test_on = DegradedPairs(pictures(HELD_OUT, options.held_out), SIDE, PRESETS["stablesr"], scale=1)
    return base, train_on, test_on.batch(generator_for(1), options.held_out)


def fresh_run(base: GuidedNetworks, source: DegradedPairs, options: argparse.Namespace, seed: int) -> StableSRRun:
    """A run at step 0."""
    config = StableSRConfig(batch=1, lr=options.lr, seed=seed, sharpened=False)
    return StableSRRun(stablesr_state(config, fresh_parts(base, source, config, SMALL)), config, base, source)


def one_run(
    base: GuidedNetworks, source: DegradedPairs, pair: tuple[Tensor, Tensor], options: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """One training and its two restorations from the same noise."""
    run = fresh_run(base, source, options, seed)
    train(run, options.steps)
    target, low = pair
    z_lr = base.encode(low)
    found = [low]
    for chosen in (None, run.parts):
        with torch.no_grad():
            found.append(base.decode(sampled(base, chosen, z_lr, CHAIN, generator_for(seed, 2))).clamp(0, 1))
    errors = [(one - target).square().flatten(1).mean(1) for one in found]
    distances = [spectrum_distance(luma(one), luma(target), LOW) for one in found]
    return {
        "seed": seed,
        "psnr": [float((-10 * error.log10()).mean()) for error in errors],
        "spectrum": [float(distance.mean()) for distance in distances],
        "loss": ends_of(run.log)["denoise"],
    }


def strengths(options: argparse.Namespace, times: list[int]) -> list[dict[str, list[float]]]:
    """Cosines of branches before and after SFT at each timestep, for every seed: fresh, trained, and told one time (StableSR, fig. 3)."""
    base, source, (target, low) = material(options)
    z_0, z_lr = base.encode(target), base.encode(low)
    found: list[dict[str, list[float]]] = []
    for seed in range(options.seeds):
        run = fresh_run(base, source, options, seed)
        noise = torch.randn(z_0.shape, generator=generator_for(seed, 3)).to(z_0)

        def call(t: int, run: StableSRRun = run, noise: Tensor = noise) -> None:
            at = torch.full((len(z_0),), t, device=z_0.device)
            base.predict(run.parts, noised(z_0, at, noise), at, z_lr)

        layers = run.parts.modulations()
        fresh = strength(layers, call, times)
        train(run, options.steps)
        trained = strength(layers, call, times)
        with told_one_time(run.parts.encoder, 500):
            found.append({"fresh": fresh, "trained": trained, "told 500": strength(layers, call, times)})
    return found


def restored(
    parts_file: Path, pictures: Sequence[Tensor], steps: Sequence[int], seeds: int
) -> dict[int, list[list[Tensor]]]:
    """On the embedded base, by number of steps, for each LR picture (1, 3, h, w) in [0, 1]: its x4 results of every seed.

    Squares in one region, DDPM, wavelet colour fix.
    """
    model, vae = load_latent_base()
    prompt, parts = empty_prompt(model), loaded_from_file(str(parts_file), parts_file.name)
    whole = StableSRParts(model, prompt, prompt, parts, vae)

    def result(low: Tensor, count: int, seed: int) -> Tensor:
        side, color = 4 * low.shape[2], ColorFix.WAVELET
        settings = StableSRSettings("paper, 200 steps", seed=seed, steps=count, color=color, tile_px=side)
        return upscale_rgb(whole, low, settings, RegionDisplay(None))[0].clamp(0, 1)

    with torch.inference_mode():
        return {count: [[result(low, count, seed) for seed in range(seeds)] for low in pictures] for count in steps}
