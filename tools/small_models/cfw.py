"""A small file in the layout of StableSR's CFW checkpoint: a KL VAE that a host takes for Stable Diffusion's, and fusion layers.

Nothing in it is learned. The encoder takes means of 8 x 8 pixels (the host fixes its width: 34 M zeros, 71 MB in float16), the
narrow decoder enlarges them smoothly and gives every colour a standard contrast, and the fusion replaces the decoder's
picture by the encoder's, so that strength 1 brings back the detail of the LR image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...models.cfw import CFW, LEVELS, PREFIX, CFWConfig, FuseConfig
from .checkpoints import LATENT_SCALE, LATENTS

SMALL_CFW = "small_cfw.safetensors"
ENCODER_WIDTH, DECODER_WIDTH = 128, 32  # the detection fixes the first
MULTIPLES = (1, 2, 4, 4)
COLORS = 3
STEADY = 64.0
"""Size of two constant channels that keep the encoder's last norm from rescaling the picture."""
CONTRAST = 0.5

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]


def put_small_cfw(base: Path, name: str = SMALL_CFW) -> Path:
    """Writes the file into a host's base directory; returns its path."""
    path = base / "models" / "adaptivesr" / "cfw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(small_cfw(), path)
    return path


def small_cfw() -> dict[str, Tensor]:
    """Every tensor of the file in float16."""
    tensors = {key: torch.zeros(shape) for key, shape in _autoencoder()}
    for key, value in tensors.items():
        if "norm" in key and key.endswith("weight"):
            value.fill_(1.0)
    _average(tensors)
    _enlarge(tensors)
    tensors |= _take_over_detail()
    return {key: value.half().contiguous() for key, value in tensors.items()}


def _layer(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _block(name: str, before: int, after: int) -> Shapes:
    yield from _layer(f"{name}.norm1", before)
    yield from _layer(f"{name}.conv1", after, before, 3, 3)
    yield from _layer(f"{name}.norm2", after)
    yield from _layer(f"{name}.conv2", after, after, 3, 3)
    if before != after:
        yield from _layer(f"{name}.nin_shortcut", after, before, 1, 1)


def _middle(name: str, width: int) -> Shapes:
    yield from _block(f"{name}.block_1", width, width)
    yield from _layer(f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from _layer(f"{name}.attn_1.{part}", width, width, 1, 1)
    yield from _block(f"{name}.block_2", width, width)


def _blocks(name: str, count: int, before: int, after: int) -> Shapes:
    for number in range(count):
        yield from _block(f"{name}.block.{number}", before if number == 0 else after, after)


def _autoencoder() -> Shapes:
    widths = [ENCODER_WIDTH * multiple for multiple in MULTIPLES]
    last = len(widths) - 1
    yield from _layer("encoder.conv_in", widths[0], COLORS, 3, 3)
    for level, width in enumerate(widths):
        yield from _blocks(f"encoder.down.{level}", 2, widths[max(0, level - 1)], width)
        if level < last:
            yield from _layer(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    yield from _middle("encoder.mid", widths[-1])
    yield from _layer("encoder.norm_out", widths[-1])
    yield from _layer("encoder.conv_out", 2 * LATENTS, widths[-1], 3, 3)
    widths = [DECODER_WIDTH * multiple for multiple in MULTIPLES]
    yield from _layer("decoder.conv_in", widths[-1], LATENTS, 3, 3)
    yield from _middle("decoder.mid", widths[-1])
    for level, width in enumerate(widths):
        yield from _blocks(f"decoder.up.{level}", 3, widths[min(last, level + 1)], width)
        if level:
            yield from _layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    yield from _layer("decoder.norm_out", widths[0])
    yield from _layer("decoder.conv_out", COLORS, widths[0], 3, 3)
    yield from _layer("quant_conv", 2 * LATENTS, 2 * LATENTS, 1, 1)
    yield from _layer("post_quant_conv", LATENTS, LATENTS, 1, 1)


def _pass(weight: Tensor, channels: Sequence[int] = range(COLORS), value: float = 1.0, into: int = 0) -> None:
    """Writes value into a convolution's centre for channel c -> into + c."""
    middle = weight.shape[-1] // 2
    for channel in channels:
        weight[into + channel, channel, middle, middle] = value


def _average(tensors: dict[str, Tensor]) -> None:
    """Colours through the encoder: halved thrice, then both signs, a norm that constants keep still, and SiLU(z) - SiLU(-z) = z."""
    _pass(tensors["encoder.conv_in.weight"])
    for level in (1, 2):
        _pass(tensors[f"encoder.down.{level}.block.0.nin_shortcut.weight"])
    for level in range(3):
        weight = tensors[f"encoder.down.{level}.downsample.conv.weight"]
        for color in range(COLORS):
            weight[color, color, :2, :2] = 0.25
            if level == 2:
                weight[COLORS + color, color, :2, :2] = -0.25
    constants = tensors["encoder.down.2.downsample.conv.bias"]
    constants[2 * COLORS], constants[2 * COLORS + 1] = STEADY, -STEADY
    group = len(constants) // 32
    deviation = STEADY * (2 / group) ** 0.5
    end = tensors["encoder.conv_out.weight"]
    for color in range(COLORS):
        for latent, share in ((color, 1.0), (COLORS, 1 / COLORS)):
            end[latent, color, 1, 1] = share * deviation / LATENT_SCALE
            end[latent, COLORS + color, 1, 1] = -share * deviation / LATENT_SCALE
    _pass(tensors["quant_conv.weight"], range(2 * LATENTS))


def _enlarge(tensors: dict[str, Tensor]) -> None:
    """Colours through the decoder: smoothed after every doubling; the last norm has one channel per group."""
    _pass(tensors["post_quant_conv.weight"], range(LATENTS))
    _pass(tensors["decoder.conv_in.weight"], value=LATENT_SCALE)
    line = torch.tensor([0.25, 0.5, 0.25])
    for level in (3, 2, 1):
        for color in range(COLORS):
            tensors[f"decoder.up.{level}.upsample.conv.weight"][color, color] = torch.outer(line, line)
    _pass(tensors["decoder.up.1.block.0.nin_shortcut.weight"])
    last = tensors["decoder.up.0.block.0.nin_shortcut.weight"]
    _pass(last)
    _pass(last, value=-1.0, into=COLORS)
    for color in range(COLORS):
        for channel, sign in ((color, 1.0), (COLORS + color, -1.0)):
            tensors["decoder.conv_out.weight"][color, channel, 1, 1] = sign * CONTRAST


def _take_over_detail() -> dict[str, Tensor]:
    """Fusion whose change is the encoder's colours minus the decoder's."""
    widths = [(ENCODER_WIDTH * MULTIPLES[level], DECODER_WIDTH * MULTIPLES[level]) for level in LEVELS]
    half, quarter = (FuseConfig(*pair, growth=8) for pair in widths)
    tensors = {key: torch.zeros_like(value) for key, value in CFW(CFWConfig((half, quarter))).state_dict().items()}
    for level, (encoder_width, _) in zip(LEVELS, widths):
        weight = tensors[f"{PREFIX}{level}.encode_enc_1.conv_out.weight"]
        for color in range(COLORS):
            weight[color, color] = 1.0
            weight[color, encoder_width + color] = -1.0
    return tensors
