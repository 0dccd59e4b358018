"""Files of a distillation: resumable states, sample pictures, and student weights, all below the host's output folder."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ..files import ONE_STEP, trained_folder
from .files import RunFiles, below_output, states_folder

FILES = RunFiles(".distill.safetensors", ONE_STEP)


def free_name(name: str) -> str:
    """name_00001 and on: a run never writes over another's files."""
    # Unlike other runs' files, weights begin with what the loader reads off names.
    own = re.compile(rf"(?:[a-z]+_s\d+_)?{re.escape(name)}_(\d{{5}})")
    files = [*states_folder().glob("*"), *trained_folder(ONE_STEP).glob("*")]
    taken = {int(match[1]) for match in (own.match(path.name) for path in files) if match}
    number = next(number for number in itertools.count(1) if number not in taken)
    return f"{name}_{number:05}"


def weights_path(name: str) -> Path:
    """Where Load One-Step SR finds a trained network of that name."""
    return trained_folder(ONE_STEP) / f"{name}.safetensors"


def save_weights(path: Path, weights: dict[str, Tensor], header: dict[str, str]) -> str:
    """Writes the file; returns its path below the output folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in weights.items()}, path, metadata=header)
    return below_output(path)


def save_picture(path: Path, picture: Tensor) -> str:
    """Writes a PNG of (1, 3, H, W) in [0, 1]; returns its path below the output folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(path)
    return below_output(path)
