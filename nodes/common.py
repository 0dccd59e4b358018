"""What nodes share: categories, inputs, the line of text below a node, and fingerprints for the host's cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..host.files import find_file, loader_entries
from ..host.runtime import inert
from ..host.values import checks_values
from ..imaging.color import ColorFix

if TYPE_CHECKING:
    from ..host.regions.events import RegionDisplay

CATEGORY = "image/upscaling/AdaptiveSR"
LOADERS, ANALYSIS, TRAINING = (f"{CATEGORY}/{name}" for name in ("loaders", "analysis", "training"))

LINE = "adaptivesr_line"
"""Entry of the executed output that the page draws below a node's widgets."""

NO_COLOR_FIX = "none"
LINKED = "linked"


class CheckedNode(io.ComfyNode):
    """A node that checks all it is given against its schema before it does anything."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        execute = vars(cls).get("execute")
        # The host makes locked subclasses for a run, whose execute is wrapped already.
        if execute is not None and not hasattr(execute.__func__, "__wrapped__"):
            cls.execute = classmethod(checks_values(execute.__func__))  # type: ignore[method-assign]


def node_id_of(node: type[io.ComfyNode]) -> str | None:
    """Where a run can be shown; None where the node is called without a graph."""
    return getattr(node.hidden, "unique_id", None)


def display_of(node: type[io.ComfyNode]) -> RegionDisplay:
    """Shows a run on the node, where there is a graph and somebody looks."""
    from ..host.regions.events import RegionDisplay, workflow_id_of

    return RegionDisplay(node_id_of(node), workflow_id_of(getattr(node.hidden, "extra_pnginfo", None)))


def output(*values: object, line: str = "", display: RegionDisplay | None = None) -> io.NodeOutput:
    """A node's results, and what the page draws on it: a line of text and the map of a run.

    Both are part of the executed output, which the host keeps: progress texts are cleared when a run ends, and lost with the page.
    """
    ui = dict((display.ui or {}) if display is not None else {})
    if line:
        ui[LINE] = [inert(line)]
    return io.NodeOutput(*values, ui=ui or None)  # pyright: ignore[reportArgumentType]  the host takes None too


def fingerprint(state: Callable[..., object], *choices: object) -> str:
    """A key for the host's cache that changes with the choices and with the state of the files that they name.

    The host asks before linked inputs have values and passes None for them. The key is constant then: the host's own key holds
    the linked nodes already, and an error here would make it run the node at every queue. Changes of such files go unseen.
    """
    return LINKED if None in choices else json.dumps([*choices, state(*choices)])


def file_fingerprint(paths: Callable[..., Sequence[str]], *choices: str) -> str:
    """As `fingerprint`, by when the files that the choices name were changed."""
    return fingerprint(lambda *names: [os.path.getmtime(path) for path in paths(*names)], *choices)


def loader_fingerprint(folder: str, name: str) -> str:
    """As `file_fingerprint` for a loader of one file."""
    return file_fingerprint(lambda entry: [find_file(folder, entry)], name)


def file_input(name: str, folder: str, tooltip: str) -> io.Input:
    """A loader's choice of a file of one of our folders, or of weights that ship with the pack."""
    return io.Combo.Input(name, options=loader_entries(folder), tooltip=tooltip)


def seed_input(tooltip: str) -> io.Input:
    """The seed of a node's noise."""
    return io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip=tooltip)


def zero_is_auto(name: str) -> str:
    """What the widget of a number is called whose 0 leaves the choice to the node."""
    return f"{name} (0 = auto)"


def size_inputs(**options: Any) -> Sequence[io.Input]:
    """Width and height of a result, instead of its scale."""
    return [
        io.Int.Input(
            side,
            display_name=zero_is_auto(side),
            default=0,
            min=0,
            max=65536,
            tooltip=f"Exact {side} of the result in pixels; 0 follows scale, or {other} and the aspect.",
            **options,
        )
        for side, other in (("width", "height"), ("height", "width"))
    ]


def color_fix_input(tooltip: str, default: str = NO_COLOR_FIX) -> io.Input:
    """The choice of a colour fix."""
    options = [NO_COLOR_FIX, *(mode.value for mode in ColorFix)]
    return io.Combo.Input("color_fix", options=options, default=default, tooltip=tooltip)
