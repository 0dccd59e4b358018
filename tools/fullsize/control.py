"""DiffBIR and TASR on SD 2.1, the adapters of every design, and the training-free schedule on SD 1.5's tile ControlNet."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.latent_control import join_control_file
from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ..device.subjects import SD21_DECODER
from .bench import Bench, Case
from .regions import canvas, sample, unet_model
from .sd import apply_control, load_controlnet, load_vae, text
from .weights import like, listed

SIZE = (1048, 744)


def _file(bench: Bench, design: str | None) -> dict[str, Tensor]:
    """A ControlNet's file, with adapters of a design or without."""
    found = listed(bench.recorder, "diffbir_controlnet")
    if design is None:
        return found
    config = TimeAwareAdaptersConfig.for_channels(design, 1280, SD21_DECODER)  # pyright: ignore[reportArgumentType]
    adapters = like(bench.recorder, lambda: TimeAwareAdapters(config), torch.float32)
    return dict(join_control_file(found, adapters))


def controlled(bench: Bench, design: str | None, schedule: str | None, *, cfg: float = 4.5) -> None:
    """A DiffBIR-type ControlNet in the region sampler, with gates of a design."""
    name = "diffbir_v2.pth" if design is None else f"tasr_{design}.ckpt"
    bench.files.put("controlnet", name, lambda: _file(bench, design))
    inputs = {"control_name": name, "adapter_name": "(from the ControlNet file)"}
    control, adapter, _ = bench.load("AdaptiveSRLoadTimeAwareControlNet", **inputs)
    bench.watch("ControlNet", control.control_model, marks=False)
    if schedule is not None:
        inputs = {"control_net": control, "schedule": schedule, "preset": "soft", "adapter": adapter}
        control = bench.load("AdaptiveSRTimeAwareAdapter", **inputs)[0]
    model = unet_model(bench, "SD 2.1", beside=None if adapter is None else adapter.network)
    vae = load_vae(bench.recorder)
    width, height = SIZE
    picture = torch.rand(1, height, width, 3)
    positive, negative = apply_control((text(model), text(model)), control, picture, vae)
    title = f"TASR, {design} adapters, {schedule}" if design else f"DiffBIR{f', {schedule}' if schedule else ''}"
    sample(
        bench,
        f"{title}, {width}x{height}",
        model,
        canvas(width, height),
        positive=positive,
        negative=negative,
        cfg=cfg,
        denoise=1.0,
    )


def diffbir(bench: Bench) -> None:
    controlled(bench, None, None)


def tasr_full(bench: Bench) -> None:
    controlled(bench, "full", "trained")


def tasr_lite(bench: Bench) -> None:
    controlled(bench, "lite", "both")


def tasr_paper(bench: Bench) -> None:
    controlled(bench, "paper", "trained")


def training_free(bench: Bench) -> None:
    """The schedule on an ordinary ControlNet, level by level."""
    model, control = unet_model(bench, "SD 1.5"), load_controlnet(bench.recorder, "SD 1.5", bench.half)
    bench.watch("ControlNet", control.control_model, marks=False)
    inputs = {"control_net": control, "schedule": "training-free", "preset": "soft", "per_site": True}
    timed = bench.load("AdaptiveSRTimeAwareAdapter", **inputs)[0]
    width, height = SIZE
    both = apply_control((text(model), text(model)), timed, torch.rand(1, height, width, 3))
    sample(
        bench,
        f"SD 1.5, tile ControlNet, training-free, {width}x{height}",
        model,
        canvas(width, height),
        positive=both[0],
        negative=both[1],
        denoise=1.0,
    )


quick = tasr_lite
"""What the default tests run."""
CASES: tuple[Case, ...] = (diffbir, tasr_full, tasr_lite, tasr_paper, training_free)
