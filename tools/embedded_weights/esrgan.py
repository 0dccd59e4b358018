"""Real-ESRGAN x4plus (Wang et al. 2021, BSD-3-Clause) out of ncnn files, with the keys that spandrel knows as ESRGAN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from .warm_start import read_layers

BLOCKS, DENSE, LAYERS = 23, 3, 5
"""Of RRDBNet (Wang et al. 2018, ESRGAN, section 3.1): blocks, dense blocks in each, convolutions in each."""


def esrgan_state(param: Path, binary: Path) -> dict[str, Tensor]:
    """RRDBNet's state from ncnn files, whose layers stand in the order of the call."""
    layers, names = read_layers(param, binary).convolutions, list(esrgan_names())
    if len(layers) != len(names):
        raise ValueError(f"{param.name} has {len(layers)} convolutions: expected RRDBNet's {len(names)}.")
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, layers, strict=True):
        state |= {f"{name}.weight": weight.contiguous(), f"{name}.bias": bias}
    return state


def esrgan_names() -> Iterator[str]:
    """RRDBNet's convolutions in the order of the call."""
    yield "conv_first"
    for block in range(BLOCKS):
        for dense in range(1, DENSE + 1):
            for layer in range(1, LAYERS + 1):
                yield f"body.{block}.rdb{dense}.conv{layer}"
    yield from ("conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")


def enlarger(stem: Path) -> nn.Module:
    """The network of a pair of ncnn files, named without their endings: (B, 3, h, w) in [0, 1] to (B, 3, 4 h, 4 w)."""
    from spandrel import ModelLoader  # noqa: PLC0415  it takes seconds

    state = esrgan_state(stem.with_suffix(".param"), stem.with_suffix(".bin"))
    return ModelLoader().load_from_state_dict(state).model.eval()
