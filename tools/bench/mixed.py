"""`dev.py bench mixed`: one call for B regions at B noise levels against one call at equal levels, and against B calls.

The network knows the time (a residual UNet of the pack with random weights). The goal is a ratio of at most 1.02 to the call at
equal levels, in the median over the row counts. Calls are taken in turns, and ratios are medians over the turns, so that other work on the machine does not decide.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from ...models.residual_unet import ResidualUNet
from ...models.residual_unet_config import ResidualUNetConfig
from ...models.swin import SwinConfig
from .parts.report import write_report

GOAL = 1.02
TILE = 32
WIDTHS = (64, 128, 128)


def network(device: str, dtype: torch.dtype) -> ResidualUNet:
    """A UNet without attention whose blocks are scaled and shifted by the time."""
    config = ResidualUNetConfig(
        latent_channels=4,
        model_channels=WIDTHS[0],
        channels=WIDTHS,
        blocks=(2,) * len(WIDTHS),
        has_swin=(False,) * len(WIDTHS),
        swin=SwinConfig(embed_dim=64, depth=2, heads=2, window=8, mlp_hidden=128),
        condition_stages=0,
        has_mask=False,
    )
    unet, draw = ResidualUNet(config).eval(), torch.Generator().manual_seed(0)
    for parameter in unet.parameters():
        values = torch.randn(parameter.shape, generator=draw) * parameter[0].numel() ** -0.5
        parameter.data = values if parameter.ndim > 1 else torch.ones_like(parameter)
    return unet.to(device, dtype)


def turns(repeats: int, calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each call in every turn; every other turn goes backwards, so that none always comes after the same one."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            _wait()
            started = perf_counter()
            calls[name]()
            _wait()
            seconds[name].append(perf_counter() - started)
    return seconds


def ratio(above: list[float], below: list[float]) -> float:
    """Median over the turns of one call's seconds over another's."""
    return median(a / b for a, b in zip(above, below))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@torch.no_grad()
def measure(rows: int, repeats: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Seconds per kind of call and the largest difference between one call and one by one, relative to the largest value."""
    unet, draw = network(device, dtype), torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, TILE, TILE, generator=draw).to(device, dtype)
    lq = torch.rand(rows, 3, TILE, TILE, generator=draw).to(device, dtype)
    mixed = torch.linspace(0, 999, rows, device=device)
    equal = torch.full_like(mixed, 500.0)

    def one_by_one() -> Tensor:
        return torch.cat([unet(x[i : i + 1], mixed[i : i + 1], lq[i : i + 1]) for i in range(rows)])

    together, alone = unet(x, mixed, lq), one_by_one()
    calls = {"equal": lambda: unet(x, equal, lq), "mixed": lambda: unet(x, mixed, lq), "one_by_one": one_by_one}
    seconds = turns(repeats, calls)
    return {
        **{name: median(values) for name, values in seconds.items()},
        "mixed_over_equal": ratio(seconds["mixed"], seconds["equal"]),
        "one_by_one_over_mixed": ratio(seconds["one_by_one"], seconds["mixed"]),
        "difference": float((together - alone).abs().max() / alone.abs().max()),
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench mixed", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=9, help="turns at 16 rows; fewer rows get more")
    options = parser.parse_args(argv)
    on_gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.float16) if on_gpu else ("cpu", torch.float32)
    found = {rows: measure(rows, options.repeats * max(1, 16 // rows), device, dtype) for rows in options.rows}
    lines = [
        f"Tiles of {TILE} x {TILE} cells, {str(dtype).removeprefix('torch.')}.",
        "",
        "| rows | ms, equal levels | ms, mixed levels | mixed / equal | ms, one by one | one by one / mixed | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for rows, row in found.items():
        equal, mixed, alone = (1000 * row[name] for name in ("equal", "mixed", "one_by_one"))
        lines.append(
            f"| {rows} | {equal:.2f} | {mixed:.2f} | {row['mixed_over_equal']:.3f} | {alone:.2f} | {row['one_by_one_over_mixed']:.2f} | "
            f"{row['difference']:.0e} |"
        )
    write_report("mixed", {"tile": TILE, "rows": found}, lines)
    # single rows scatter by several per cent on a shared machine, to both sides
    return 0 if median(row["mixed_over_equal"] for row in found.values()) <= GOAL else 1
