"""Chains of the embedded base under its ControlNet, inside of the host; only to be imported once the host can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....host.conditioning import empty_prompt
from ....host.control.adapter import Influence, make_time_aware
from ....host.control.parts import adapter_part_from_weights
from ....host.files import read_file
from ....host.latent_base import load_latent_base
from ....host.standalone import euler_chain
from ....host.training.tasr import train_time_aware
from ....models.latent_control import split_control_file
from ....sampling.control_schedule import CONSTANT, OFF_LATE, PRESETS
from ....training.tasr.config import BOTH, TasrConfig, TasrOptions
from ...train.tasr_recipe import load_control

PLAIN, FREE = "no adapter", "training-free (off_late)"


@dataclass(frozen=True)
class Controls:
    """The base, and CONTROL_NETs for it by name; `trained` has the record of the gates that it used last."""

    model: Any
    vae: Any
    controls: Mapping[str, Any]

    def sample(self, kind: str, picture: Tensor, seed: int, steps: int, active: int) -> Tensor:
        """The chain's picture (1, 3, H, W) in [0, 1] under an enlarged LR picture of that size; the ControlNet is active in the first `active` steps."""
        cells = [side // self.vae.spacial_compression_encode() for side in picture.shape[2:]]
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((1, self.vae.latent_channels, *cells), generator=generator)
        plain = empty_prompt(self.model)
        control = self.controls[kind].copy().set_cond_hint(picture, 1.0, (0.0, 1.0), vae=self.vae)
        steered = [[plain[0][0], {**plain[0][1], "control": control, "control_apply_to_uncond": True}]]
        latent = euler_chain(self.model, noise, [(steered, active), (plain, steps - active)], plain, seed)
        return self.vae.decode(latent).movedim(-1, 1).clamp(0, 1)

    def gates(self, kind: str) -> dict[str, Any]:
        """Mean gates by site and timestep of the last chain."""
        return self.controls[kind].record.summary()


def loaded(base: Path, control: Path) -> tuple[Any, Any, Any, Any]:
    """MODEL, VAE, CONTROL_NET and adapters (None without) of two files."""
    model, vae = load_latent_base(str(base))
    adapters = split_control_file(read_file(str(control))).adapters
    part = None if adapters is None else adapter_part_from_weights(adapters)
    return model, vae, load_control(control, small=False), part


def controls_of(base: Path, control: Path) -> Controls:
    """The ControlNet of a file alone, by the training-free schedule, and by its own adapters where it has any."""
    model, vae, network, adapters = loaded(base, control)
    found = {PLAIN: network, FREE: make_time_aware(network, Influence(PRESETS[OFF_LATE]))}
    if adapters is not None:
        found["trained"] = make_time_aware(network, Influence(PRESETS[CONSTANT], adapters))
    return Controls(model, vae, found)


def trained_controls(
    base: Path, control: Path, images: str, variants: Mapping[str, Mapping[str, Any]], seed: int, options: Any
) -> Controls:
    """Stage II from one ControlNet of stage I, once for each variant (fields of TasrConfig, and `design`)."""
    model, vae, network, _ = loaded(base, control)
    found: dict[str, Any] = {PLAIN: network, FREE: make_time_aware(network, Influence(PRESETS[OFF_LATE]))}
    for name, changes in variants.items():
        chosen = {key: value for key, value in changes.items() if key != "design"}
        rhythm = {"batch": options.batch, "lr": options.lr, "adapter_every": options.adapter_every}
        config = TasrConfig(stage=BOTH, seed=seed, **rhythm, **chosen)
        settings = TasrOptions(
            options.train_steps, "bench", crop=64, degradation="mild", precision="float32",
            design=changes.get("design", "lite"), reward=options.reward,
        )  # fmt: skip
        made = train_time_aware(
            model, vae, (images, None), (empty_prompt(model), None), (network, None), config, settings
        )
        influence = Influence(PRESETS[CONSTANT], made.adapters)
        found[name] = made.control if made.adapters is None else make_time_aware(made.control, influence)
    return Controls(model, vae, found)


def gate_rows(summary: Mapping[str, Any], every: int) -> list[tuple[str, Sequence[float]]]:
    """Gates by site at every n-th timestep."""
    return [(site, values[::every]) for site, values in summary["sites"].items()]
