"""Tensors that are made on the CPU, on their way to the device."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str | None, dtype: torch.dtype | None = None) -> Tensor:
    """Copies a CPU tensor to a device (None: where it is), to CUDA without waiting for the work that is queued there.

    CUDA takes pageable memory into a buffer of its own before the call returns; elsewhere (MPS) asynchronous copies are not safe.
    """
    cuda = device is not None and torch.device(device).type == "cuda"
    return tensor.to(device=device, dtype=dtype, non_blocking=cuda)
