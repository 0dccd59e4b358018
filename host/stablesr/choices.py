"""What Super Resolution (StableSR) offers, apart from what runs it: the host reads all schemas at its start."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingPreset:
    """Steps and the sampler of a published way to sample."""

    steps: int
    sampler: str


PRESETS: Mapping[str, SamplingPreset] = {
    "paper, 200 steps": SamplingPreset(200, "ddpm"),
    "DDIM, 20 steps": SamplingPreset(20, "ddim"),
    "turbo, 4 steps": SamplingPreset(4, "ddpm"),
}
"""StableSR's paper, section 4.1; its section 5.2 (20 steps of DDIM); the authors' page for turbo."""
