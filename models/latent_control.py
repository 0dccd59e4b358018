"""ControlNets that read a latent beside the noisy one (DiffBIR, TASR): their files, and their sizes read off the keys.

The networks themselves are the host's (`host.networks`): the encoder and middle block of a Stable Diffusion UNet whose first
convolution takes eight channels, [z_t, z_lr], and that has no hint encoder (DiffBIR, section 3.3; TASR, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from .state_dict import StateDict, UnsupportedModelError, canonicalize, require, sequence_length, unwrap

EMBEDDED_CHANNELS = 48
LATENT_CHANNELS = (4, EMBEDDED_CHANNELS)
"""Of latents that are known: Stable Diffusion's, and the embedded base's."""
NESTED: dict[str, tuple[str, ...]] = {
    "control": ("checkpoint_controlnet", "checkpoint"),
    "adapters": ("checkpoint_adapter",),
}
"""Dictionaries inside a TASR file: of stage II (first names) and of stage I."""
PREFIXES: dict[str, tuple[str, ...]] = {
    "control": ("control_model.", "checkpoint_controlnet."),
    "adapters": ("checkpoint_adapter.",),
}
"""Prefixes of flat files: DiffBIR's first full checkpoint, and a TASR file as .safetensors."""
BASES = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}
"""Base models by the width of their text context."""


@dataclass(frozen=True)
class ControlFile:
    """The two parts that a file may hold, in canonical keys."""

    control: StateDict | None
    adapters: StateDict | None


def split_control_file(contents: Mapping[str, object]) -> ControlFile:
    """The parts of a ControlNet or adapter file in any published layout; what else it holds is left out.

    Raises UnsupportedModelError if there are no tensors.
    """
    contents = unwrap(contents)
    nested = {part: _nested(contents, names) for part, names in NESTED.items()}
    if any(nested.values()):
        return ControlFile(**nested)
    flat = canonicalize(contents)
    parts = {part: _below(flat, prefixes) for part, prefixes in PREFIXES.items()}
    if any(parts.values()):
        return ControlFile(**parts)
    return ControlFile(None, flat) if any(key.startswith("0.0.") for key in flat) else ControlFile(flat, None)


def join_control_file(control: StateDict | None, adapters: StateDict | None) -> StateDict:
    """A flat state dict of both parts, as `split_control_file` reads it back."""
    parts = (("checkpoint_controlnet.", control), ("checkpoint_adapter.", adapters))
    return {f"{prefix}{key}": value for prefix, part in parts for key, value in (part or {}).items()}


def _nested(contents: Mapping[str, object], names: tuple[str, ...]) -> StateDict | None:
    for name in names:
        inner = contents.get(name)
        if isinstance(inner, Mapping):
            return canonicalize(cast("Mapping[str, object]", inner))
    return None


def _below(flat: StateDict, prefixes: tuple[str, ...]) -> StateDict | None:
    for prefix in prefixes:
        part = {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}
        if part:
            return part
    return None


