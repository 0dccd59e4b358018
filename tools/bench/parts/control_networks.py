"""Networks of SD 2.1's size with random weights, and the pack's controls around them; imported where the host is importable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ....host.control.adapter import Influence, TimeAwareControl
from ....host.control.controlnet import LatentControl
from ....host.control.parts import TimeAwarePart
from ....host.control.record import ControlRecord
from ....host.networks import EpsSampling, UNetShape, controlnet, unet
from ....models.latent_control import LatentControlConfig
from ....models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ....sampling.control_schedule import CONSTANT, OFF_LATE, PRESETS

TOKENS = 77


@dataclass(frozen=True)
class LoadedAdapters(TimeAwarePart):
    """Adapters that are on the device already."""

    loaded: TimeAwareAdapters

    @property
    def network(self) -> TimeAwareAdapters:
        return self.loaded


class ControlledUNet:
    """One evaluation of the UNet under each kind of control, as the host makes it."""

    def __init__(
        self, shape: UNetShape, cells: int, rows: int, device: str, dtype: torch.dtype, *, full: bool = True
    ) -> None:
        """full: with the full adapters, 3 GB in float32 beside 5 GB of UNet and ControlNet."""
        self.device, self.dtype = torch.device(device), dtype
        factory: dict[str, Any] = {"device": self.device, "dtype": dtype}
        self.unet, self.control = filled(unet(shape, **factory)), filled(controlnet(shape, **factory))
        self.sampling = EpsSampling().to(self.device)
        draw = torch.Generator().manual_seed(1)
        self.x = torch.randn(rows, 4, cells, cells, generator=draw).to(self.device, dtype)
        self.text = torch.randn(rows, TOKENS, shape.context_dim, generator=draw).to(self.device, dtype)
        self.hint = torch.randn(1, 4, cells, cells, generator=draw).to(self.device, dtype)
        self.config = LatentControlConfig.from_state_dict(self.control.state_dict())
        adapters = {design: self._adapters(shape, design) for design in ("lite", "full")[: 1 + full]}
        self.weights = {"UNet": self.unet, "ControlNet": self.control, **{k: v.network for k, v in adapters.items()}}
        constant = PRESETS[CONSTANT]
        self.controls = {
            "ControlNet": self._made(Influence(constant)),
            "lite adapters": self._made(Influence(constant, adapters["lite"])),
            "training-free": self._made(Influence(PRESETS[OFF_LATE])),
        }
        if full:
            self.controls["full adapters"] = self._made(Influence(constant, adapters["full"]))
            self.controls["full, off late"] = self._made(Influence(PRESETS[OFF_LATE], adapters["full"]))

    def _adapters(self, shape: UNetShape, design: Any) -> LoadedAdapters:
        pairs = decoder_channels(self.unet, shape)
        config = TimeAwareAdaptersConfig.for_channels(design, pairs[0][0], pairs, emb_channels=4 * shape.model_channels)
        network = filled(TimeAwareAdapters(config, device=self.device, dtype=self.dtype))
        return LoadedAdapters(None, design, network)

    def _made(self, influence: Influence) -> TimeAwareControl:
        link = LatentControl(self.config, None, control_model=self.control, load_device=self.device)
        link.cond_hint, link.model_sampling_current = self.hint, self.sampling
        made = TimeAwareControl(link, influence, ControlRecord())
        made.begin(self.sampling)
        return made

    def call(self, kind: str, timestep: int) -> Callable[[], Tensor]:
        """A function that runs one evaluation; kind "no control" leaves the ControlNet out."""
        control = self.controls.get(kind)
        times = torch.full((len(self.x),), float(timestep), device=self.device)
        sigma = self.sampling.sigma(times)
        noisy = self.x * (1 + sigma.square()).sqrt().view(-1, 1, 1, 1).to(self.dtype)

        def run() -> Tensor:
            options: dict[str, Any] = {}
            found = None
            if control is not None:
                found = control.get_control(noisy, sigma, {"c_crossattn": self.text}, 1, options)
            return self.unet(self.x, times, self.text, control=found, transformer_options=options)

        return run


def decoder_channels(network: nn.Module, shape: UNetShape) -> list[tuple[int, int]]:
    """(decoder feature, skip) in front of every decoder block, deepest first."""
    base, skips = shape.model_channels, [shape.model_channels]
    for level, factor in enumerate(shape.channel_mult):
        skips += [base * factor] * shape.num_res_blocks
        if level < len(shape.channel_mult) - 1:
            skips.append(base * factor)
    blocks: Any = network.get_submodule("output_blocks")
    return [(block[0].channels - skip, skip) for block, skip in zip(blocks, reversed(skips))]


def filled(network: Any) -> Any:
    """Weights U(-1, 1) / sqrt(fan in): nothing learned, and nothing that overflows or vanishes."""
    generator = torch.Generator(next(network.parameters()).device).manual_seed(0)
    for name, parameter in network.requires_grad_(False).named_parameters():
        if parameter.ndim > 1:
            bound = parameter[0].numel() ** -0.5
            parameter.uniform_(-bound, bound, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return network.eval()
