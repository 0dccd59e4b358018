"""Inputs that all training nodes have."""

from __future__ import annotations

from comfy_api.latest import io

from ...host.training.files import START_ANEW, RunFiles


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
