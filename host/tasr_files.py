"""Files of TASR's training: resumable states and trained weights, both below the host's output folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import folder_paths
from safetensors.torch import save_file
from torch import Tensor

from ..models.latent_control import join_control_file
from .files import trained_folder

STATE = ".state.safetensors"


def states_folder() -> Path:
    """Where resumable runs lie, with the tables of their losses."""
    return Path(folder_paths.get_output_directory()) / "adaptivesr" / "training"


def list_states() -> list[str]:
    """Names of the runs that can be resumed."""
    return sorted(path.name.removesuffix(STATE) for path in states_folder().glob(f"*{STATE}"))


def folder_state(folder: str) -> str:
    """Changes when files of a folder come, go or change; for a node's cache."""
    path = Path(folder.strip()).expanduser()
    if not folder.strip() or not path.is_dir():
        return folder
    found = [(str(file), file.stat().st_mtime_ns) for file in sorted(path.rglob("*")) if file.is_file()]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def state_path(run: str) -> Path:
    """The state of a run by its name."""
    return states_folder() / f"{run}{STATE}"


def free_name(name: str) -> str:
    """name_00001 and on: a run never writes over another's files."""
    folders = (states_folder(), trained_folder())
    taken = [path.name for folder in folders for path in folder.glob(f"{name}_*")]
    number = 1
    while any(other.startswith(f"{name}_{number:05}") for other in taken):
        number += 1
    return f"{name}_{number:05}"


def save_weights(
    name: str, control: dict[str, Tensor], adapters: dict[str, Tensor] | None, header: dict[str, str]
) -> str:
    """Writes a file that Load Time-Aware ControlNet offers; returns its path below the output folder."""
    path = trained_folder() / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(join_control_file(control, adapters), path, metadata=header)
    return path.relative_to(folder_paths.get_output_directory()).as_posix()
