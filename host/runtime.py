"""Progress, cancel, memory and messages."""

from __future__ import annotations

import re
from typing import Any, cast

import comfy.model_management as mm
import comfy.utils
import torch
from comfy_execution.utils import get_executing_context
from torch import Tensor

ROWS_KEY = "adaptivesr_rows"
"""Key in transformer_options of the rows of a region sampler's call: patches that hold something spatial select it by them."""
MOST_TEXT = 4000
"""Characters of a line below a node."""


class HostRuntime:
    """`sampling.tiled.protocols.Runtime` on the host: its progress bar, its Cancel button, its out-of-memory errors."""

    def __init__(self, total_rows: int) -> None:
        self._bar = comfy.utils.ProgressBar(total_rows)

    def step(self, rows: int) -> None:
        """Moves the bar; raises the host's interrupt if the user has cancelled."""
        mm.throw_exception_if_processing_interrupted()
        self._bar.update(rows)

    def is_out_of_memory(self, error: Exception) -> bool:
        """As the function of that name."""
        return is_out_of_memory(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device or the machine has run out of memory; frees what is cached."""
    text = str(error).lower()
    found = isinstance(error, mm.OOM_EXCEPTION) or "out of memory" in text or "can't allocate memory" in text
    if found:
        mm.soft_empty_cache()
    return found


def rows_that_fit(device: torch.device, bytes_per_row: float, *, most: int = 16) -> int:
    """Rows for one network call by the host's account of free memory; 1 on a CPU, which gains nothing from more."""
    if device.type == "cpu":
        return 1
    free = cast("int", mm.get_free_memory(device)) - mm.minimum_inference_memory()
    return max(1, min(most, int(free / max(1.0, bytes_per_row))))


def to_intermediate(tensor: Tensor) -> Tensor:
    """Moves pictures and latents, in float32, to where the host keeps results: the CPU, or the GPU with --gpu-only."""
    return tensor.float().to(mm.intermediate_device())


def inert(text: str) -> str:
    """A text without anything that a page could run or link: it may hold what the author of a model file wrote.

    Older pages draw the line below a node as HTML, newer ones still make links of addresses. Control characters go, angle
    brackets become quotation marks that look like them, and a space breaks addresses; at most MOST_TEXT characters stay.
    """
    shown = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text[: MOST_TEXT + 1])
    shown = shown.replace("<", "\u2039").replace(">", "\u203a").replace("&", "\uff06")
    shown = re.sub(r"(?i)(?<=javascript):|(?<=data):|(?<=mailto):", " :", shown.replace("://", ": //"))
    shown = re.sub(r"(?i)\bwww\.", "www .", shown)
    return shown if len(text) <= MOST_TEXT else f"{shown[:MOST_TEXT]} ..."


def has_client() -> bool:
    """Whether the prompt that runs was queued by a page or program that listens."""
    return getattr(_server(), "client_id", None) is not None


def send_event(name: str, content: dict[str, Any]) -> None:
    """Sends a message to whoever queued the prompt that runs; `content` goes out as JSON later and must not change."""
    server, running = _server(), get_executing_context()
    if server is not None and server.client_id is not None:
        prompt_id = None if running is None else running.prompt_id
        server.send_sync(name, {**content, "prompt_id": prompt_id}, server.client_id)


def _server() -> Any:
    """The host's server, None where there is none."""
    from server import PromptServer  # noqa: PLC0415  importing the server creates it, and tests run without one

    return getattr(PromptServer, "instance", None)
