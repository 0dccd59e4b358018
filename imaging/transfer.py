"""Tensors on their way to the device and back, without waiting for the work that is queued there."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str | None, dtype: torch.dtype | None = None) -> Tensor:
    """Copies a CPU tensor to a device (None: where it is), to CUDA without waiting for the work that is queued there.

    CUDA takes pageable memory into a buffer of its own before the call returns; elsewhere (MPS) asynchronous copies are not safe.
    """
    cuda = device is not None and torch.device(device).type == "cuda"
    return tensor.to(device=device, dtype=dtype, non_blocking=cuda)


class DeferredRead:
    """A small tensor that is read later: on CUDA it is on its way now, and `read` waits for what was queued before it only."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._there = tensor, None
        if tensor.device.type == "cuda":  # elsewhere asynchronous copies are not safe: it is copied when it is read
            self._tensor = tensor.to("cpu", non_blocking=True)  # into pinned memory
            self._there = torch.cuda.Event()
            self._there.record(torch.cuda.current_stream(tensor.device))

    def read(self) -> list[bool]:
        """Returns the values."""
        if self._there is not None:
            self._there.synchronize()
        return self._tensor.tolist()
