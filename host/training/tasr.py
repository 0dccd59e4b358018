"""Train Time-Aware Adapter: the run that the node describes, its files, its progress and its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ...models.latent_control import LatentControlConfig
from ...models.time_aware_adapter import TimeAwareAdapters
from ...models.time_aware_adapter_config import DESIGNS, Design
from ...training.image_folder import read_tags
from ...training.loss_log import LossLog
from ...training.runs import resume_run
from ...training.tasr import run as tasr
from ...training.tasr.config import BOTH, CONTROL, TasrConfig
from ...training.tasr.data import DegradedCrops
from ...training.tasr.rewards import CLIP_IQA, Reward, make_reward
from ..control.controlnet import EPS, LatentControl, control_from_weights
from ..control.parts import TimeAwarePart, adapter_part_from_weights
from .files import START_ANEW, check_name, pictures_of
from .run import ends_of, train_under_host
from .tasr_base import HostBase, base_of, check_model, fresh_adapters, trainable_controlnet
from .tasr_files import FILES, save_weights

STAGES = {"stage II": BOTH, "stage I": CONTROL}
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class TrainSettings:
    """What the node's widgets say beyond `TasrConfig`."""

    steps: int
    """Optimiser steps of this execution, on top of those of a resumed run."""
    name: str = "tasr_adapter"
    resume: str = START_ANEW
    design: str = "lite"
    reward: str = CLIP_IQA
    crop: int = 512
    precision: str = "bfloat16"
    save_every: int = 500


@dataclass(frozen=True)
class Trained:
    """What a run leaves: parts for the graph, the picture of its losses, and words."""

    control: LatentControl
    adapters: TimeAwarePart | None
    losses: Tensor
    report: dict[str, Any]


def settings_of(stage: str, steps: int, inputs: Mapping[str, Any]) -> tuple[TasrConfig, TrainSettings]:
    """The settings that the node's inputs mean; what is not given has its default."""
    default, own = TasrConfig(), TrainSettings(steps)
    config = TasrConfig(
        stage=STAGES[stage],
        batch=inputs.get("batch_size", default.batch),
        lr=inputs.get("learning_rate", default.lr),
        seed=inputs.get("seed", default.seed),
        adapter_every=inputs.get("adapter_every", default.adapter_every),
        l1_weight=inputs.get("l1_weight", default.l1_weight),
        reward_weight=inputs.get("reward_weight", default.reward_weight),
        pull_weight=inputs.get("alpha_pull", default.pull_weight),
        x0_formula=inputs.get("x0_formula", default.x0_formula),
        prompt_dropping=inputs.get("prompt_dropping", default.prompt_dropping),
        decode_cells=inputs.get("decode_size", 8 * default.decode_cells) // 8,
    )
    return config, TrainSettings(
        steps,
        name=inputs.get("name", own.name),
        resume=inputs.get("resume", own.resume),
        design=inputs.get("adapter_size", own.design),
        reward=inputs.get("reward", own.reward),
        crop=inputs.get("crop_size", own.crop),
        precision=inputs.get("precision", own.precision),
        save_every=inputs.get("save_every", own.save_every),
    )


def describe(report: Mapping[str, Any]) -> str:
    """A line for the user."""
    losses = ", ".join(f"{name} {first:.4g} to {last:.4g}" for name, (first, last) in report["losses"].items())
    return f"Step {report['steps']}, from {report['started_from']}: {losses}. Saved as {report['file']}."


def texts_of(pictures: Sequence[Path | Tensor], positive: Any, clip: Any) -> tuple[list[Tensor], Tensor | None]:
    """Encoded prompts (1, L, C), one for all or one for each picture, and the empty one, for which CLIP is needed.

    With CLIP the tags of `<picture>.txt` are used where that file exists; other pictures have the positive prompt.
    """
    if not positive:
        raise ValueError("positive is empty: expected a prompt; connect CLIP Text Encode with tags, or Empty Prompt.")
    common = positive[0][0].detach().float().cpu().clone()
    if clip is None:
        return [common], None
    encode: Callable[[str], Tensor] = lambda text: (  # noqa: E731
        clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0].detach().float().cpu().clone()
    )
    tags = [read_tags(picture) if isinstance(picture, Path) else None for picture in pictures]
    texts = [common if text is None else encode(text) for text in tags] if any(tags) else [common]
    return texts, encode("")


