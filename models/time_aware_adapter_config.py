"""Sizes of time-aware adapters, read off a state dict or derived from the network that they steer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .state_dict import StateDict, UnsupportedModelError, require, sequence_length

Design = Literal["full", "lite", "paper"]
DESIGNS: tuple[Design, ...] = ("full", "lite", "paper")
LITE_WIDTH, LITE_STEP = 128, 32
ALPHA_MAX: dict[Design, float] = {"full": 2.0, "lite": 2.0, "paper": 1.0}
"""Upper end of the gate: 2 in the published code, whose start is then 1 everywhere; 1 in the paper (fig. 2b)."""
INPUT_KEYS: dict[Design, str] = {"full": "in_layers.2.weight", "lite": "proj.weight", "paper": "conv1.weight"}
EMB_KEYS: dict[Design, str] = {"full": "emb_layers.1.weight", "lite": "emb.weight", "paper": "emb.weight"}


@dataclass(frozen=True)
class TimeAwareAdaptersConfig:
    """One adapter per site: site 0 is the middle block's end, site i + 1 the skip of decoder block i."""

    design: Design
    inputs: tuple[int, ...]
    """Channels that enter each adapter, after concatenation."""
    emb_channels: int = 1280
    """Width of the UNet's time embedding."""
    width: int = LITE_WIDTH
    """Inner channels of the lite design; the others take a quarter of their input."""
    alpha_max: float = 2.0
    """The gate lies in (0, alpha_max)."""

    @classmethod
    def for_channels(
        cls,
        design: Design,
        middle: int,
        decoder: Sequence[tuple[int, int]],
        *,
        emb_channels: int = 1280,
        width: int = LITE_WIDTH,
        alpha_max: float | None = None,
    ) -> TimeAwareAdaptersConfig:
        """From the channels of the middle block and of (decoder feature, skip) at each decoder block, deepest first."""
        if design not in DESIGNS:
            raise ValueError(f"Got the adapter design {design!r}: expected one of {', '.join(DESIGNS)}.")
        inputs = (input_channels(design, middle, 0), *(input_channels(design, h, s) for h, s in decoder))
        top = ALPHA_MAX[design] if alpha_max is None else alpha_max
        return cls(design, inputs, emb_channels, width if design == "lite" else 0, top)

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> TimeAwareAdaptersConfig:
        """From the keys and shapes of a canonical state dict, whose keys start with the site's number."""
        design = _design(sd)
        count = sequence_length(sd, f"{{}}.0.{INPUT_KEYS[design]}")
        weights = [require(sd, f"{site}.0.{INPUT_KEYS[design]}") for site in range(max(1, count))]
        emb = require(sd, f"0.0.{EMB_KEYS[design]}")
        if any(weight.ndim != 4 for weight in weights) or emb.ndim != 2:
            raise UnsupportedModelError(
                "Not time-aware adapters: convolutions need weights of four dimensions and the embedding's needs two; "
                "the file is damaged or of another kind."
            )
        width = weights[0].shape[0] if design == "lite" else 0
        top = float(sd["alpha_max"]) if "alpha_max" in sd else 2.0
        return cls(design, tuple(weight.shape[1] for weight in weights), emb.shape[1], width, top)

    @property
    def label(self) -> str:
        """For users."""
        return f"time-aware adapters ({self.design}, {len(self.inputs)} sites, alpha up to {self.alpha_max:g})"


def lite_width(model_channels: int) -> int:
    """Inner channels of lite adapters beside a UNet of this width: 128 at Stable Diffusion's 320, in proportion at others."""
    return max(LITE_STEP, round(LITE_WIDTH * model_channels / 320 / LITE_STEP) * LITE_STEP)


def input_channels(design: Design, hidden: int, skip: int) -> int:
    """Channels after concatenation; skip is 0 at the middle block, whose residual is as wide as the feature."""
    residual = skip or hidden
    if design == "full":  # h, s + r, h, s, r; the middle block: h + r, h, r
        return 2 * (hidden + skip) + skip if skip else 3 * hidden
    if design == "lite":  # h, s, r; the middle block: h, r
        return hidden + skip + residual
    return hidden + residual  # h, r


SINGLE_MAPS = 8
"""Channels that are left for maps of one channel: the gate on its way to its range."""


def activation_bytes(config: TimeAwareAdaptersConfig, height: int, width: int, dtype_size: int) -> int:
    """Upper estimate of one site's activations for one latent of (height, width) cells; sites run one after another.

    Decoder blocks stand in threes per level, as in Stable Diffusion, the last three at the latent's size.
    """
    largest = 0.0
    for site, channels in enumerate(config.inputs):
        level = 0 if site == 0 else (site - 1) // 3
        cells = height * width / 4.0 ** (max(0, (len(config.inputs) - 2) // 3) - level)
        inner = config.width or channels // 4
        # A normalisation holds its input and two copies in float32, a modulation four maps; the concatenation stays all along.
        normalised, modulated = dtype_size + (4 if dtype_size == 4 else 8), 4 * dtype_size
        inside = channels * dtype_size + inner * max(normalised, modulated)
        whole = channels * max(normalised, 3 * dtype_size) if config.design == "full" else 0
        largest = max(largest, cells * (max(inside, whole) + SINGLE_MAPS * dtype_size))
    return int(largest)


def _design(sd: StateDict) -> Design:
    for design, key in INPUT_KEYS.items():
        if f"0.0.{key}" in sd:
            return design
    raise UnsupportedModelError(
        f"Not time-aware adapters: none of {', '.join(f'0.0.{key}' for key in INPUT_KEYS.values())} is present; "
        "expected the adapter part of a TASR file, or a file that Train Time-Aware Adapter has written."
    )
