"""The host without its page, for recipes: checkpoints by path, pictures anywhere, and another output folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths

from .files import OWNERS_FOLDERS


def load_checkpoint(path: Path) -> tuple[Any, Any, Any]:
    """MODEL, CLIP (None where the file has none) and VAE of a checkpoint."""
    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=True, output_clip=True)[:3]


def set_output_folder(path: Path) -> None:
    """Everything that this process writes as the host goes below path."""
    path.mkdir(parents=True, exist_ok=True)
    folder_paths.set_output_directory(str(path.resolve()))


def opened_folder(path: Path | None) -> str:
    """A folder that a command names, as trainings take it: whoever gives the command may open any; "" for None."""
    if path is None:
        return ""
    folder = str(path.resolve())
    os.environ[OWNERS_FOLDERS] = os.pathsep.join(part for part in (os.environ.get(OWNERS_FOLDERS), folder) if part)
    return folder
