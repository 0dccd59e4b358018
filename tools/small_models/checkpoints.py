"""Small checkpoints that a host takes for Stable Diffusion 2 or 1: keys and shapes of one, few levels, weights made here.

Nothing in it is learned. The VAE is exact arithmetic (means of 8 x 8 pixels, smoothed on the way back) and the network
predicts as noise what the surroundings of a latent cell do not explain, so pictures stay pictures; random branches make
it depend on the noise level, on the tile and on the conditioning. About 56 MB; a text encoder, for the tests that need
one, is of full size and all zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..env.client import Prompt
from . import text_encoders
from .random_tensors import normal, random_tensor

SMALL_SD2 = "small_sd2.safetensors"
LATENT_SCALE = 0.18215  # of the host's latents of SD 1 and 2 against the VAE's

Shape = torch.Size
Shapes = Iterator[tuple[str, Shape]]

WIDTH, LATENTS, TIME = 320, 4, 1280  # the detection wants 320
VAE_WIDTH = 64
RANDOM_SHARE = 0.1
"""Standard deviation of the random branches' part of the predicted noise, about."""


@dataclass(frozen=True)
class Kind:
    """By what the detection tells the generations apart: width of the text, and whether projections are convolutions."""

    context: int
    convolutions: bool
    text_encoder: Callable[[], Iterator[tuple[str, tuple[int, ...]]]]


SD2 = Kind(1024, False, text_encoders.open_clip_h)
SD1 = Kind(768, True, text_encoders.clip_l)


def put_small_checkpoint(base: Path, name: str = SMALL_SD2, seed: int = 0) -> Path:
    """Writes the checkpoint into a host's base directory; returns its path."""
    path = base / "models" / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(small_checkpoint(seed), path)
    return path


def put_whole_checkpoint(base: Path, name: str, kind: Kind = SD2, seed: int = 0) -> Path:
    """The same with a text encoder of zeros, for workflows as they are shipped; returns its path."""
    path = base / "models" / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text_encoders.save_with_zeros(small_checkpoint(seed, kind), dict(kind.text_encoder()), path)
    return path


def with_small_checkpoint(prompt: Prompt, name: str = SMALL_SD2) -> Prompt:
    """A copy of an API workflow that loads this checkpoint, with empty prompts in place of texts.

    Bases that lie in a StableSR file are taken from the checkpoint too.
    """
    changed = copy.deepcopy(prompt)
    for key in [key for key, node in changed.items() if node["inputs"].get("load_base")]:
        changed[key]["inputs"]["load_base"] = False
        changed[f"{key}0"] = {"class_type": "CheckpointLoaderSimple", "inputs": {}}
        _relink(changed, key, f"{key}0")
    for node in changed.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = name
        elif node["class_type"] == "CLIPTextEncode":
            loader = node["inputs"]["clip"][0]
            node.update(class_type="AdaptiveSREmptyPrompt", inputs={"model": [loader, 0]})
    return changed


def _relink(prompt: Prompt, stablesr: str, checkpoint: str) -> None:
    """MODEL, CLIP and VAE, outputs 2 to 4 of Load StableSR, become outputs 0 to 2 of Load Checkpoint."""
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == stablesr and value[1] >= 2:
                node["inputs"][name] = [checkpoint, value[1] - 2]


def small_checkpoint(seed: int = 0, kind: Kind = SD2) -> dict[str, Tensor]:
    """Every tensor of the file in float16; the same for the same seed."""
    unet, vae = dict(_unet(kind)), dict(_vae())
    generator = torch.Generator().manual_seed(seed)
    network = {key: random_tensor(key, shape, normal(generator)) for key, shape in unet.items()}
    _predict_unexplained_noise(network)
    coder = {key: torch.zeros(shape) for key, shape in vae.items()}
    _average_and_enlarge(coder)
    tensors = {f"model.diffusion_model.{key}": value for key, value in network.items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in coder.items()}
    return {key: value.half().contiguous() for key, value in tensors.items()}


def _layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    yield f"{name}.weight", torch.Size(shape)
    if bias:
        yield f"{name}.bias", torch.Size(shape[:1])


def _residual_block(name: str, channels: int) -> Shapes:
    yield from _layer(f"{name}.in_layers.0", channels)
    yield from _layer(f"{name}.in_layers.2", WIDTH, channels, 3, 3)
    yield from _layer(f"{name}.emb_layers.1", WIDTH, TIME)
    yield from _layer(f"{name}.out_layers.0", WIDTH)
    yield from _layer(f"{name}.out_layers.3", WIDTH, WIDTH, 3, 3)
    if channels != WIDTH:
        yield from _layer(f"{name}.skip_connection", WIDTH, channels, 1, 1)


def _transformer(name: str, kind: Kind) -> Shapes:
    kernel = (1, 1) if kind.convolutions else ()
    yield from _layer(f"{name}.norm", WIDTH)
    yield from _layer(f"{name}.proj_in", WIDTH, WIDTH, *kernel)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", WIDTH), ("attn2", kind.context)):
        yield from _layer(f"{block}.{attention}.to_q", WIDTH, WIDTH, bias=False)
        yield from _layer(f"{block}.{attention}.to_k", WIDTH, source, bias=False)
        yield from _layer(f"{block}.{attention}.to_v", WIDTH, source, bias=False)
        yield from _layer(f"{block}.{attention}.to_out.0", WIDTH, WIDTH)
    yield from _layer(f"{block}.ff.net.0.proj", 8 * WIDTH, WIDTH)
    yield from _layer(f"{block}.ff.net.2", WIDTH, 4 * WIDTH)
    for number in (1, 2, 3):
        yield from _layer(f"{block}.norm{number}", WIDTH)
    yield from _layer(f"{name}.proj_out", WIDTH, WIDTH, *kernel)


