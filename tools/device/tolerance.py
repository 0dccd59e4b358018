"""How far half precision may be from float32: one measure, for `dev.py device` and for `dev.py golden --dtype`."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_leaves

TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 8e-2, torch.float32: 1e-3}
"""Largest `error_in_range` of a network's call on a device. bfloat16 has an eighth of float16's digits; float32 on a GPU may use TF32."""
GOLDEN = {torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Of golden networks on the CPU, for each call in a chain. Measured: networks up to 3.1e-3 and 2.9e-2; what float32 stand-ins make of
InvSR's start noise in five steps 6.9e-3 and 3.3e-2, which in float16 is over the bound (an AMD CPU)."""


def error_in_range(found: Any, expected: Any) -> float:
    """Largest difference of any of the tensors, relative to the range of its expected values; infinite where not finite."""
    errors = [0.0]
    for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        if a.shape != b.shape:
            return float("inf")
        reference = b.detach().double().cpu()
        difference = (a.detach().double().cpu() - reference).abs().max()
        spread = (reference.max() - reference.min()).clamp(min=1e-12)
        errors.append(float(difference / spread) if bool(torch.isfinite(difference)) else float("inf"))
    return max(errors)
