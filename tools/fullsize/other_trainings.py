"""The trainings of one-step networks, of time-aware ControlNets and of AdaDiffSR's two parts: a step at published size.

What runs before the steps without gradients, or on real pictures, is not counted: the trajectories of Train MMLE and their
metrics, trials of a student. CLIP-IQA is pyiqa's network with CLIP's sizes and no values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.feature_injection import Pfj
from ...models.gain_models import MetricInfo
from ...models.gain_regressor import Mmle
from ...models.latent_control import LatentControlConfig
from ...models.residual_unet import ResidualUNet
from ...models.residual_unet_config import ResidualUNetConfig
from ...models.vq_autoencoder import VQAutoencoder, VQConfig
from ...sampling.adaptive.gain import GainMetric
from ...sampling.tiled.residual_shift_presets import RESSHIFT_15, RESSHIFT_FACE, Preset, schedule
from ...training.gains.config import PAPER, GainOptions, MmleTrainConfig, PfjTrainConfig
from ...training.gains.mmle import new_mmle_run
from ...training.gains.pfj import new_pfj_run
from ...training.gains.sizes import injector_config, regressor_config
from ...training.tad_sr.base import LatentModel, VQLatents
from ...training.tad_sr.config import DistillSettings, paper_settings, variant
from ...training.tad_sr.distillation import DistillRun, distill_state
from ...training.tasr.config import TasrConfig, TasrOptions
from ...training.tasr.rewards import CLIP_FILE, clip_iqa
from ...training.tasr.run import TasrRun, tasr_state
from ...training.tasr.steps import PromptedBatch
from .device import run_node
from .meter import metering
from .recorder import patched
from .sd import load_model, load_vae, text, unet_weights
from .trainings import CPU, PRECISIONS, TEXT, FakeRun, Pictures, StepResult, frozen, host
from .weights import Files, listed


class Shapes:
    """Makes the tensors of files, in the place of a recorder."""

    def tensor(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Without values."""
        return torch.empty(tuple(shape), dtype=dtype)


# One-step distillation


@dataclass(frozen=True)
class Published:
    """A teacher: lists of keys of its denoiser and autoencoder, its schedule, and its latent channels."""

    denoiser: str
    autoencoder: str
    preset: Preset
    channels: int


X4 = Published("resshift_x4", "vq_f4", RESSHIFT_15, 3)
FACE = Published("resshift_face", "vq_f8_face", RESSHIFT_FACE, 8)


def distillation(settings: DistillSettings, published: Published, crop: int) -> FakeRun:
    """Distill One-Step SR, in float32 beside an autoencoder in bfloat16."""
    teacher = ResidualUNet(ResidualUNetConfig.from_state_dict(listed(Shapes(), published.denoiser)))
    coder = VQAutoencoder(VQConfig.from_state_dict(listed(Shapes(), published.autoencoder))).to(torch.bfloat16).eval()
    model = LatentModel(teacher, schedule(published.preset), VQLatents(coder))
    state = distill_state(model, copy.deepcopy(teacher), settings)
    return FakeRun(DistillRun(state, settings, model, Pictures(crop, published.preset.scale)), [teacher, coder])


def count_distillation(name: str, published: Published, **changes: Any) -> StepResult:
    """A step of TAD-SR at the paper's settings; of a batch in parts, two parts are counted."""
    paper: dict[str, Any] = {**paper_settings(published.channels)}
    known = {each.name for each in fields(DistillSettings)}
    chosen = {key: value for key, value in {**paper, **changes}.items() if key in known}
    settings = variant("TAD-SR", replace(DistillSettings(), **chosen))
    few = replace(settings, batch=min(settings.batch, 2 * (settings.microbatch or settings.batch)))
    with metering() as meter:
        meter.whole = published.preset.num_steps - 1  # the index at which the student starts
        found = distillation(few, published, paper["crop"]).step(meter, name, "float32")
    return replace(found, flop=found.flop * settings.batch / few.batch)


# TASR

CLIP_RN50: dict[str, Any] = {
    "embed_dim": 1024, "image_resolution": 224, "vision_layers": (3, 4, 6, 3), "vision_width": 64, "vision_patch_size": None,
    "context_length": 77, "vocab_size": 49408, "transformer_width": 512, "transformer_heads": 8, "transformer_layers": 12,
}  # fmt: skip
"""What CLIP's file says of the network in CLIP-IQA."""
ADAPTERS, CONTROLNET = 0, 1
"""Steps at which these learn."""


class Prompted:
    """Crops and prompts without values."""

    def __init__(self, side: int) -> None:
        self._side = side

    def batch(self, generator: torch.Generator, size: int) -> PromptedBatch:
        picture = torch.empty(size, 3, self._side, self._side)
        return PromptedBatch(picture, torch.empty_like(picture), torch.empty(size, *TEXT[1:]), torch.empty(TEXT))


def time_aware(config: TasrConfig, options: TasrOptions) -> FakeRun:
    """Train Time-Aware Adapter, stage II."""
    bases, networks = host("adaptivesr.host.training.tasr_base"), host("adaptivesr.host.networks")
    base = frozen(bases.HostBase, options.precision)
    sizes = LatentControlConfig.from_state_dict(listed(Shapes(), "diffbir_controlnet"))
    control = networks.controlnet(sizes.arguments(), dtype=torch.float32, device="cpu").requires_grad_(True)
    adapters = bases.fresh_adapters(base.networks()[0], options.design, config.seed)
    clip: nn.Module = host("pyiqa.archs.clip_model").CLIP(**CLIP_RN50).eval()
    with patched(host("pyiqa.archs.clipiqa_arch"), load=lambda backbone, device: clip):
        reward = clip_iqa(Path(CLIP_FILE), CPU)
    state = tasr_state(config, control, adapters)
    return FakeRun(TasrRun(state, config, base, Prompted(options.crop), reward), [*base.networks(), clip])