def _unet(kind: Kind) -> Shapes:
    """Two levels of one block each, equally wide; one transformer, at half resolution; a middle without attention."""
    yield from _layer("time_embed.0", TIME, WIDTH)
    yield from _layer("time_embed.2", TIME, TIME)
    yield from _layer("input_blocks.0.0", WIDTH, LATENTS, 3, 3)
    yield from _residual_block("input_blocks.1.0", WIDTH)
    yield from _layer("input_blocks.2.0.op", WIDTH, WIDTH, 3, 3)
    yield from _residual_block("input_blocks.3.0", WIDTH)
    yield from _transformer("input_blocks.3.1", kind)
    yield from _residual_block("middle_block.0", WIDTH)
    for number in range(4):
        yield from _residual_block(f"output_blocks.{number}.0", 2 * WIDTH)
    yield from _layer("output_blocks.1.1.conv", WIDTH, WIDTH, 3, 3)
    yield from _layer("out.0", WIDTH)
    yield from _layer("out.2", LATENTS, WIDTH, 3, 3)


def _predict_unexplained_noise(network: dict[str, Tensor]) -> None:
    """Noise = x minus the mean of its 3 x 3 surroundings, scaled to deviation 1 within the tile, plus random branches.

    One group of channels holds +z and -z of every latent channel from the first layer to the last norm, which scales it;
    SiLU(z) - SiLU(-z) = z makes the end linear again.
    """
    group, middle = WIDTH // 32, 1
    own = 2 * LATENTS
    first, last = network["input_blocks.0.0.weight"], network["out.2.weight"]
    skip = network["output_blocks.3.0.skip_connection.weight"]
    last *= RANDOM_SHARE / 0.6  # about the deviation of SiLU of normal values
    last[:, :group] = 0
    first[:group] = 0
    skip[:group] = 0
    network["output_blocks.3.0.out_layers.3.weight"][:group] = 0
    for latent in range(LATENTS):
        for channel, sign in ((2 * latent, 1.0), (2 * latent + 1, -1.0)):
            first[channel, latent] = -sign / 9
            first[channel, latent, middle, middle] += sign
            skip[channel, WIDTH + channel] = 1
            # the group's deviation is over channels of which `own` of `group` are not zero
            last[latent, channel, middle, middle] = sign * (own / group) ** 0.5


ENCODER = (
    3,
    "block",
    None,
    "block",
    "block",
    "block",
    None,
    "block",
    "block",
    "block",
    None,
    "block",
    "block",
    "block",
)
"""Layers of the encoder but the last: channels of a convolution with bias, blocks, and (None) convolutions of stride 2."""
DECODER_BLOCKS = (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)
DECODER_CONVOLUTIONS = (7, 12, 17)


def _vae_block(name: str) -> Shapes:
    for number in (0, 2, 4):
        yield from _layer(f"{name}.conv.{number}", VAE_WIDTH, VAE_WIDTH, 3, 3)


def _vae() -> Shapes:
    """A tiny autoencoder of the TAESD architecture."""
    yield "vae_scale", torch.Size()
    yield "vae_shift", torch.Size()
    for number, kind in enumerate(ENCODER):
        if kind == "block":
            yield from _vae_block(f"taesd_encoder.{number}")
        else:
            yield from _layer(f"taesd_encoder.{number}", VAE_WIDTH, kind or VAE_WIDTH, 3, 3, bias=kind is not None)
    yield from _layer(f"taesd_encoder.{len(ENCODER)}", LATENTS, VAE_WIDTH, 3, 3)
    yield from _layer("taesd_decoder.1", VAE_WIDTH, LATENTS, 3, 3)
    for number in DECODER_BLOCKS:
        yield from _vae_block(f"taesd_decoder.{number}")
    for number in DECODER_CONVOLUTIONS:
        yield from _layer(f"taesd_decoder.{number}", VAE_WIDTH, VAE_WIDTH, 3, 3, bias=False)
    yield from _layer("taesd_decoder.19", 3, VAE_WIDTH, 3, 3)


def _average_and_enlarge(coder: dict[str, Tensor]) -> None:
    """Latents are 2 mean - 1 of the colours of 8 x 8 pixels, and of their sum; all blocks, being zero, pass what is positive.

    Back: nearest cells smoothed thrice. Channel 3 holds the part of a cell that is not the zeros beyond the border.
    """
    coder["vae_scale"].fill_(LATENT_SCALE)
    for color in range(3):
        coder["taesd_encoder.0.weight"][color, color, 1, 1] = 1
        for number, kind in enumerate(ENCODER):
            if kind is None:
                coder[f"taesd_encoder.{number}.weight"][color, color, 1:, 1:] = 0.25
        end = coder[f"taesd_encoder.{len(ENCODER)}.weight"]
        end[color, color, 1, 1] = 2
        end[3, color, 1, 1] = 2 / 3
        coder["taesd_decoder.1.weight"][color, color, 1, 1] = 0.5
        coder["taesd_decoder.1.bias"][color] = 0.5
        coder["taesd_decoder.19.weight"][color, color, 1, 1] = 1
        coder["taesd_decoder.19.weight"][color, 3, 1, 1] = -0.5  # grey where the border took something away
    coder[f"taesd_encoder.{len(ENCODER)}.bias"].fill_(-1)
    coder["taesd_decoder.1.bias"][3] = 1
    coder["taesd_decoder.19.bias"].fill_(0.5)
    smooth = torch.tensor([0.25, 0.5, 0.25])
    for number in DECODER_CONVOLUTIONS:
        for channel in range(4):
            coder[f"taesd_decoder.{number}.weight"][channel, channel] = torch.outer(smooth, smooth)
