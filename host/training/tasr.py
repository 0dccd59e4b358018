"""Train Time-Aware Adapter: the run that the node describes, its files, its progress and its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...imaging.degradation.presets import PRESETS
from ...models.latent_control import LatentControlConfig, join_control_file
from ...models.time_aware_adapter import TimeAwareAdapters
from ...models.time_aware_adapter_config import DESIGNS
from ...training.data import DegradedPairs
from ...training.image_folder import read_tags
from ...training.runs import train
from ...training.tasr.config import BOTH, STAGES, TasrConfig, TasrOptions
from ...training.tasr.data import PromptedPairs
from ...training.tasr.rewards import Reward, make_reward
from ...training.tasr.run import TasrRun, tasr_state, trained_tensors
from ..control.choices import EPS
from ..control.controlnet import LatentControl, control_from_weights
from ..control.parts import TimeAwarePart, adapter_part_from_weights
from .cleaner import cleaner_of
from .files import TASR, below_output, pictures_of
from .networks import precision_of
from .run import RunUnderHost, from_inputs
from .tasr_base import HostBase, base_of, check_model, fresh_adapters, trainable_controlnet


@dataclass(frozen=True)
class TrainedTimeAware:
    """What a run leaves: parts for the graph, the picture of its losses, and words."""

    control: LatentControl
    adapters: TimeAwarePart | None
    losses: Tensor
    report: dict[str, Any]


def settings_of(stage: str, inputs: Mapping[str, Any]) -> TasrConfig:
    """The config that the node's inputs mean; what is not given has its default."""
    more = {"decode_cells": inputs["decode_size"] // 8} if "decode_size" in inputs else {}
    return from_inputs(TasrConfig, inputs, stage=STAGES[stage], **more)


def texts_of(
    pictures: Sequence[Path | Tensor], positive: list[list[Any]], clip: Any
) -> tuple[list[Tensor], Tensor | None]:
    """Encoded prompts (1, L, C), one for all or one for each picture, and the empty one, for which CLIP is needed.

    With CLIP the tags of `<picture>.txt` are used where that file exists; other pictures have the positive prompt.
    """
    if not positive:
        raise ValueError("positive is empty: expected a prompt; connect CLIP Text Encode with tags, or Empty Prompt.")
    common = positive[0][0].detach().float().cpu().clone()
    if clip is None:
        return [common], None

    def encode(text: str) -> Tensor:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0].detach().float().cpu().clone()

    tags = [read_tags(picture) if isinstance(picture, Path) else None for picture in pictures]
    texts = [common if text is None else encode(text) for text in tags] if any(tags) else [common]
    return texts, encode("")


def train_time_aware(
    model: ModelPatcher,
    vae: VAE,
    source: tuple[str, Tensor | None],
    prompts: tuple[Any, Any],
    start: tuple[Any, TimeAwarePart | None],
    config: TasrConfig,
    settings: TasrOptions,
    cleaner: Any = None,
) -> TrainedTimeAware:
    """Trains, saves and returns what was learned.

    source is (folder, IMAGE), prompts are (positive, CLIP), start is (CONTROL_NET, TIME_AWARE_ADAPTER), each with None where
    nothing is connected; cleaner is an UPSCALE_MODEL for the conditions. A cancel saves the state, which can be resumed, and goes on to the host.
    """
    _check_settings(settings, config.batch)
    # What may be refused comes before the copies of the networks. A graph runs in inference mode, whose tensors cannot take
    # part in gradients: all that comes from outside is copied.
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            check_model(model, vae)
            pictures = pictures_of(*source)
            reward = _reward(config, settings)
            pairs = DegradedPairs(pictures, settings.crop, PRESETS[settings.degradation], scale=1)
            clean, cleaned_by = cleaner_of(cleaner, settings.crop)
            data = PromptedPairs(pairs, *texts_of(pictures, *prompts), clean)
            base = base_of(model, vae, precision_of(settings.precision))
        run, begun = _new_run(model, base, data, reward, start, config, settings)
        run.about += cleaned_by
        with RunUnderHost(run, TASR, settings, begun) as hosted:
            train(run, hosted.until, hosted.after_step)
        control, adapters = trained_tensors(run)
        path = TASR.save_weights(hosted.weights_name, join_control_file(control, adapters), hosted.header())
        report = hosted.report(
            below_output(path),
            reward=settings.reward if reward is not None else None,
            adapters=None if run.adapters is None else run.adapters.config.label,
        )
        part = None if adapters is None else adapter_part_from_weights(adapters)
        trained = control_from_weights(control, LatentControlConfig.from_state_dict(control), EPS)
        return TrainedTimeAware(trained, part, run.log.picture(), report)


def _reward(config: TasrConfig, settings: TasrOptions) -> Reward | None:
    if config.stage != BOTH or not config.reward_weight:
        return None
    return make_reward(settings.reward, mm.get_torch_device())


def _check_settings(settings: TasrOptions, batch: int) -> None:
    TASR.check_start(settings.name, batch, settings.crop)
    if settings.design not in DESIGNS:
        raise ValueError(f"Got the adapter size {settings.design!r}: expected one of {', '.join(DESIGNS)}.")
    if settings.crop % 64:
        raise ValueError(f"Got crops of {settings.crop} pixels: expected a multiple of 64.")


def _new_run(
    model: ModelPatcher,
    base: HostBase,
    data: PromptedPairs,
    reward: Reward | None,
    start: tuple[Any, TimeAwarePart | None],
    config: TasrConfig,
    settings: TasrOptions,
) -> tuple[TasrRun, str]:
    """A run at step 0, and where it comes from."""
    network, begun = trainable_controlnet(start[0], model)
    LatentControlConfig.from_state_dict(network.state_dict())  # refuses what could not be loaded again
    adapters = None
    if config.has_adapters:
        adapters = _adapters(model, start[1], settings.design, config.seed).to(base.device)
    label = "no adapters" if adapters is None else adapters.config.label
    parts = (f"{settings.crop} px", settings.degradation, settings.reward, settings.precision)
    about = ", ".join((*parts, f"{len(data.pairs.pictures)} pictures", label))
    state = tasr_state(config, network.to(base.device), adapters)
    return TasrRun(state, config, base, data, reward, about=about), begun


def _adapters(model: ModelPatcher, part: TimeAwarePart | None, design: str, seed: int) -> TimeAwareAdapters:
    """Fresh adapters of a design, or a copy of given ones, in float32."""
    if part is None:
        return fresh_adapters(model.model.diffusion_model, next(known for known in DESIGNS if known == design), seed)
    like = fresh_adapters(model.model.diffusion_model, part.network.config.design, seed)
    if part.network.config.inputs != like.config.inputs:
        raise ValueError(
            f"The connected adapter is made for sites of {part.network.config.inputs} channels, and this MODEL has others: "
            "connect the adapter of this base model, or none."
        )
    mm.load_models_gpu([part.patcher], force_full_load=True)
    weights = {key: value.detach().float().cpu().clone() for key, value in part.network.state_dict().items()}
    network = TimeAwareAdapters(part.network.config)
    network.load_state_dict(weights)
    return network
