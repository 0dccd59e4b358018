"""Fake CUDA tensors under the product's own code, and what is counted while it runs.

Whatever would live on the GPU is a FakeTensor: shape, dtype and device without memory. What is real stays real on the CPU, so
that schedules, seeds and plans have their values. Small fake tensors carry their values along (a real copy on the CPU), so that a
noise level that was sent to the device can be read back; where no value is known, a plausible one is given.
"""

# pyright: reportPrivateUsage=false
# torch has no public names for how a module moves its parameters.

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import flop_registry

from .counts import COPIES, READS, UPLOADS, Counts, DeviceEvent, Sync
from .storages import Storages

aten: Any = torch.ops.aten
ROOT = Path(__file__).resolve().parents[2]
VALUES_UP_TO = 2**17
"""Elements up to which a fake tensor keeps its values."""
EMPTY = (aten.empty.memory_format, aten.empty_strided.default)
VERDICTS = (aten.all, aten.any)
"""Of unknown values: all are as they should be (finite), none is not."""
SHAPED_BY_VALUES = (aten.nonzero.default, aten.masked_select.default, aten._unique2.default)


class DeviceFaultError(RuntimeError):
    """What a GPU would have refused, or what its kernels would have promoted in silence."""


class Recorder(TorchDispatchMode):
    """Makes everything on "cuda" fake, counts arithmetic, live bytes of the device and synchronisation points."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.memory = memory
        self._storages = Storages()
        self.counts = Counts()
        self.places: tuple[str, ...] = (str(ROOT),)
        """Folders whose lines are named as the cause of a synchronisation, the first that the stack passes counts."""

    def tensor(self, key: str, shape: Iterable[int], dtype: torch.dtype) -> Tensor:
        """A tensor of a file, by its key: on the CPU and without memory."""
        with self.fake:
            return torch.empty(tuple(shape), dtype=dtype, device="cpu")

    @property
    def live(self) -> int:
        """Bytes on the device now."""
        return self._storages.live

    @property
    def weights(self) -> int:
        """Those of them that are weights."""
        return self._storages.lasting

    def start(self) -> None:
        """Sets the counters back."""
        self.counts = Counts(peak=self.live)

    @property
    def activations(self) -> int:
        """Highest live bytes of the device since the start, weights excepted."""
        return self.counts.peak - self.weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if func in (aten._local_scalar_dense.default, aten.item.default) and isinstance(args[0], FakeTensor):
            return self.read(args[0])
        if func is aten.equal.default and any(isinstance(t, FakeTensor) for t in tensors):
            self.sync(READS)
            return True
        self._note_sync(func, args, kwargs, tensors)
        fake = any(isinstance(t, FakeTensor) for t in tensors)
        if not fake and not self._makes_fake(func, kwargs):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        _refuse_silent_promotion(func, tensors)
        out = self._run_fake(func, args, kwargs)
        self.counts.ops += 1
        self._count(func, args, kwargs, out)
        self._carry_values(func, args, kwargs, tensors, out)
        return out

    def _makes_fake(self, func: Any, kwargs: dict[str, Any]) -> bool:
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            return True
        # Memory without values: weights that a file will fill, results that the device will fill.
        return func in EMPTY

    def _run_fake(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default):
            args = self._without_masks(func, args)
        if func in SHAPED_BY_VALUES:
            values = values_of(args[0])
            if values is None:
                values = torch.ones(args[0].shape, dtype=torch.bool)
            with unset_fake_temporarily():
                real = func(values, *args[1:], **kwargs)
            return tree_map(lambda t: torch.empty(t.shape, dtype=t.dtype, device=args[0].device), real)
        return func(*args, **kwargs)

    def _without_masks(self, func: Any, args: Any) -> Any:
        """Boolean indices as positions, which a fake tensor cannot tell: by known values, else as if all were chosen."""
        x, indices, *rest = args
        found: list[Any] = []
        for index in indices:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                found.append(index)
                continue
            known = values_of(index)
            with unset_fake_temporarily():
                known = torch.ones(index.shape, dtype=torch.bool) if known is None else known.bool()
                columns = known.nonzero().unbind(1)
            found += [torch.empty(column.shape, dtype=torch.long, device=x.device) for column in columns]
        return (x, found, *rest)

    # What is counted

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            flop = formula(*args, **kwargs, out_val=out)
            self.counts.flop += flop
            self.counts.wide += flop * (args[0].dtype == torch.float32)
        for leaf in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(leaf, FakeTensor) and leaf.fake_device.type == "cuda":
                self._storages.track(leaf)
        self.counts.peak = max(self.counts.peak, self.live)

    def mark_weight(self, tensor: Tensor) -> None:
        """The tensor's memory counts as weights from now on, not as activations."""
        if isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda":
            self._storages.keep(tensor)

    # Where the host waits for the device

    def sync(self, kind: str) -> None:
        """Writes down the innermost line of the product or the host that waits."""
        self.counts.timeline.append(Sync(kind, self._place()))

    def _place(self) -> str:
        frame = inspect.currentframe()
        while frame is not None:
            name = frame.f_code.co_filename
            for base in self.places:
                if name.startswith(base) and "/tools/fullsize/" not in name:
                    return f"{name[len(base) + 1 :]}:{frame.f_lineno} {frame.f_code.co_name}"
            frame = frame.f_back
        return "?"

    def _note_sync(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor]) -> None:
        if func is aten._to_copy.default:
            here, there = on_device(args[0]), kwargs.get("device")
            there = here if there is None else torch.device(there).type == "cuda"
            self._note_copy(here, there, kwargs.get("non_blocking", False))
        elif func is aten.copy_.default:
            self._note_copy(on_device(args[1]), on_device(args[0]), args[2] if len(args) > 2 else False)
        elif func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default) and on_device(args[0]):
            given = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in given):
                self.sync(READS)
            elif any(not on_device(index) for index in given):
                self.sync(UPLOADS)
        elif func in SHAPED_BY_VALUES and on_device(args[0]):
            self.sync(READS)

    def _note_copy(self, source: bool, target: bool, non_blocking: bool) -> None:
        if source and not target:
            self.sync(COPIES if non_blocking else READS)
        elif target and not source and not non_blocking:
            self.sync(UPLOADS)

    def event(self) -> DeviceEvent:
        """In the place of `torch.cuda.Event`."""
        return DeviceEvent(self.counts, self._place)

    def read(self, tensor: Tensor) -> Any:
        """The value of one element, as `item` gives it."""
        if on_device(tensor):
            self.sync(READS)
        values = plausible(tensor)
        with unset_fake_temporarily():
            return values.item()

    # Values of small tensors

    def _carry_values(self, func: Any, args: Any, kwargs: Any, tensors: Sequence[Tensor], out: Any) -> None:
        results = [leaf for leaf in tree_flatten(out)[0] if isinstance(leaf, Tensor)]
        small = all(leaf.numel() <= VALUES_UP_TO for leaf in (*tensors, *results))
        known = small and all(values_of(leaf) is not None for leaf in tensors)
        if not known and func._overloadpacket in VERDICTS and results[0].numel() <= VALUES_UP_TO:
            with unset_fake_temporarily():
                keep_values(results[0], torch.full(results[0].shape, func._overloadpacket is aten.all))
        elif not known and func._schema.is_mutable:
            for leaf in results:
                keep_values(leaf, None)
        if not known:
            return
        plain = tree_map(lambda leaf: values_of(leaf) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        there = {**plain[1], **({"device": "cpu"} if "device" in plain[1] else {})}
        try:
            with unset_fake_temporarily():
                real = func(*plain[0], **there)
                if func in EMPTY:
                    real.zero_()
        except (RuntimeError, NotImplementedError):
            return
        for leaf, value in zip(results, tree_flatten(real)[0]):
            if isinstance(value, Tensor):
                keep_values(leaf, value)


def on_device(tensor: Any) -> bool:
    """Whether a tensor lies on the (fake) GPU."""
    return isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda"


def values_of(tensor: Tensor) -> Tensor | None:
    """The values of a tensor, where they are known."""
    return getattr(tensor, "_adaptivesr_values", None) if isinstance(tensor, FakeTensor) else tensor


def keep_values(tensor: Tensor, values: Tensor | None) -> None:
    """Gives a fake tensor values, or takes them away."""
    if isinstance(tensor, FakeTensor):
        tensor._adaptivesr_values = values  # pyright: ignore[reportAttributeAccessIssue]


def plausible(tensor: Tensor) -> Tensor:
    """A tensor's values on the CPU: the known ones, else True, 0 or 1."""
    known = values_of(tensor)
    if known is not None:
        return known
    value = 1 if tensor.dtype == torch.bool or tensor.dtype.is_floating_point else 0
    with unset_fake_temporarily():
        return torch.full(tensor.shape, value, dtype=tensor.dtype)


HALVES = (torch.float16, torch.bfloat16)
CHECKED = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.cat.default)


