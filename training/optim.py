"""The optimisers (Muon for convolution kernels, Adam for the rest, AdamW), and the learning rate of all trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: quintic Newton-Schulz iteration (Jordan et al. 2024, Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    wide = x if x.shape[0] <= x.shape[1] else x.T
    for _ in range(steps):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is orthogonalised, for kernels read as (out, in * k * k) matrices.

    Its step has deviation 0.2 per weight times lr, so that learning rates are those of Adam (Liu et al. 2025, eq. 4).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum: Tensor = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                direction = torch.lerp(p.grad, momentum, group["momentum"]).flatten(1)
                update = orthogonalised(direction) * (0.2 * max(direction.shape) ** 0.5)
                p.sub_(update.view_as(p), alpha=group["lr"])


def make_optimizers(module: nn.Module, lr: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the trunk's and head's inner kernels, Adam for everything else."""
    kernels: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in module.named_parameters():
        inner = parameter.ndim == 4 and not name.startswith(("embed_lq",))
        (kernels if inner else others).append(parameter)
    return Muon(kernels, lr), torch.optim.Adam(others, lr, betas=(0.9, 0.99))


def make_adamw(module: nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """AdamW of the parameters that learn, one after another, so that a resumed run repeats it."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(learning, lr=lr, weight_decay=weight_decay, foreach=False)


def learning_rate(lr: float, step: int, warmup: int = 0, cosine_steps: int = 0) -> float:
    """The rate at a step (from 0): linear warm-up to lr, then constant, or half a cosine down to 1 % at step `cosine_steps`."""
    rising = min(1.0, (step + 1) / max(warmup, 1))
    if not cosine_steps:
        return lr * rising
    place = min(1.0, step / cosine_steps)
    return lr * rising * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * place)))


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], lr: float) -> None:
    """Gives all parameters of the optimisers one rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
