"""Ways in which a model file may be damaged: its bytes, its tensors, its metadata, or what a pickle holds."""

from __future__ import annotations

import io
import math
import random
import struct
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

TYPES = (
    "int8",
    "bool",
    "float64",
    "complex64",
    "int64",
    "uint8",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
)
NAMES = (
    "extra",
    "out.2.weight",
    "zero_convs.0.0.weight",
    "quantize.embedding.weight",
    "0.0.emb.weight",
    "mmle.convs.0.weight",
    "",
)
HEAD = 8
"""Bytes of a safetensors file that tell the length of its header."""


def damaged(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None, rng: random.Random
) -> tuple[str, bytes, str]:
    """What was done, the file, and its ending."""
    way = rng.random()
    if way < 0.35:
        what, data = damaged_bytes(
            save({k: v.clone().contiguous() for k, v in tensors.items()}, dict(metadata or {})), rng
        )
        return what, data, ".safetensors"
    if way < 0.8:
        what, changed, header = damaged_tensors(tensors, dict(metadata or {}), rng)
        return what, save({k: v.clone().contiguous() for k, v in changed.items()}, header), ".safetensors"
    what, held = odd_object(tensors, rng)
    file = io.BytesIO()
    torch.save(held, file)
    data = file.getvalue()
    if rng.random() < 0.3:
        what, data = f"{what}, then {damaged_bytes(data, rng)[0]}", damaged_bytes(data, rng)[1]
    return f"pickle: {what}", data, rng.choice([".pth", ".ckpt"])


