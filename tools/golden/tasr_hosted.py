"""Golden checks of TASR with the host's networks: the ControlNet, and the whole of UNet, ControlNet and adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...host.control.adapter import Influence, TimeAwareControl
from ...host.control.controlnet import LatentControl
from ...host.control.parts import TimeAwarePart
from ...host.control.record import ControlRecord
from ...host.networks import EpsSampling, UNetShape, controlnet, unet
from ...models.latent_control import LatentControlConfig
from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ...sampling.control_schedule import CONSTANT, PRESETS
from .formula_weights import formula_weights, meta_of
from .vectors import NETWORK, Checks, Golden

CPU = torch.device("cpu")


class ObservedAdapters(TimeAwareAdapters):
    """Adapters that keep the maps they have given, in order of the sites."""

    def __init__(self, config: TimeAwareAdaptersConfig) -> None:
        super().__init__(config)
        self.seen: list[Tensor] = []

    def forward_site(self, *given: Any, **options: Any) -> Tensor:
        self.seen.append(super().forward_site(*given, **options))
        return self.seen[-1]


@torch.no_grad()
def check_controlnet(golden: Golden) -> None:
    sizes = meta_of(golden.path)["controlnet_small"]
    shape = UNetShape(sizes["mc"], sizes["mult"], sizes["nres"], sizes["attn"], sizes["hd"], sizes["ctx"])
    network = controlnet(shape)
    network.load_state_dict(golden.below("w."))
    LatentControlConfig.from_state_dict(golden.below("w."))  # the sizes can be read off the keys
    found = network(golden["in.z_t"], golden["in.z_lr"], golden["in.timesteps"].float(), golden["in.context"])
    for number, residual in enumerate([*found["output"], *found["middle"]]):
        golden.expect(f"out.{number}", residual, NETWORK)


@dataclass(frozen=True)
class Observed(TimeAwarePart):
    """Adapters that no host has to move."""

    observed: ObservedAdapters

    @property
    def network(self) -> ObservedAdapters:
        return self.observed


class Topology:
    """The networks of the file with their formula weights, and the pack's controls around them."""

    def __init__(self, golden: Golden) -> None:
        meta = meta_of(golden.path)
        sizes, seed = meta["tasr_topology"], meta["formula_weights"]["base_seed"]
        shape = UNetShape(sizes["mc"], sizes["mult"], 2, (1, 2, 4), sizes["hd"], sizes["ctx"])
        self.golden, self.unet, self.control = golden, unet(shape), controlnet(shape)
        pairs = [(h, s) for h, s in sizes["decoder_h_skip_channels"]]
        config = TimeAwareAdaptersConfig.for_channels("full", pairs[0][0], pairs, emb_channels=4 * sizes["mc"])
        self.adapters = ObservedAdapters(config)
        named = ((self.unet, "unet."), (self.control, "controlnet."), (self.adapters, "adapter."))
        for network, prefix in named:
            network.load_state_dict(formula_weights(network, prefix, seed))
        self.sampling = EpsSampling()
        self.config = LatentControlConfig.from_state_dict(self.control.state_dict())

    def eps(self, strength: float, *, adapters: bool = False) -> Tensor:
        """The UNet's output with the control as the pack gives it to the host; strength 0: without."""
        golden, options = self.golden, {}
        residuals = None
        if strength:
            inner = self._link(strength)
            part = Observed(None, "golden", self.adapters)
            made = TimeAwareControl(inner, Influence(PRESETS[CONSTANT], part if adapters else None), ControlRecord())
            made.begin(self.sampling)
            residuals = self._residuals(made, options)
        return self.unet(
            golden["in.z_t"],
            golden["in.timesteps"].float(),
            golden["in.context"],
            control=residuals,
            transformer_options=options,
        )

    def residuals(self) -> list[Tensor]:
        """Of the plain control: skips shallow to deep, then the middle block's."""
        found = self._residuals(self._link(1.0), {})
        return [*found["output"], *found["middle"]]

    def _link(self, strength: float) -> LatentControl:
        link = LatentControl(self.config, None, control_model=self.control, load_device=CPU)
        link.cond_hint, link.strength = self.golden["in.z_lr"], strength
        link.model_sampling_current = self.sampling
        return link

    def _residuals(self, control: Any, options: dict[str, Any]) -> Any:
        """From what a sampler of the host passes: y = z / sqrt(abar) and its noise level."""
        sigma = self.sampling.sigma(self.golden["in.timesteps"].float())
        noisy = self.golden["in.z_t"] * (1 + sigma.square()).sqrt().view(-1, 1, 1, 1)
        return control.get_control(noisy, sigma, {"c_crossattn": self.golden["in.context"]}, 1, options)


@torch.no_grad()
def check_topology(golden: Golden) -> None:
    """Twelve skips and the middle block, through the very patches that the node Time-Aware Adapter uses."""
    networks = Topology(golden)
    for number, residual in enumerate(networks.residuals()):
        golden.expect(f"control.{number}", residual, NETWORK)
    golden.expect("out.eps_no_control", networks.eps(0.0), NETWORK)
    golden.expect("out.eps_plain", networks.eps(1.0), NETWORK)
    golden.expect("out.eps_strength_half", networks.eps(0.5), NETWORK)
    golden.expect("out.eps_tasr", networks.eps(1.0, adapters=True), NETWORK)
    for site, alpha in enumerate(networks.adapters.seen):
        golden.expect(f"alpha.{site}", alpha, NETWORK)


CHECKS: Checks = {"controlnet_small": check_controlnet, "tasr_topology": check_topology}
