"""The noise schedules of the published ResShift-family weights, and which one a file most likely wants.

Numbers: Yue et al. 2023 (ResShift), section 3.2 and its released configurations; Wang et al. 2024 (SinSR);
He et al. 2024 (TAD-SR). Keys and shapes cannot tell a 15-step from a 4-step network, nor a one-step student from
its teacher, so the file name decides and the user is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..schedules import ResidualShiftSchedule, residual_shift_schedule

if TYPE_CHECKING:
    from ...models.residual_unet_config import ResidualUNetConfig


@dataclass(frozen=True)
class Preset:
    """How a network was trained: its noise schedule, and whether it jumps from the last index to the end."""

    name: str
    num_steps: int
    min_noise_level: float
    kappa: float = 2.0
    power: float = 0.3
    etas_end: float = 0.99
    clip_start: bool = False
    one_step: bool = False
    scale: int = 4

    def summary(self) -> str:
        """One sentence for the user."""
        last = self.num_steps - 1
        way = f"one step at time index {last} of" if self.one_step else f"{self.num_steps} steps of"
        return (
            f"{self.name}: x{self.scale}, {way} a {self.num_steps}-step schedule "
            f"(kappa {self.kappa:g}, smallest noise level {self.min_noise_level:g})."
        )


RESSHIFT_15 = Preset("ResShift, 15 steps", 15, 0.04)
RESSHIFT_4 = Preset("ResShift, 4 steps", 4, 0.2)
SINSR = Preset("SinSR", 15, 0.04, clip_start=True, one_step=True)
TAD_SR = Preset("TAD-SR", 15, 0.04, clip_start=True, one_step=True)
RESSHIFT_FACE = Preset("ResShift face", 4, 0.2, scale=1)
# The released TAD-SR code clips the start where its teacher's does not; only multi-step use sees the difference.
TAD_FACE = Preset("TAD-SR face", 4, 0.2, clip_start=True, one_step=True, scale=1)
RESSHIFT_INPAINT = Preset("ResShift inpainting", 4, 0.2, scale=1)
RESSHIFT_X2 = Preset("ResShift x2", 4, 0.2, scale=2)

PRESETS = {
    "resshift_15": RESSHIFT_15,
    "resshift_4": RESSHIFT_4,
    "sinsr": SINSR,
    "tad_sr": TAD_SR,
    "resshift_face": RESSHIFT_FACE,
    "tad_face": TAD_FACE,
    "resshift_inpaint": RESSHIFT_INPAINT,
    "resshift_x2": RESSHIFT_X2,
}


def schedule(preset: Preset) -> ResidualShiftSchedule:
    """The full schedule of a preset; a one-step network uses only its last entry."""
    return residual_shift_schedule(
        preset.num_steps,
        preset.min_noise_level,
        preset.kappa,
        preset.power,
        preset.etas_end,
        clip_start=preset.clip_start,
    )


def guess_preset(file_name: str, config: ResidualUNetConfig) -> Preset:
    """The preset that a file name and the network's shape point to; without a hint x4 networks get 15 steps."""
    name = re.split(r"[\\/]", file_name)[-1].lower()
    tad = re.search(r"(?<![a-z])tad(?![a-z])|(?<![a-z])tad(sr|face)", name) is not None
    if config.has_mask:
        return RESSHIFT_INPAINT
    if config.condition_stages == 1:
        return RESSHIFT_X2
    if config.condition_stages > 1:
        return TAD_FACE if tad else RESSHIFT_FACE
    four = _is_four_step(name)
    if not (tad or "sinsr" in name):
        return RESSHIFT_4 if four else RESSHIFT_15
    student = TAD_SR if tad else SINSR
    return replace(student, num_steps=4, min_noise_level=0.2) if four else student


def _is_four_step(name: str) -> bool:
    """An explicit step count wins; otherwise the names of the released 4-step networks."""
    steps = re.search(r"(?<![a-z])s(\d+)(?!\d)", name)
    if steps is not None:
        return steps.group(1) == "4"
    return "resshift" in name and ("bicsr" in name or re.search(r"(?<![a-z])v3(?!\d)", name) is not None)
