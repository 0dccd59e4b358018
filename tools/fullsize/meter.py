"""Arithmetic and memory of a training step on fake tensors of the CPU, which plays the device.

PyTorch's backward asks a driver about tensors that claim to lie on "cuda", so that it cannot run on those of `recorder`. On the
CPU it can. What a GPU does otherwise is brought in: attention as one fused kernel, and CUDA's autocast, which gives
normalisations and resizings in float32 where the CPU's leaves them in half precision.
"""

# pyright: reportPrivateUsage=false
# torch has no public names for its engine and for the identity of a storage.

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from .recorder import moving, patched
from .storages import Storages

aten: Any = torch.ops.aten
CPU = "cpu"
_run_backward: Any = torch.autograd._engine_run_backward  # pyright: ignore[reportAttributeAccessIssue]
READS = (aten._local_scalar_dense.default, aten.item.default)


class Meter(TorchDispatchMode):
    """Counts multiplications and additions, and the live bytes of fake tensors; a value that is read is 1, or True.

    Masks choose everything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._storages = Storages()
        self.whole = 1
        """What an integer is that is read."""
        self.start()

    @property
    def live(self) -> int:
        """Bytes that are alive."""
        return self._storages.live

    @property
    def lasting(self) -> int:
        """Those of them that are no activations."""
        return self._storages.lasting

    def start(self) -> None:
        """Sets arithmetic and peaks back."""
        self.flop, self.peak, self.activations = 0, self.live, self.live - self.lasting

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in READS and isinstance(args[0], FakeTensor):
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else self.whole
        if kwargs.pop("generator", None) is not None:  # a fake tensor has no values, and its device knows no generator
            func = func._overloadpacket
        if func is aten.index.Tensor:
            args = (args[0], [_all_of(index) for index in args[1]])
        out = func(*args, **kwargs)
        packet = getattr(func, "_overloadpacket", func)
        if packet in flop_registry:
            self.flop += flop_registry[packet](*args, **kwargs, out_val=out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, FakeTensor):
                self._storages.track(leaf)
        self.peak = max(self.peak, self.live)
        self.activations = max(self.activations, self.live - self.lasting)
        return out

    def last(self, tensors: Iterable[Tensor | None]) -> None:
        """Weights, gradients and moments: what is no activation from now on."""
        for tensor in tensors:
            if tensor is not None:
                self._storages.keep(tensor)

    def learns(self, network: nn.Module) -> None:
        """The gradients of a network that is trained are no activations."""
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: self.last([p.grad]))


def _all_of(index: Tensor | None) -> Tensor | None:
    """A mask (N,) as the places of a batch that it chooses, which a fake tensor cannot tell: all."""
    if index is None or index.dtype != torch.bool or index.ndim != 1:
        return index
    return torch.arange(len(index), device=index.device)


def bytes_of(tensors: Iterable[Any]) -> int:
    """Of the tensors among them, each storage once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors if isinstance(t, Tensor)}
    return sum(storages.values())


FLOAT32: frozenset[Callable[..., Any]] = frozenset(
    [
        F.group_norm,
        F.layer_norm,
        F.softmax,
        F.interpolate,
        F.softplus,
        torch.softmax,
        torch.exp,
        torch.pow,
        torch.rsqrt,
        torch.log,
        Tensor.softmax,
        Tensor.exp,
        Tensor.pow,
        Tensor.__pow__,
        Tensor.rsqrt,
        Tensor.log,
    ]
)
"""What CUDA's autocast computes in float32 (torch/include/ATen/autocast_mode.h, AT_FORALL_FP32), as far as networks here call it."""


class LikeCuda(TorchFunctionMode):
    """Attention as a fused kernel, and under autocast float32 where CUDA's has it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func in FLOAT32 and torch.is_autocast_enabled(CPU):
            args, kwargs = tree_map(_widened, (args, kwargs))
        return func(*args, **kwargs)


def _widened(leaf: Any) -> Any:
    half = isinstance(leaf, Tensor) and leaf.dtype in (torch.float16, torch.bfloat16)
    return leaf.float() if half else leaf


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> Tensor:
    if torch.is_autocast_enabled(CPU):
        q, k, v = (x.to(torch.get_autocast_dtype(CPU)) for x in (q, k, v))
    if attn_mask is not None:
        attn_mask = attn_mask.to(q.dtype).expand(*q.shape[:-1], k.shape[-2])
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return aten._scaled_dot_product_efficient_attention(q, k, v, attn_mask, learns, dropout_p, is_causal)[0]


def _copied(tensor: FakeTensor, memo: dict[int, Any]) -> Tensor:
    """A copy beside the mode's other tensors; PyTorch's own copies the mode too, and ends in damaged memory."""
    if id(tensor) not in memo:
        made = tensor.detach().clone()
        learns, parameter = tensor.requires_grad, isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(made, learns) if parameter else made.requires_grad_(learns)
    return memo[id(tensor)]


def _backward(*given: Any, **options: Any) -> Any:
    """The engine's own; what is computed again on the way needs the mode, which is off inside of a call that it looks at."""
    with LikeCuda():
        return _run_backward(*given, **options)


@contextmanager
def metering() -> Generator[Meter]:
    """Everything that is made inside is fake and counted."""
    meter = Meter()
    with (
        patched(torch.autograd, _engine_run_backward=_backward),
        patched(nn.Module, _apply=moving(lambda tensor: None)),
        patched(FakeTensor, __deepcopy__=_copied),
        LikeCuda(),
        meter.fake,
        meter,
    ):
        yield meter
