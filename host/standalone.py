"""The host without its page, for recipes: checkpoints by path, and another output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths


def load_checkpoint(path: Path) -> tuple[Any, Any, Any]:
    """MODEL, CLIP (None where the file has none) and VAE of a checkpoint."""
    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=True, output_clip=True)[:3]


def set_output_folder(path: Path) -> None:
    """Everything that this process writes as the host goes below path."""
    path.mkdir(parents=True, exist_ok=True)
    folder_paths.set_output_directory(str(path.resolve()))
