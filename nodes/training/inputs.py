"""Inputs that all training nodes have."""

from __future__ import annotations

from comfy_api.latest import io

from ...host.training.files import RunFiles
from ...host.training.networks import PRECISIONS
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


def folder_input(rest: str = "Leave empty when images are connected.") -> io.Input:
    """Where pictures come from; rest says what else a node has for that."""
    tooltip = (
        "Folder with sharp pictures, subfolders too: a path below ComfyUI's input folder, or a full path below input, output, models "
        f"or a folder that the owner opened. {rest}"
    )
    return io.String.Input("image_folder", default="", tooltip=tooltip)


def steps_input(default: int, most: int = 1_000_000, paper: str = "") -> io.Input:
    """How far a run goes; paper says how far the paper went."""
    tooltip = f"Optimiser steps of this run, on top of those of a resumed one.{paper and ' '}{paper}"
    return io.Int.Input("steps", default=default, min=1, max=most, tooltip=tooltip)


def accumulate_input(default: int, paper: str) -> io.Input:
    """How many batches make a step; paper says how many the paper's are."""
    tooltip = f"Batches whose gradients make one step{paper}"
    return io.Int.Input("accumulate", default=default, min=1, max=1024, advanced=True, tooltip=tooltip)


def beside_frozen_inputs(
    precision: str, checkpointing: bool, save_every: int, *, saved: str, samples: str, state: str
) -> list[io.Input]:
    """What a training beside frozen networks of Stable Diffusion is told of memory and files, at these defaults.

    saved says how much memory checkpointing saves, samples what its pictures show, state how large the state is.
    """
    return [
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default=precision,
            advanced=True,
            tooltip="Of the frozen networks and of the arithmetic; what is trained stays in float32. CPUs compute in float32 either way.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=checkpointing,
            advanced=True,
            tooltip=f"Blocks are computed twice, for {saved} memory; no number changes.",
        ),
        io.Int.Input(
            "samples_every",
            default=0,
            min=0,
            max=1_000_000,
            advanced=True,
            tooltip=f"Steps between pictures in output/adaptivesr/training: {samples}. 0: none.",
        ),
        save_input(save_every, f" ({state})"),
    ]
