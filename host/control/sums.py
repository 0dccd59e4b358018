"""Arithmetic on sets of residuals, as the host's controls give them: lists by place of the network, with gaps."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...imaging.transfer import upload


def add_residuals(own: dict[str, list[Any]], before: dict[str, list[Any]] | None) -> dict[str, list[Any]]:
    """Sum of two sets of residuals, either of which may be shorter or have gaps."""
    if before is None:
        return own
    total: dict[str, list[Any]] = {}
    for place in {**own, **before}:
        ours, theirs = own.get(place, []), before.get(place, [])
        length = max(len(ours), len(theirs))
        pairs = zip(ours + [None] * (length - len(ours)), theirs + [None] * (length - len(theirs)))
        total[place] = [a if b is None else b if a is None else b + a for a, b in pairs]
    return total


def scale_rows(residual: Tensor, factors: Tensor) -> Tensor | None:
    """residual (B, ...) times a factor per row (B,); None where all are zero, the tensor itself where all are one.

    A single row (a T2I-Adapter's) is repeated where the factors differ.
    """
    if not factors.any():
        return None
    first = float(factors[0])
    if bool((factors == first).all()):
        return residual if first == 1.0 else residual * first
    if residual.shape[0] == 1:
        residual = residual.expand(len(factors), *residual.shape[1:])
    if residual.shape[0] % len(factors):
        raise ValueError(
            f"A ControlNet gave {residual.shape[0]} rows for a call of {len(factors)} at different noise levels: expected one "
            "for each; use merge mode 'aggregate' without a budget map."
        )
    own = factors.repeat_interleave(residual.shape[0] // len(factors))
    own = upload(own, residual.device, residual.dtype)
    return residual * own.view(-1, *[1] * (residual.ndim - 1))