def train_time_aware(
    model: Any,
    vae: Any,
    source: tuple[str, Tensor | None],
    prompts: tuple[Any, Any],
    start: tuple[Any, TimeAwarePart | None],
    config: TasrConfig,
    settings: TrainSettings,
) -> Trained:
    """Trains, saves and returns what was learned.

    source is (folder, IMAGE), prompts are (positive, CLIP), start is (CONTROL_NET, TIME_AWARE_ADAPTER), each with None where
    nothing is connected. A cancel saves the state, which can be resumed, and goes on to the host.
    """
    _check_settings(settings)
    # What may be refused comes before the copies of the networks. A graph runs in inference mode, whose tensors cannot take
    # part in gradients: all that comes from outside is copied.
    with torch.inference_mode(False):
        with torch.no_grad():
            check_model(model, vae)
            pictures = pictures_of(*source)
            reward = _reward(config, settings)
            data = DegradedCrops(pictures, settings.crop, *texts_of(pictures, *prompts))
            base = base_of(model, vae, PRECISIONS[settings.precision])
        with torch.enable_grad():
            run, words = _new_run(model, base, data, start, config, settings)
            run.reward = reward
            return _finished(run, words, settings)


def _reward(config: TasrConfig, settings: TrainSettings) -> Reward | None:
    if config.stage != BOTH or not config.reward_weight:
        return None
    return make_reward(settings.reward, mm.get_torch_device())


def _check_settings(settings: TrainSettings) -> None:
    check_name(settings.name)
    if settings.design not in DESIGNS:
        raise ValueError(f"Got the adapter size {settings.design!r}: expected one of {', '.join(DESIGNS)}.")
    if settings.crop % 64:
        raise ValueError(f"Got crops of {settings.crop} pixels: expected a multiple of 64.")


def _new_run(
    model: Any,
    base: HostBase,
    data: DegradedCrops,
    start: tuple[Any, TimeAwarePart | None],
    config: TasrConfig,
    settings: TrainSettings,
) -> tuple[tasr.Run, str]:
    """A run at step 0, or where the resumed one stopped, and where it comes from."""
    network, words = trainable_controlnet(start[0], model)
    LatentControlConfig.from_state_dict(network.state_dict())  # refuses what could not be loaded again
    adapters = None
    if config.stage == BOTH:
        adapters = _adapters(model, start[1], settings.design, config.seed)
    state = tasr.new_state(config, network.to(base.device), None if adapters is None else adapters.to(base.device))
    about = f"{settings.crop} px, {settings.reward}, {settings.precision}, {len(data.pictures)} pictures, "
    about += "no adapters" if adapters is None else adapters.config.label
    run = tasr.Run(config, base, data, None, state, LossLog(), about)
    if settings.resume != START_ANEW:
        resume_run(run, FILES.state_path(settings.resume))
        words = f"the run {settings.resume}"
    return run, words


def _adapters(model: Any, part: TimeAwarePart | None, design: str, seed: int) -> TimeAwareAdapters:
    """Fresh adapters of a design, or a copy of given ones, in float32."""
    if part is None:
        return fresh_adapters(model.model.diffusion_model, _design(design), seed)
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


def _design(name: str) -> Design:
    return next(design for design in DESIGNS if design == name)


def _finished(run: tasr.Run, words: str, settings: TrainSettings) -> Trained:
    """Trains to the end and saves; a cancel or an error saves the state only."""
    name = FILES.free_name(settings.name)
    train_under_host(run, tasr.train, settings.steps, settings.save_every, FILES.state_path(name))
    control, adapters = tasr.trained_tensors(run)
    recipe = {"recipe": run.config.text(about=run.about), "steps": str(run.state.step)}
    file = save_weights(f"{name}_{run.state.step}_steps", control, adapters, recipe)
    report = {
        "file": file,
        "resume": name,
        "started_from": words,
        "steps": run.state.step,
        "losses": ends_of(run.log),
        "reward": settings.reward if run.reward is not None else None,
        "adapters": None if run.adapters is None else run.adapters.config.label,
    }
    part = None if adapters is None else adapter_part_from_weights(adapters)
    trained = control_from_weights(control, LatentControlConfig.from_state_dict(control), EPS)
    return Trained(trained, part, run.log.picture(), report)
