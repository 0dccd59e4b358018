"""What a training makes of a few pictures, on one sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

GAP, HEADER, COLUMN = 4, 16, 160
"""Pixels between pictures, of the words above them, and at least of a column."""


@dataclass(frozen=True)
class Trial:
    """Pictures (B, 3, H, W) in [0, 1]: what was enlarged, the truth, and by name what was made of it; seconds per picture."""

    lr: Tensor
    truth: Tensor
    made: Mapping[str, Tensor]
    seconds: Mapping[str, float]


def sheet(trial: Trial) -> Tensor:
    """One row per picture: LR, what was made, the truth, small ones with larger pixels; (1, 3, H, W) in [0, 1]."""
    factor = -(-COLUMN // trial.truth.shape[-1])
    height, width = (factor * side for side in trial.truth.shape[-2:])
    seen = {"LR": trial.lr, **trial.made, "truth": trial.truth}
    columns = {name: F.interpolate(pictures, size=(height, width), mode="nearest") for name, pictures in seen.items()}
    canvas = Image.new("RGB", (len(columns) * (width + GAP) - GAP, HEADER + len(trial.lr) * (height + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (name, pictures) in enumerate(columns.items()):
        left = column * (width + GAP)
        draw.text((left + 2, 2), name, fill="black")
        pixels = (pictures.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for row, picture in enumerate(pixels):
            canvas.paste(Image.fromarray(picture), (left, HEADER + row * (height + GAP)))
    return torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1)[None].float() / 255