def count_time_aware(name: str, learner: int, design: str = "lite") -> StepResult:
    """A step of TASR at the node's defaults in which that network learns."""
    options = TasrOptions(1, design=design)
    with metering() as meter:
        bench = time_aware(TasrConfig(), options)
        bench.run.state.step = learner
        return bench.step(meter, name, options.precision)


# AdaDiffSR

METRICS = ("psnr", "nlpd", "gmsd", "sharpness", "musiq", "maniqa")
CALLS = 40


@dataclass(frozen=True)
class Cached:
    """Trajectories without values, of latents (4, side, side)."""

    side: int
    count: int = 8

    def __len__(self) -> int:
        return self.count

    @property
    def scores(self) -> Tensor:
        """(N, n, M)."""
        return torch.empty(self.count, CALLS, len(METRICS))

    def latents(self, trajectory: Sequence[int], index: Sequence[int]) -> Tensor:
        return torch.empty(len(trajectory), 4, self.side, self.side)

    def references(self, trajectory: Sequence[int]) -> Tensor:
        return torch.empty(len(trajectory), 4, self.side, self.side)


def count_mmle(name: str) -> StepResult:
    """A step of Train MMLE at the node's defaults: the base is not there, its predictions are cached."""
    config, options = MmleTrainConfig(), GainOptions(1)
    metrics = tuple(GainMetric(metric, 0.0, 1.0) for metric in METRICS)
    times = [999.0 - 999.0 * place / CALLS for place in range(CALLS)]
    with metering() as meter:
        network = Mmle(regressor_config(PAPER, 4, len(metrics)))
        cached: Any = Cached(options.crop // 8)
        run = new_mmle_run(config, network, cached, metrics, times, CPU)
        return FakeRun(run, []).step(meter, name, "float32")


def pfj(config: PfjTrainConfig, options: GainOptions, base_folder: Path) -> FakeRun:
    """Train PFJ on SD 2.1 with StableSR's parts, as their nodes give it."""
    bases = host("adaptivesr.host.training.gains_base")
    files = Files(Shapes(), base_folder)
    files.put_list("stablesr", "stablesr_000117.ckpt", "stablesr_512")
    with files.readable():
        parts = run_node("AdaptiveSRLoadStableSR", model_name="stablesr_000117.ckpt")[0]
    model, vae = load_model(unet_weights(Shapes(), "SD 2.1")), load_vae(Shapes())
    latent = {"samples": torch.empty(1, 4, 64, 64)}
    inputs = {"model": model, "positive": text(model), "negative": text(model), "stablesr": parts, "lr_latent": latent}
    guided = run_node("AdaptiveSRStableSRApply", **inputs)[0]
    chain, precision = bases.ChainSettings(options.calls), PRECISIONS[options.precision]
    base = bases.HostGainBase(guided, vae, text(model), chain, precision)
    infos = [MetricInfo(metric, 0.0, 1.0, False, True, 1 / len(METRICS)) for metric in METRICS]
    regressor = Mmle(regressor_config(PAPER, 4, len(METRICS)))
    network = Pfj(injector_config(PAPER, base.condition_channels, len(METRICS)))
    run = new_pfj_run(config, base, Pictures(options.crop, base.scale), regressor, infos, 500.0, network)
    return FakeRun(run, [base._model.diffusion_model, base._parts, base._autoencoder.network, regressor])


def count_pfj(name: str, base_folder: Path, precision: str, **changes: Any) -> StepResult:
    """A step of Train PFJ at the node's defaults, or with changes of them."""
    options = GainOptions(1, precision=precision)
    with metering() as meter:
        return pfj(replace(PfjTrainConfig(), **changes), options, base_folder).step(meter, name, precision)


def plans(base_folder: Path) -> Iterator[Callable[[], StepResult]]:
    """Every row of the table: the nodes' defaults, the papers' presets, and what fits less memory."""
    yield lambda: count_distillation("Distill One-Step SR: x4, paper, 8 at once", X4)
    yield lambda: count_distillation("Distill One-Step SR: x4, paper, 8 in parts of 1", X4, microbatch=1)
    yield lambda: count_distillation("Distill One-Step SR: faces, paper, 7 in parts of 1", FACE, microbatch=1)
    yield lambda: count_time_aware("Train Time-Aware Adapter: default, batch 4, the adapters' turn", ADAPTERS)
    yield lambda: count_time_aware("Train Time-Aware Adapter: default, batch 4, the ControlNet's turn", CONTROLNET)
    yield lambda: count_time_aware("Train Time-Aware Adapter: full adapters, their turn", ADAPTERS, "full")
    yield lambda: count_mmle("Train MMLE: default, batch 64")
    yield lambda: count_pfj("Train PFJ: on StableSR, default, batch 16", base_folder, "float32")
    yield lambda: count_pfj("Train PFJ: on StableSR, batch 2", base_folder, "bfloat16", batch=2)
