"""Live bytes of tensors that exist by their shapes only: each storage once, views of it not at all."""

# pyright: reportPrivateUsage=false
# torch has no public name for the identity of a storage.

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor


class Storages:
    """What is alive, and apart what lasts beyond a call (weights, gradients, moments); storages that go are taken off."""

    def __init__(self) -> None:
        self.live = self.lasting = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        self._lasting: set[int] = set()

    def track(self, tensor: Tensor) -> int:
        """Counts a tensor's memory from now on; the key of its storage."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:

            def free(_: Any) -> None:
                self.live -= size
                self._known.pop(key, None)
                if key in self._lasting:
                    self._lasting.discard(key)
                    self.lasting -= size

            self.live += size
            self._known[key] = weakref.ref(storage, free)
        return key

    def keep(self, tensor: Tensor) -> None:
        """The tensor's memory counts among what lasts, not among activations."""
        key = self.track(tensor)
        if key not in self._lasting:
            self._lasting.add(key)
            self.lasting += tensor.untyped_storage().nbytes()
