"""`python dev.py device`: the checks that need a device, in ten minutes at most, as JSON; no network is used.

Half precision against float32 on the CPU, regions at noise levels of their own in one call, halving under a cap of memory, and
the list of `dev.py fullsize` with random weights. `--cpu --small` runs it on a CPU in a minute, to see that it works.
`--here` takes this Python with its torch, without the pinned environment, and the ComfyUI of COMFYUI_PATH if that is set.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ..bench.mixed import network as plain_network
from ..env import environment as env
from ..env.steps import StepError
from . import checks, subjects
from .checks import DTYPES, Denoiser, Outcome

PARTS = ("precision", "regions", "published")


def main(argv: Sequence[str]) -> int:
    """Runs the chosen parts and writes the results; the exit code is 1 if any of them was not as expected."""
    parser = argparse.ArgumentParser(prog="dev.py device", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, even beside a GPU")
    parser.add_argument("--small", action="store_true", help="small networks and pictures")
    parser.add_argument("--here", action="store_true", help="this Python, not the pinned environment")
    parser.add_argument("--dtype", nargs="*", choices=tuple(DTYPES), help="default: fp16 and bf16, on a GPU fp32 too")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which nothing more is begun (10)")
    parser.add_argument("--out", type=Path, help="file for the JSON (default: it is printed)")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    if not options.cpu and not torch.cuda.is_available():
        raise StepError("There is no CUDA device here: run it on a machine with a GPU, or with --cpu --small.")
    device = torch.device("cpu" if options.cpu else "cuda")
    results = list(_results(options, device, perf_counter() + 60 * options.minutes))
    report = {**_facts(device, small=options.small), "results": results}
    text = json.dumps(report, indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(f"{text}\n", encoding="utf-8")
    bad = [result for result in results if not result["ok"]]
    print(f"{len(results) - len(bad)} passed, {len(bad)} failed", flush=True)
    return 1 if bad else 0


def _facts(device: torch.device, *, small: bool) -> Outcome:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version(), "small": small}


def _results(options: argparse.Namespace, device: torch.device, end: float) -> Iterator[Outcome]:
    parts = options.parts or PARTS
    dtypes = [DTYPES[name] for name in options.dtype or (("fp16", "bf16") if options.cpu else tuple(DTYPES))]

    def is_late() -> bool:
        return perf_counter() > end

    if "precision" in parts:
        for subject in subjects.subjects(small=options.small):
            yield from (_tried(checks.precision, subject, device, dtype) for dtype in dtypes if not is_late())
    base = _host(options) if {"regions", "published"} & set(parts) else None
    if "regions" in parts and not is_late():
        yield from _regions(device, dtypes, small=options.small, hosted=base is not None)
    if "published" in parts:
        yield from _published(base, options, is_late)


def _tried(check: Callable[..., Outcome], *arguments: Any, **options: Any) -> Outcome:
    """A check's outcome, or what stopped it."""
    try:
        return check(*arguments, **options)
    except (RuntimeError, TypeError, ValueError) as error:
        name = getattr(arguments[0], "name", arguments[0])
        return {"check": check.__name__, "name": name, "ok": False, "reason": f"{type(error).__name__}: {error}"}


def _host(options: argparse.Namespace) -> Path | None:
    """Enters the host; None where this Python has none."""
    if options.here and not os.environ.get("COMFYUI_PATH"):
        return None
    source = Path(os.environ["COMFYUI_PATH"]) if options.here else env.host_source(env.ensure_environment())
    return importlib.import_module("adaptivesr.tools.device.published").enter(source, cpu=options.cpu)


def _regions(device: torch.device, dtypes: Sequence[torch.dtype], *, small: bool, hosted: bool) -> Iterator[Outcome]:
    rows, cells, repeats = (4, 8, 1) if small else (8, 64, 9)
    for dtype in dtypes:
        if dtype == torch.float32 and device.type == "cuda":
            continue  # nobody samples so there
        name, denoiser = _denoiser(device, dtype, small=small, hosted=hosted)
        yield _tried(checks.mixed_levels, name, denoiser, device, dtype, rows=rows, cells=cells, repeats=repeats)
        yield _tried(checks.halving, name, denoiser, device, dtype, cells=cells)
        del denoiser
        gc.collect()


def _denoiser(device: torch.device, dtype: torch.dtype, *, small: bool, hosted: bool) -> tuple[str, Denoiser]:
    """SD 2.1's UNet of the host, small or at its own size; without a host a residual UNet of the pack."""
    if not hosted:
        plain = plain_network(str(device), dtype)
        return "residual UNet", lambda x, t: plain(x, t, x[:, :3])
    networks = importlib.import_module("adaptivesr.host.networks")
    sizes = {"model_channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_factors": (2,)}
    shape = networks.UNetShape(**(sizes | {"num_head_channels": 32, "context_dim": 64} if small else {}))
    network = networks.unet(shape, device=device, dtype=dtype).requires_grad_(False)
    draw = torch.Generator(device).manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=draw)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    words = torch.randn(1, 77, shape.context_dim, generator=torch.Generator().manual_seed(3)).to(device, dtype)
    title = "SD 2.1's UNet, small" if small else "SD 2.1's UNet"
    return title, lambda x, t: network(x, t, words.expand(len(x), -1, -1))


def _published(base: Path | None, options: argparse.Namespace, is_late: Callable[[], bool]) -> Iterator[Outcome]:
    if base is None:
        yield {"check": "published", "name": "all", "ok": True, "skipped": "no ComfyUI here: set COMFYUI_PATH"}
        return
    published: Any = importlib.import_module("adaptivesr.tools.device.published")
    small: Any = importlib.import_module("adaptivesr.tools.device.small")
    methods: Any = importlib.import_module("adaptivesr.tools.fullsize.main").METHODS
    cases = small.CASES if options.small else [case for listed in methods.values() for case in listed]
    yield from published.run(base, cases, is_late)