def damaged_bytes(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A file cut, flipped, emptied, lengthened or with another header."""
    what = rng.choice(["cut", "flipped head", "flipped data", "length", "noise", "longer", "empty", "zeros", "header"])
    changed = bytearray(data)
    if what == "cut":
        return what, data[: rng.randrange(len(data))]
    if what == "empty":
        return what, b""
    if what == "noise":
        return what, rng.randbytes(rng.choice([1, 7, 8, 9, 100, 5000]))
    if what == "longer":
        return what, data + rng.randbytes(100)
    if what == "length":
        return what, struct.pack("<Q", rng.choice([0, 1, 2**63, 2**64 - 1, 10**8 + 1, len(data)])) + data[HEAD:]
    if what == "header":
        return what, struct.pack("<Q", 200000) + b"[" * 100000 + b"]" * 100000 + data[-1000:]
    first, last = (0, min(len(data), 4000)) if what == "flipped head" else (len(data) // 3, len(data))
    if what == "zeros":
        start = rng.randrange(len(data))
        changed[start : start + 3000] = bytes(len(changed[start : start + 3000]))
    else:
        for _ in range(rng.randint(1, 50)):
            changed[rng.randrange(first, last)] = rng.randrange(256)
    return what, bytes(changed)


def damaged_tensors(
    tensors: Mapping[str, Tensor], metadata: dict[str, str], rng: random.Random
) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """One to four tensors dropped, renamed, reshaped, cast or spoilt; or the metadata."""
    changed, names = dict(tensors), list[str]()
    for _ in range(rng.choice([1, 1, 2, 4])):
        key = rng.choice(sorted(changed))
        what = rng.choice(sorted(_CHANGES))
        if what == "metadata" and metadata:
            name = rng.choice(sorted(metadata))
            metadata[name] = rng.choice(
                ["", "{", "[" * 200000, "{}", "5", "null", metadata[name].replace("1", '"x"', 1), metadata[name][:-20]]
            )
        else:
            _CHANGES[what](changed, key, rng)
        names.append(what)
        if not changed:
            break
    return " + ".join(names), changed, metadata


def _with(change: Any) -> Any:
    def apply(tensors: dict[str, Tensor], key: str, rng: random.Random) -> None:
        tensors[key] = change(tensors[key], rng)

    return apply


def _all(change: Any) -> Any:
    def apply(tensors: dict[str, Tensor], key: str, rng: random.Random) -> None:
        chosen = rng.random()
        for name in list(tensors):
            tensors[name] = change(tensors[name], random.Random(chosen))

    return apply


def _renamed(tensors: dict[str, Tensor], key: str, rng: random.Random) -> None:
    new = rng.choice(
        [key.upper(), key + "x", key.replace("0", "1000000"), "a." + key, "module." * 3000 + key, "module." + key, ""]
    )
    tensors[new] = tensors.pop(key)


def _prefixed(tensors: dict[str, Tensor], key: str, rng: random.Random) -> None:
    prefix = rng.choice(["module.", "_orig_mod.", "model.", "model.diffusion_model."])
    held = {prefix + name: value for name, value in tensors.items()}
    tensors.clear()
    tensors.update(held)


def _swapped(tensors: dict[str, Tensor], key: str, rng: random.Random) -> None:
    other = rng.choice(sorted(tensors))
    tensors[key], tensors[other] = tensors[other], tensors[key]


_CHANGES: Mapping[str, Any] = {
    "dropped": lambda tensors, key, rng: tensors.pop(key),
    "renamed": _renamed,
    "prefixed": _prefixed,
    "swapped": _swapped,
    "added": lambda tensors, key, rng: tensors.update(
        {rng.choice(NAMES): torch.zeros(rng.choice([(), (0,), (2, 2), (3,)]))}
    ),
    "container": lambda tensors, key, rng: tensors.update(
        {rng.choice(["state_dict", "params", "ema"]): torch.zeros(1)}
    ),
    "metadata": lambda tensors, key, rng: None,
    "turned": _with(lambda value, rng: value.mT.contiguous() if value.ndim > 1 else value),
    "scalar": _with(lambda value, rng: torch.tensor(1.0)),
    "empty": _with(lambda value, rng: value.flatten()[:0]),
    "flat": _with(lambda value, rng: value.flatten()),
    "more axes": _with(lambda value, rng: value[None] if rng.random() < 0.5 else value[..., None]),
    "shorter": _with(lambda value, rng: value[: max(0, len(value) - rng.randint(1, 3))] if value.ndim else value),
    "longer": _with(lambda value, rng: torch.cat([value, value]) if value.ndim else value),
    "cast": _with(lambda value, rng: value.to(getattr(torch, rng.choice(TYPES)))),
    "all cast": _all(lambda value, rng: value.to(getattr(torch, rng.choice(TYPES)))),
    "NaN": _with(lambda value, rng: torch.full_like(value.float(), math.nan)),
    "infinite": _with(lambda value, rng: torch.full_like(value.float(), math.inf)),
    "great": _with(lambda value, rng: value.float() * 1e30),
    "all zero": _all(lambda value, rng: torch.zeros_like(value)),
}


def odd_object(tensors: Mapping[str, Tensor], rng: random.Random) -> tuple[str, Any]:
    """What a pickle may hold in the place of a state dict, or with tensors that are none in memory."""
    key = rng.choice(sorted(tensors))
    value = tensors[key].float()

    def spoilt(tensor: Any) -> dict[str, Any]:
        return {**tensors, key: tensor}

    held: dict[str, Any] = {}
    held["model"] = held
    objects: dict[str, Any] = {
        "a list": [torch.zeros(1)],
        "a tensor": torch.zeros(3),
        "a number": 5,
        "nothing": None,
        "a text": "state_dict",
        "an empty mapping": {},
        "a list inside": {"state_dict": [1]},
        "nothing inside": {"state_dict": None},
        "numbers as keys": {1: torch.zeros(1), 2: torch.zeros(1)},
        "itself": held,
        "sparse": spoilt(value.to_sparse() if value.ndim else value),
        "meta": spoilt(value.to("meta")),
        "complex": spoilt(value.to(torch.complex64)),
        "quantized": spoilt(torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)),
        "expanded": spoilt(torch.zeros(1).expand(10**12)),
        "parameters": {name: torch.nn.Parameter(tensor.float()) for name, tensor in tensors.items()},
        "sound, twice deep": {"state_dict": {"params": dict(tensors)}},
    }
    what = rng.choice(sorted(objects))
    return what, objects[what]