def _refuse_silent_promotion(func: Any, tensors: Sequence[Tensor]) -> None:
    """Refuses fp16 beside bf16, which never is meant."""
    kinds = {t.dtype for t in tensors if t.dtype in HALVES and t.ndim > 0}
    if func in CHECKED and len(kinds) > 1:
        raise DeviceFaultError(f"{func} got float16 and bfloat16 in one call.")


class FusedAttention(TorchFunctionMode):
    """Attention as the device's fused kernel computes it: no map of scores in memory, one dtype, one device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _attention(*args, **(kwargs or {}))


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> Tensor:
    if not on_device(q):
        with torch._C.DisableTorchFunction():
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal)
    given = [q, k, v] if attn_mask is None or attn_mask.dtype == torch.bool else [q, k, v, attn_mask]
    if len({t.dtype for t in given}) > 1 or not all(on_device(t) for t in given):
        raise DeviceFaultError(f"attention got {[(t.dtype, str(t.device)) for t in given]}")
    if attn_mask is not None:
        attn_mask = attn_mask.to(q.dtype).expand(*q.shape[:-1], k.shape[-2])
    return aten._scaled_dot_product_efficient_attention(
        q, k, v, attn_mask, torch.is_grad_enabled() and q.requires_grad, dropout_p, is_causal
    )[0]


@contextmanager
def patched(target: Any, **changes: Any) -> Generator[None]:
    """Attributes of an object, changed for the time being."""
    missing = object()
    before = {name: getattr(target, name, missing) for name in changes}
    try:
        for name, value in changes.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                delattr(target, name)
            else:
                setattr(target, name, value)


def moving(mark_weight: Callable[[Tensor], None]) -> Callable[..., nn.Module]:
    """In the place of `Module._apply`, which cannot exchange fake parameters: new ones are put in, and marked."""

    def apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        for child in module.children() if recurse else ():
            child._apply(function)
        with torch.no_grad():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    made = function(parameter)
                    if made is not parameter:
                        module._parameters[name] = nn.Parameter(made.detach(), parameter.requires_grad)
                    mark_weight(module._parameters[name])  # pyright: ignore[reportArgumentType]
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[name] = function(buffer)
                    mark_weight(module._buffers[name])  # pyright: ignore[reportArgumentType]
        return module

    return apply


def read_list(recorder: Recorder) -> Callable[[Tensor], Any]:
    """In the place of `tolist`: one wait for the whole tensor."""

    def tolist(tensor: Tensor) -> Any:
        if on_device(tensor):
            recorder.sync(READS)
        return plausible(tensor).tolist()

    return tolist


@contextmanager
def recording(recorder: Recorder) -> Generator[Recorder]:
    """The product's code on fake tensors."""

    def numpy(tensor: Tensor, *_: Any, **__: Any) -> Any:
        return plausible(tensor).float().numpy() if tensor.dtype == torch.bfloat16 else plausible(tensor).numpy()

    with (
        patched(FakeTensor, tolist=read_list(recorder), numpy=numpy),
        patched(torch.cuda, Event=recorder.event, current_stream=lambda device=None: None),
        patched(nn.Module, _apply=moving(recorder.mark_weight)),
        FusedAttention(),
        recorder.fake,
        recorder,
    ):
        yield recorder
