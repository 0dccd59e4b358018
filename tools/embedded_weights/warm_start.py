"""Reads a plain stack of convolutions with PReLU from a pair of ncnn files, and starts a compact denoiser from it.

ncnn's .bin holds the layers in the order of the .param file. A convolution is a flag word, its weights in half precision
(padded to four bytes) and its biases in float32; a PReLU layer is its slopes in float32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...models.compact_denoiser import CompactDenoiser

HALF_PRECISION = 0x01306B47
"""The flag word of half-precision weights; the only kind that is read."""


@dataclass(frozen=True)
class Stack:
    """Convolutions as (weight (out, in, 3, 3), bias (out,)), and the slopes (out,) behind all but the last."""

    convolutions: list[tuple[Tensor, Tensor]]
    slopes: list[Tensor]


def read_layers(param: Path, binary: Path) -> Stack:
    """The 3x3 convolutions and PReLU slopes of an ncnn model in the order of its file; ValueError where they do not fill the .bin."""
    data, place, stack = binary.read_bytes(), 0, Stack([], [])
    for line in param.read_text("utf-8").splitlines()[2:]:
        kind, options = line.split()[0], dict(part.split("=") for part in line.split() if "=" in part)
        if kind == "Convolution":
            outputs, count = int(options["0"]), int(options["6"])
            inputs, rest = divmod(count, 9 * outputs)
            flag = struct.unpack_from("<I", data, place)[0]
            if flag != HALF_PRECISION or rest:
                raise ValueError(f"{binary.name}: {line.split()[1]} is no half-precision 3x3 convolution.")
            weight = np.frombuffer(data, np.float16, count, place + 4).astype(np.float32)
            place += 4 + (2 * count + 3) // 4 * 4
            bias = np.frombuffer(data, np.float32, outputs, place).copy()
            place += 4 * outputs
            stack.convolutions.append((torch.from_numpy(weight).view(outputs, inputs, 3, 3), torch.from_numpy(bias)))
        elif kind == "PReLU":
            slopes = stack.convolutions[-1][1].numel()
            stack.slopes.append(torch.from_numpy(np.frombuffer(data, np.float32, slopes, place).copy()))
            place += 4 * slopes
    if place != len(data):
        raise ValueError(f"{binary.name} has {len(data)} bytes, its convolutions and PReLU {place}.")
    return stack


def read_stack(param: Path, binary: Path) -> Stack:
    """A plain stack of 3x3 convolutions with PReLU between them; ValueError if the model is another."""
    stack = read_layers(param, binary)
    widths = [3, *(bias.numel() for _, bias in stack.convolutions)]
    fits = all(weight.shape[1] == width for (weight, _), width in zip(stack.convolutions, widths))
    if not fits or len(stack.slopes) != len(stack.convolutions) - 1:
        raise ValueError(f"{binary.name} holds other layers: expected a plain stack with PReLU.")
    return stack


def start_from(model: CompactDenoiser, stack: Stack) -> None:
    """Head, body and slopes of the stack into model, whose pictures lie in [-1, 1] instead of [0, 1]; the tail stays as it is."""
    (first, bias), *body = stack.convolutions[:-1]
    weights = {"head.weight": first / 2, "head.bias": bias + first.sum((1, 2, 3)) / 2}
    for i, (weight, bias) in enumerate(body):
        weights |= {f"body.{i}.weight": weight, f"body.{i}.bias": bias}
    weights |= {f"slopes.{i}": slope for i, slope in enumerate(stack.slopes)}
    state = model.state_dict()
    wrong = [name for name, value in weights.items() if name not in state or state[name].shape != value.shape]
    if wrong:
        raise ValueError(f"The stack does not fit the network at {wrong[0]}: expected {model.config}.")
    model.load_state_dict({**state, **weights})
