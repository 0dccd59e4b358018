"""Start steps, noise levels and start noise of super-resolution by diffusion inversion (Yue et al. 2025, InvSR, sections 3.2-3.3).

The published lists count steps tau from 1; networks and tables are given the index tau - 1. Diffusion starts at
z = z_lr + sigma n with the predicted noise n, and goes on without further noise, which is the Euler sampler.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .noise import gaussian_field

TRAINED_STARTS = (250, 200, 150, 100)
"""Start steps that the published predictor has seen in training; files of the pack's own training name theirs."""
LONGEST_START = TRAINED_STARTS[0]
LAST_STEP = 1000
PRESETS = {1: (200,), 2: (200, 100), 3: (200, 100, 50), 4: (200, 150, 100, 50), 5: (250, 200, 150, 100, 50)}
"""The published lists by number of steps."""


def preset_taus(steps: int, starts: Sequence[int] = TRAINED_STARTS) -> tuple[int, ...]:
    """Steps tau, falling, for a number of steps: the published list up to 5, evenly spaced from 250 beyond.

    A predictor that was not trained on the list's first step gets steps evenly spaced from the largest that it was trained on.
    """
    longest = max(starts)
    if not 1 <= steps <= longest:
        raise ValueError(f"Got {steps} steps: expected 1 to {longest}, one for each noise level below the start.")
    if steps in PRESETS and PRESETS[steps][0] in starts:
        return PRESETS[steps]
    # In float64 and in this order, since rounding decides: 30 steps hold 124, where exact numbers give 125.
    stride = -float(longest) / steps
    return tuple(math.floor(k * stride + longest) for k in range(steps))


def parse_starts(text: str) -> tuple[int, ...]:
    """Start steps as files and users write them, such as "250, 200": whole numbers of 1 to 1000. ValueError for others."""
    words = [word for word in re.split(r"[\s,;]+", text.strip()) if word]
    if not words or not all(re.fullmatch(r"\d{1,4}", word) and 1 <= int(word) <= LAST_STEP for word in words):
        raise ValueError(
            f"Got the start steps '{text[:80]}': expected whole numbers of 1 to {LAST_STEP}, separated by commas, such as 250, 200."
        )
    return tuple(int(word) for word in words)


def parse_taus(text: str, starts: Sequence[int] = TRAINED_STARTS) -> tuple[int, ...]:
    """A list that a user wrote, such as "200, 100, 50". Raises ValueError with a sentence for one that cannot be run.

    Only the first step must be a trained one: the predictor is asked for the start alone.
    """
    trained = ", ".join(map(str, starts))
    words = [word for word in re.split(r"[\s,;]+", text.strip()) if word]
    if not words or not all(re.fullmatch(r"\d{1,4}", word) for word in words):
        raise ValueError(
            f"Got the step list '{text}': expected whole numbers that fall, separated by commas, such as 200, 100, 50; "
            f"the first is one of {trained}."
        )
    taus = tuple(int(word) for word in words)
    if taus[-1] < 1 or any(high <= low for high, low in pairwise(taus)):
        raise ValueError(f"Got the step list '{text}': expected numbers of 1 or more, each below the one before it.")
    if taus[0] not in starts:
        raise ValueError(
            f"Got a step list that starts at {taus[0]}: expected one of {trained}, the start steps that the noise predictor "
            "was trained on; the steps after it are free."
        )
    return taus


def choose_taus(steps: int, text: str, starts: Sequence[int] = TRAINED_STARTS) -> tuple[int, ...]:
    """The user's list where there is one, else the list of that many steps; starts are those the predictor was trained on."""
    return parse_taus(text, starts) if text.strip() else preset_taus(steps, starts)


def indices(taus: Sequence[int]) -> tuple[int, ...]:
    """The indices tau - 1 that networks and tables are given."""
    return tuple(tau - 1 for tau in taus)


def inversion_sigmas(taus: Sequence[int], table: Tensor) -> Tensor:
    """Noise levels (steps + 1,), falling to 0, of a table (T,) that rises with the index."""
    levels = table[list(indices(taus))]
    return torch.cat([levels, levels.new_zeros(1)])


@dataclass(frozen=True)
class StartNoise:
    """The predicted distribution of the start noise on a canvas: mean and deviation, (B, C, h, w) float32 each."""

    mean: Tensor
    std: Tensor

    def draw(self, seed: int, strength: float = 1.0) -> Tensor:
        """strength (mean + std n), with one standard normal field n of the seed for the whole canvas and every image.

        Tiles blend their means and deviations, and not their samples: averaged samples would lose variance where tiles meet.
        """
        field = gaussian_field(self.mean.shape[1:], seed=seed, device=self.mean.device)
        return (self.mean + self.std * field) * strength
