"""Files of TASR's training."""

from __future__ import annotations

from safetensors.torch import save_file
from torch import Tensor

from ...models.latent_control import join_control_file
from ..files import CONTROLNET
from .files import RunFiles, below_output

FILES = RunFiles(".state.safetensors", CONTROLNET)


def save_weights(
    name: str, control: dict[str, Tensor], adapters: dict[str, Tensor] | None, header: dict[str, str]
) -> str:
    """Writes a file that Load Time-Aware ControlNet offers; returns its path below the output folder."""
    path = FILES.weights_path(name)
    save_file(join_control_file(control, adapters), path, metadata=header)
    return below_output(path)