@dataclass(frozen=True)
class LatentControlConfig:
    """Sizes of a ControlNet whose first convolution takes two latents."""

    model_channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: tuple[int, ...]
    transformer_depth: tuple[int, ...]
    """For every residual block of the encoder."""
    transformer_depth_middle: int
    """-1: the middle block is a single residual block."""
    context_dim: int
    linear_projections: bool
    latent_channels: int = LATENT_CHANNELS[0]
    num_head_channels: int = 64
    """Not told by keys: 64 in SD 2.x and SDXL; SD 1.x has 8 heads of any width instead."""

    @classmethod
    def from_state_dict(cls, sd: StateDict) -> LatentControlConfig:
        """From keys and shapes; UnsupportedModelError names what is missing or of another kind."""
        first = require(sd, "input_blocks.0.0.weight")
        _check_inputs(sd, first.shape[1])
        require(sd, "middle_block_out.0.weight")
        levels, depths = _levels(sd)
        projection = next((sd[key] for key in sd if key.endswith(".1.proj_in.weight")), None)
        context = next((sd[key] for key in sd if key.endswith(".transformer_blocks.0.attn2.to_k.weight")), None)
        if projection is None or context is None:
            raise UnsupportedModelError(
                "The ControlNet has no transformer, so its text width cannot be told; expected one for Stable Diffusion 2.x."
            )
        middle = sequence_length(sd, "middle_block.1.transformer_blocks.{}.norm1.weight")
        return cls(
            first.shape[0],
            tuple(width // first.shape[0] for width, _ in levels),
            tuple(blocks for _, blocks in levels),
            depths,
            middle or -1,
            context.shape[1],
            projection.ndim == 2,
            first.shape[1] // 2,
        )

    @property
    def residuals(self) -> int:
        """Residuals for skip connections; one more goes to the middle block."""
        return 1 + sum(self.num_res_blocks) + len(self.channel_mult) - 1

    @property
    def base(self) -> str:
        """The base model that it was made for."""
        if self.latent_channels == EMBEDDED_CHANNELS:
            return "the embedded base"
        return BASES.get(self.context_dim, f"a model with text of width {self.context_dim}")

    @property
    def label(self) -> str:
        """For users."""
        return f"DiffBIR-type ControlNet for {self.base} ({self.residuals} + 1 residuals)"

    def arguments(self) -> dict[str, Any]:
        """What the host's networks take."""
        heads = {"num_head_channels": self.num_head_channels} if self.context_dim != 768 else {"num_heads": 8}
        return {
            "image_size": 32,
            "in_channels": 2 * self.latent_channels,
            "model_channels": self.model_channels,
            "num_res_blocks": list(self.num_res_blocks),
            "channel_mult": list(self.channel_mult),
            "transformer_depth": list(self.transformer_depth),
            "transformer_depth_middle": self.transformer_depth_middle,
            "context_dim": self.context_dim,
            "use_linear_in_transformer": self.linear_projections,
            "use_spatial_transformer": True,
            "legacy": False,
            **heads,
        }


def _check_inputs(sd: StateDict, channels: int) -> None:
    if "input_hint_block.0.weight" in sd:
        raise UnsupportedModelError(
            "This is an ordinary ControlNet with a hint encoder: expected one of the DiffBIR kind, which reads the latent of the "
            "picture; load it with ComfyUI's own Load ControlNet Model, and use the training-free schedule."
        )
    if channels not in [2 * known for known in LATENT_CHANNELS]:
        raise UnsupportedModelError(
            f"The ControlNet takes {channels} input channels: expected {2 * LATENT_CHANNELS[0]}, the noisy latent and the LR latent; "
            "choose a DiffBIR (v1, v2, v2.1) or TASR file."
        )
    if "label_emb.0.0.weight" in sd:
        raise UnsupportedModelError(
            "The ControlNet has a label embedding as SDXL has: expected one for Stable Diffusion 2.x (DiffBIR, TASR)."
        )


def _levels(sd: StateDict) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """(channels, residual blocks) of every level, and the transformer depth behind every residual block."""
    count = 1 + sequence_length(sd, "zero_convs.{}.0.weight") - 1
    ends = [0, *(i for i in range(1, count) if f"input_blocks.{i}.0.op.weight" in sd), count]
    levels: list[tuple[int, int]] = []
    depths: list[int] = []
    for start, end in pairwise(ends):
        blocks = range(start + 1, end)
        widths = [require(sd, f"input_blocks.{block}.0.out_layers.3.weight").shape[0] for block in blocks]
        if not widths:
            raise UnsupportedModelError("A level of the ControlNet has no residual block; the file is damaged.")
        depths += [sequence_length(sd, f"input_blocks.{i}.1.transformer_blocks.{{}}.norm1.weight") for i in blocks]
        levels.append((widths[0], len(widths)))
    return levels, tuple(depths)
