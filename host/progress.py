"""One progress bar for a node: whatever runs inside of it, the host's own samplers and VAEs included, the bar only rises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.utils


class RisingBar:
    """Stands before the host's hook: every bar inside fills the share of the node's bar that its stage has."""

    def __init__(self, hook: Callable[..., Any]) -> None:
        self._hook, self._first, self._last, self._shown = hook, 0.0, 1.0, 0.0

    def set_stage(self, first: float, last: float) -> None:
        """Bars from now on go from one share of the whole to another."""
        self._first, self._last = first, last

    def __call__(self, value: float, total: float, *rest: Any, **named: Any) -> None:
        done = min(1.0, value / total) if total > 0 else 1.0
        share = self._first + (self._last - self._first) * done
        if share >= self._shown and (self._first, self._last) == (0.0, 1.0):
            self._shown = share
            self._hook(value, total, *rest, **named)
            return
        self._shown = max(self._shown, share)
        self._hook(round(1000 * self._shown), 1000, *rest, **named)


@contextmanager
def rising() -> Iterator[None]:
    """While open, bars that are made show what they do through one that only rises."""
    hook = comfy.utils.PROGRESS_BAR_HOOK
    if hook is None or isinstance(hook, RisingBar):
        yield
        return
    comfy.utils.set_progress_bar_global_hook(RisingBar(hook))
    try:
        yield
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)


def stage(first: float, last: float) -> None:
    """Says which share of the node's bar the next part of its work fills."""
    if isinstance(comfy.utils.PROGRESS_BAR_HOOK, RisingBar):
        comfy.utils.PROGRESS_BAR_HOOK.set_stage(first, last)
