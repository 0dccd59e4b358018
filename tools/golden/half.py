"""Golden networks in half precision: layers cast their weights as the host's do, and what a network is given is rounded first.

Checks with gradients stay in float32: trainings have master weights and autocast, which is another matter.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_map

from ..device.layers import Casting

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
FLIPPED = {torch.float16: 0.02, torch.bfloat16: 0.1}
"""Share of the nearest codes that rounding may change."""

_chosen: ContextVar[torch.dtype | None] = ContextVar("golden_dtype", default=None)


def chosen() -> torch.dtype | None:
    """The dtype that networks run in now; None: as their files are, float32."""
    return _chosen.get()


@contextmanager
def precision(dtype: torch.dtype | None) -> Generator[None]:
    """Networks of golden checks run in dtype."""
    if dtype is None:
        yield
        return
    token = _chosen.set(dtype)
    try:
        with ExitStack() as stack:
            for kind in (nn.Conv1d, nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm):
                stack.enter_context(_forward_of(kind, getattr(Casting, kind.__name__).forward))
            stack.enter_context(_rounded(dtype))
            yield
    finally:
        _chosen.reset(token)


@contextmanager
def _forward_of(kind: Any, forward: Callable[..., Tensor]) -> Generator[None]:
    before = kind.forward
    kind.forward = lambda layer, *given: (before if torch.is_grad_enabled() else forward)(layer, *given)
    try:
        yield
    finally:
        kind.forward = before


@contextmanager
def _rounded(dtype: torch.dtype) -> Generator[None]:
    """What enters the outermost module of a call is cast to dtype, times (B,) excepted; what leaves it to float32."""
    open_calls: list[nn.Module] = []

    def narrow(leaf: Any) -> Any:
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.ndim > 1 else leaf

    def widen(leaf: Any) -> Any:
        return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype == dtype else leaf

    def enter(module: nn.Module, given: Any) -> Any:
        outermost = not open_calls and not torch.is_grad_enabled()
        open_calls.append(module)
        return tree_map(narrow, given) if outermost else None

    def leave(module: nn.Module, given: Any, result: Any) -> Any:
        open_calls.pop()
        return None if open_calls or torch.is_grad_enabled() else tree_map(widen, result)

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
