"""What the keys and shapes of a ResShift-family denoiser say about it (ResShift, SinSR, TAD-SR)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .state_dict import StateDict, UnsupportedModelError, require, sequence_length
from .swin import SwinConfig

PUBLISHED_IMAGE_SIZE = 64  # cannot be deduced from parameters, only from the (optional) attention mask buffers
CONDITION_WIDTH = 16  # channels of the first convolution of the condition extractor
SWIN_KEY = ".1.patch_embed.proj.weight"
TABLE_KEY = ".1.blocks.0.attn.relative_position_bias_table"


@dataclass(frozen=True)
class ResidualUNetConfig:
    """Hyper-parameters of ResidualUNet; per-level tuples run from the finest map to the coarsest."""

    latent_channels: int
    model_channels: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    has_swin: tuple[bool, ...]
    swin: SwinConfig
    condition_stages: int
    has_mask: bool
    image_size: int = PUBLISHED_IMAGE_SIZE
    """Side of the latent in training; it decides which levels never shift their windows."""

    @classmethod
    def from_state_dict(cls, sd: StateDict, image_size: int | None = None) -> ResidualUNetConfig:
        """Reads a canonical state dict; image_size overrides what the buffers say (64 where they say nothing)."""
        channels, blocks, first = _levels(sd)
        stages = sequence_length(_thirds(sd), "{}")
        config = cls(
            latent_channels=require(sd, "out.2.weight").shape[0],
            model_channels=require(sd, "time_embed.0.weight").shape[0] // 4,
            channels=channels,
            blocks=blocks,
            has_swin=tuple(f"input_blocks.{i}{SWIN_KEY}" in sd for i in first),
            swin=_swin_config(sd, first),
            condition_stages=stages,
            has_mask=stages > 0 and sd["feature_extractor.0.weight"].shape[1] == 4,
            image_size=image_size or _image_size(sd, first),
        )
        config.check_first_conv(require(sd, "input_blocks.0.0.weight").shape[1])
        return config

    @property
    def in_channels(self) -> int:
        """Channels of the first convolution: the latent, then the condition."""
        return self.latent_channels + self.condition_channels

    @property
    def condition_channels(self) -> int:
        return CONDITION_WIDTH << self.condition_stages if self.condition_stages else 3

    @property
    def lq_factor(self) -> int:
        """Pixels of the LR condition per latent cell, along one side."""
        return 1 << self.condition_stages

    @property
    def size_multiple(self) -> int:
        """Both sides of the latent must be multiples of this many cells."""
        deepest = len(self.channels) - 1
        steps = [1 << deepest]
        for level, swin in enumerate(self.has_swin):
            if swin or level == deepest:  # the middle block always has a Swin layer
                steps.append(min(self.swin.window, self.resolution(level)) << level)
        return math.lcm(*steps)

    @property
    def family(self) -> str:
        """Which published task has this latent and condition: x4, x2, inpaint, face or custom."""
        facts = (self.latent_channels, self.condition_stages, self.has_mask)
        table = {(3, 0, False): "x4", (3, 1, False): "x2", (3, 2, True): "inpaint", (8, 3, False): "face"}
        return table.get(facts, "custom")

    def tap_channels(self, taps: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Widths of the maps of `ResidualUNet.features`: every downsampling's, the last level's, the middle's."""
        widths = (*self.channels, self.channels[-1])
        return tuple(widths[tap] for tap in taps) if taps else widths

    @property
    def label(self) -> str:
        """What a user should read about the network."""
        size = f"{self.model_channels} channels" if self.model_channels != 160 else "published size"
        return f"ResShift-family denoiser, {self.family} ({size})"

    def resolution(self, level: int) -> int:
        """Side of the map of a level in training, in cells of that level."""
        return self.image_size >> level

    def check_first_conv(self, found: int) -> None:
        """Refuses files whose first convolution takes something else than latent and condition."""
        if found == self.in_channels:
            return
        if self.condition_stages == 0 and found == self.in_channels + 1:
            raise UnsupportedModelError(
                f"input_blocks.0.0.weight takes {found} channels: this is a third-party RSD student, which adds a noise "
                "plane to the input and needs another sampler. Use a ResShift, SinSR or TAD-SR file "
                f"({self.in_channels} channels)."
            )
        raise UnsupportedModelError(
            f"input_blocks.0.0.weight takes {found} channels, expected {self.in_channels} ({self.latent_channels} of the "
            f"latent and {self.condition_channels} of the condition). Use an unmodified ResShift, SinSR or TAD-SR file."
        )


