"""Text encoders of the fixed full size for small checkpoints: all zeros, so that every text gives the same conditioning.

A host takes the size of a CLIP from the kind of the checkpoint, not from the file. Zeros cost no disk: they are a hole at
the file's end. Keys and shapes are those of the published checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

TOKENS, PLACES = 49408, 77
HALF = 2
"""Bytes of a float16."""

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]


def _layer(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def clip_l(width: int = 768, layers: int = 12) -> Shapes:
    """The text encoder of SD 1: CLIP ViT-L/14, 123 M."""
    root = "cond_stage_model.transformer.text_model"
    yield f"{root}.embeddings.token_embedding.weight", (TOKENS, width)
    yield f"{root}.embeddings.position_embedding.weight", (PLACES, width)
    for number in range(layers):
        layer = f"{root}.encoder.layers.{number}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{layer}.self_attn.{part}", width, width)
        yield from _layer(f"{layer}.layer_norm1", width)
        yield from _layer(f"{layer}.mlp.fc1", 4 * width, width)
        yield from _layer(f"{layer}.mlp.fc2", width, 4 * width)
        yield from _layer(f"{layer}.layer_norm2", width)
    yield from _layer(f"{root}.final_layer_norm", width)


def open_clip_h(width: int = 1024, layers: int = 24) -> Shapes:
    """The text encoder of SD 2: OpenCLIP ViT-H/14, 354 M."""
    root = "cond_stage_model.model"
    yield f"{root}.positional_embedding", (PLACES, width)
    yield f"{root}.text_projection", (width, width)
    yield f"{root}.token_embedding.weight", (TOKENS, width)
    for number in range(layers):
        block = f"{root}.transformer.resblocks.{number}"
        yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        yield from _layer(f"{block}.attn.out_proj", width, width)
        yield from _layer(f"{block}.ln_1", width)
        yield from _layer(f"{block}.ln_2", width)
        yield from _layer(f"{block}.mlp.c_fc", 4 * width, width)
        yield from _layer(f"{block}.mlp.c_proj", width, 4 * width)
    yield from _layer(f"{root}.ln_final", width)


def save_with_zeros(tensors: Mapping[str, Tensor], zeros: Mapping[str, Shape], path: Path) -> None:
    """Writes a safetensors file of float16: these tensors, then zeros of these shapes that take no place on the disk."""
    header: dict[str, object] = {}
    end = 0
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()} | dict(zeros)
    for key, shape in shapes.items():
        start, end = end, end + HALF * _count(shape)
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.half().contiguous().numpy().tobytes())
        file.truncate(8 + len(text) + end)


def _count(shape: Shape) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
