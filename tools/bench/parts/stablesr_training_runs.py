"""Runs of `bench stablesr-training`; imported once the host can be."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from ....host.conditioning import empty_prompt
from ....host.training.run import ends_of
from ....host.training.stablesr import fresh_parts
from ....host.training.stablesr_base import GuidedNetworks, guided_base
from ....imaging.degradation.presets import PRESETS
from ....sampling.noise import generator_for
from ....training.data import DegradedPairs
from ....training.runs import train
from ....training.stablesr.config import SMALL, StableSRConfig
from ....training.stablesr.run import StableSRRun, stablesr_state
from ....training.stablesr.samples import sampled
from ....training.synthetic import synthetic_image
from ...train.tasr_recipe import load_base
from .measures import luma
from .spectrum import spectrum_distance

PICTURES, HELD_OUT, SIDE, CHAIN, LOW = 16, 1000, 64, 20, 1 / 32


def pictures(first: int, count: int) -> list[Tensor]:
    """Generated pictures (3, H, W) in [0, 1]."""
    made = (torch.from_numpy(synthetic_image(0, first + index).copy()) for index in range(count))
    return [picture.permute(2, 0, 1).float() / 255 for picture in made]


def all_runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Losses, PSNR and spectrum distance of (LR, without, with) for every seed."""
    model, _, vae = load_base(None)
    base = guided_base(model, vae, empty_prompt(model)[0][0], torch.float32, frugal=False)
    train_on = DegradedPairs(pictures(0, PICTURES), options.crop, PRESETS["stablesr"], scale=1)
    test_on = DegradedPairs(pictures(HELD_OUT, options.held_out), SIDE, PRESETS["stablesr"], scale=1)
    pair = test_on.batch(generator_for(1), options.held_out)
    return [one_run(base, train_on, pair, options, seed) for seed in range(options.seeds)]


def one_run(
    base: GuidedNetworks, source: DegradedPairs, pair: tuple[Tensor, Tensor], options: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """One training and its two restorations from the same noise."""
    config = StableSRConfig(batch=1, lr=options.lr, seed=seed, sharpened=False)
    parts = fresh_parts(base, source, config, SMALL)
    run = StableSRRun(stablesr_state(config, parts), config, base, source)
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