def activation_bytes(config: ResidualUNetConfig, h: int, w: int, dtype_size: int) -> int:
    """Upper estimate of the peak activations of one forward without gradients, for ONE latent of (h, w) cells.

    The most expensive block with the skip connections that are held around it; dtype_size is the size in bytes of one
    activation. Weights and workspaces of the convolution library are not included.
    """
    area = [h * w / 4**level for level in range(len(config.channels))]
    width = config.channels[0]
    skips, peak = [(width, 0)], 0.0

    def count(before: int, whole: int, out: int, level: int) -> float:
        held = dtype_size * sum(channels * area[at] for channels, at in skips)
        return held + area[level] * _block_bytes(config.swin, before, whole, out, dtype_size)

    for level, (out, blocks) in enumerate(zip(config.channels, config.blocks)):
        for _ in range(blocks):
            peak = max(peak, count(0, width, out, level))
            width = out
            skips.append((out, level))
        if level + 1 < len(area):
            skips.append((out, level + 1))
    for level in reversed(range(len(area))):
        for _ in range(config.blocks[level] + 1):
            whole = width + skips.pop()[0]
            peak = max(peak, count(width, whole, config.channels[level], level))
            width = config.channels[level]
    inputs = 2 * config.in_channels * area[0] * dtype_size  # the latent, its condition, and both in one
    return int(peak + inputs)


def _block_bytes(swin: SwinConfig, before: int, whole: int, out: int, size: int) -> float:
    """Per cell of a residual block with its Swin layer: what came in front (`before`), its concatenation with a skip, and the dearest of
    the normalisation in float32, the convolution, and the Swin block (window copies, q k v twice and the result, or the hidden map
    before and after GELU). Attention is taken for fused: no scores.
    """
    norm = whole * (2 * 4 if size < 4 else size)
    convolution = (2 * whole + out) * size
    transformer = (out + max(11 * swin.embed_dim, 3 * swin.embed_dim + 2 * swin.mlp_hidden)) * size
    return (before + whole) * size + max(norm, convolution, transformer)


def _thirds(sd: StateDict) -> StateDict:
    """The condition stages alone: stage s is feature_extractor.{3s}, its activation and strided conv follow."""
    prefix, suffix = "feature_extractor.", ".weight"
    numbers = [key[len(prefix) : -len(suffix)] for key in sd if key.startswith(prefix) and key.endswith(suffix)]
    found = {int(number) // 3 for number in numbers if number.isdigit()}
    return {str(stage): sd[f"{prefix}{3 * stage}{suffix}"] for stage in found}


def _levels(sd: StateDict) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Channels, residual blocks and index of the first block of each level, finest first."""
    channels: list[int] = []
    blocks: list[int] = []
    first: list[int] = []
    index, new_level = 1, True
    while True:
        if f"input_blocks.{index}.0.op.weight" in sd:
            new_level = True
        elif f"input_blocks.{index}.0.in_layers.0.weight" in sd:
            if new_level:
                channels.append(require(sd, f"input_blocks.{index}.0.out_layers.3.weight").shape[0])
                blocks.append(0)
                first.append(index)
                new_level = False
            blocks[-1] += 1
        else:
            break
        index += 1
    if new_level:
        require(sd, f"input_blocks.{index}.0.in_layers.0.weight")
    return tuple(channels), tuple(blocks), tuple(first)


def _swin_prefixes(sd: StateDict, first: tuple[int, ...]) -> list[tuple[int, str]]:
    """(level, key prefix) of the encoder's Swin layers and of the middle one, which every network has."""
    encoder = [(level, f"input_blocks.{i}") for level, i in enumerate(first) if f"input_blocks.{i}{SWIN_KEY}" in sd]
    return [*encoder, (len(first) - 1, "middle_block")]


def _window(sd: StateDict, prefix: str) -> int:
    """Side of the windows of one Swin layer: its bias table has (2w - 1)^2 rows."""
    rows = require(sd, prefix + TABLE_KEY).shape[0]
    side = math.isqrt(rows)
    if side * side != rows or side % 2 == 0:
        raise UnsupportedModelError(f"{prefix}{TABLE_KEY} has {rows} rows, expected an odd square such as 225.")
    return (side + 1) // 2


def _swin_config(sd: StateDict, first: tuple[int, ...]) -> SwinConfig:
    prefix = _swin_prefixes(sd, first)[0][1]
    depth = sequence_length(sd, prefix + ".1.blocks.{}.attn.qkv.weight")
    if depth == 0:
        require(sd, f"{prefix}.1.blocks.0.attn.qkv.weight")
    return SwinConfig(
        embed_dim=require(sd, prefix + SWIN_KEY).shape[0],
        depth=depth,
        heads=require(sd, prefix + TABLE_KEY).shape[1],
        window=max(_window(sd, name) for _, name in _swin_prefixes(sd, first)),
        mlp_hidden=require(sd, f"{prefix}.1.blocks.0.mlp.fc1.weight").shape[0],
    )


def _image_size(sd: StateDict, first: tuple[int, ...]) -> int:
    """Side of the training latent, from a window that had to shrink to its map or from a mask buffer."""
    layers = _swin_prefixes(sd, first)
    largest = max(_window(sd, prefix) for _, prefix in layers)
    for level, prefix in layers:
        window = _window(sd, prefix)
        mask = sd.get(f"{prefix}.1.blocks.1.attn_mask")
        if window < largest:
            return window << level
        if mask is not None and math.isqrt(mask.shape[0]) ** 2 == mask.shape[0]:
            return (window * math.isqrt(mask.shape[0])) << level
    return PUBLISHED_IMAGE_SIZE
