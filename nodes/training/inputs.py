"""Inputs that all training nodes have."""

from __future__ import annotations

from comfy_api.latest import io

from ...host.training.files import RunFiles
from ...training.config import START_ANEW


def name_input(default: str) -> io.Input:
    """What the files of a run begin with."""
    return io.String.Input(
        "name", default=default, tooltip="Start of the file names; a number is added, nothing is overwritten."
    )


def resume_input(files: RunFiles) -> io.Input:
    """The state to go on from."""
    return io.Combo.Input(
        "resume",
        options=[START_ANEW, *files.states()],
        default=START_ANEW,
        tooltip="A state in output/adaptivesr/training to go on from, with the same settings; the result equals a run without the break.",
    )


def rate_input(name: str, default: float, tooltip: str) -> io.Input:
    """A learning rate."""
    limits = {"min": 1e-8, "max": 0.1, "step": 1e-7, "round": False}
    return io.Float.Input(name, default=default, **limits, advanced=True, tooltip=tooltip)


def save_input(default: int, size: str = "") -> io.Input:
    """How often the state is written; size says how large it is."""
    tooltip = f"Steps between saves of the state{size}; it is always saved at the end and on cancel. 0: only then."
    return io.Int.Input("save_every", default=default, min=0, max=1_000_000, advanced=True, tooltip=tooltip)
