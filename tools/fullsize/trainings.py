"""The three trainings beside a frozen Stable Diffusion at published size: parameters, arithmetic and memory of a step."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...models.cfw import CFW
from ...models.judges.latent_discriminator import LatentDiscriminator, LatentDiscriminatorConfig
from ...models.judges.latent_lpips import LatentLPIPS
from ...models.judges.patch_discriminator import PatchDiscriminator
from ...models.noise_predictor import NoisePredictor
from ...models.struct_parts import StructParts
from ...sampling.noise import generator_for
from ...training.cfw import config as cfw_config
from ...training.cfw import init as cfw_init
from ...training.cfw.losses import distance_of, gradient_distance
from ...training.cfw.run import CFWRun, cfw_state
from ...training.invsr import run as invsr
from ...training.invsr.config import InvSRConfig
from ...training.invsr.sizes import PREDICTORS
from ...training.invsr.steps import prepare
from ...training.runs import TrainingRun, take_step
from ...training.stablesr import config as stablesr_config
from ...training.stablesr.init import parts_config
from ...training.stablesr.run import StableSRRun, stablesr_state
from .meter import Meter, bytes_of, metering
from .recorder import patched
from .sd import AUTOENCODER, unet_arguments

GIB = 2**30
CPU = torch.device("cpu")
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}
TEXT = (1, 77, 1024)


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step needed, in bytes; activations are what is neither weights nor gradients nor moments."""

    name: str
    precision: str
    trained: int
    frozen: int
    """Parameters of the two kinds."""
    flop: float
    weights: int
    gradients: int
    moments: int
    activations: int
    peak: int


@dataclass
class FakeRun:
    """A run on fake tensors, and the networks that stay as they are."""

    run: TrainingRun
    frozen: Sequence[nn.Module]

    def step(self, meter: Meter, name: str, precision: str) -> StepResult:
        """A step after the first, at which the moments are there."""
        model, state = self.run.state.model, self.run.state
        weights = [x for one in (model, *self.frozen) for x in (*one.parameters(), *one.buffers())]
        weights += [*state.ema.values.values()]
        meter.last(weights)
        meter.learns(model)
        model.train()
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        take_step(state.optimizers)
        moments = [x for one in state.optimizers for slot in one.state.values() for x in slot.values()]
        meter.last(moments)
        meter.start()
        self.run.train_step(generator_for(0))
        return StepResult(
            name,
            precision,
            sum(p.numel() for p in model.parameters()),
            sum(p.numel() for one in self.frozen for p in one.parameters()),
            meter.flop,
            bytes_of(weights),
            4 * sum(p.numel() for p in model.parameters() if p.requires_grad),
            bytes_of(moments),
            meter.activations,
            meter.peak,
        )


class Pictures:
    """Crops without values."""

    def __init__(self, side: int, scale: int = 1) -> None:
        self._side, self._scale = side, scale

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        small = self._side // self._scale
        return torch.empty(size, 3, self._side, self._side), torch.empty(size, 3, small, small)


class NoTriples:
    """Triples without values."""

    def __init__(self, side: int) -> None:
        self._side = side

    def batch(self, generator: torch.Generator, size: int) -> tuple[Tensor, Tensor, Tensor]:
        picture = torch.empty(size, 3, self._side, self._side)
        return picture, torch.empty_like(picture), torch.empty(size, 4, self._side // 8, self._side // 8)


def host(name: str) -> Any:
    """A module of the host, or of the part of the pack that needs it."""
    return importlib.import_module(name)


def unet() -> nn.Module:
    """SD 2.1's, as the host makes it."""
    model = host("comfy.ldm.modules.diffusionmodules.openaimodel")
    operations = host("comfy.ops").disable_weight_init
    return model.UNetModel(**unet_arguments("SD 2.1"), out_channels=4, operations=operations, dtype=torch.float16)


def autoencoder() -> nn.Module:
    """Stable Diffusion's, as the host makes it."""
    return host("comfy.ldm.models.autoencoder").AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4)


def into_range(picture: Tensor) -> Tensor:
    """As the host's VAE takes pictures in [0, 1]."""
    return picture * 2 - 1


def frozen(kind: Any, precision: str) -> Any:
    """UNet and autoencoder as a training holds them."""
    networks = host("adaptivesr.host.training.networks")
    latents = host("comfy.latent_formats").SD15()
    coder = networks.FrozenAutoencoder(autoencoder(), into_range, into_range, latents)
    return kind(unet(), torch.empty(1000), coder, CPU, PRECISIONS[precision])


def stablesr(config: stablesr_config.StableSRConfig, crop: int, precision: str, *, checkpointing: bool) -> FakeRun:
    """Train StableSR."""
    loading = host("adaptivesr.host.loading")
    base = frozen(host("adaptivesr.host.training.stablesr_base").GuidedNetworks, precision)
    base.text = torch.empty(TEXT)
    if checkpointing:
        base.save_memory()
    parts = StructParts(parts_config(*base.sizes(), stablesr_config.PAPER), attention=loading.host_attention)
    return FakeRun(StableSRRun(stablesr_state(config, parts), config, base, Pictures(crop)), base.networks())


def cfw(config: cfw_config.CFWTrainConfig, crop: int, precision: str, *, checkpointing: bool) -> FakeRun:
    """Train CFW, once the discriminator has joined."""
    bases = host("adaptivesr.host.training.cfw_base")
    network, lpips = autoencoder(), []
    base = bases.FusedAutoencoder(network, into_range, CPU, PRECISIONS[precision])
    layers = CFW(cfw_init.fusion_config(base.widths(), cfw_config.PAPER))
    if checkpointing:
        base.save_memory()
        cfw_init.save_memory(layers)
    perceptual = gradient_distance
    if config.perceptual == cfw_config.LPIPS:
        lpips = [vgg_lpips()]
        perceptual = distance_of(lpips[0])
    discriminator = PatchDiscriminator(cfw_config.DISCRIMINATOR_WIDTHS[cfw_config.PAPER])
    state = cfw_state(config, layers, discriminator)
    state.step = config.adversarial_after
    return FakeRun(CFWRun(state, config, base, NoTriples(crop), perceptual), [network, *lpips])  # type: ignore[arg-type]


def vgg_lpips() -> nn.Module:
    """pyiqa's network without its weights."""
    models = host("torchvision.models")
    plain = models.vgg16

    def without_file(*, weights: object) -> nn.Module:
        return plain(weights=None)

    with patched(models, vgg16=without_file):
        return host("pyiqa.archs.lpips_arch").LPIPS(net="vgg", pretrained=False)


def invsr_bench(config: InvSRConfig, crop: int, precision: str, *, checkpointing: bool) -> FakeRun:
    """Train Noise Predictor, once the predictor is told the verdict."""
    base = frozen(host("adaptivesr.host.training.invsr_base").TurboNetworks, precision)
    predictor = NoisePredictor(PREDICTORS["paper"])
    discriminator = LatentDiscriminator(LatentDiscriminatorConfig(text_channels=TEXT[-1]))
    metric = LatentLPIPS().requires_grad_(False).eval() if config.lpips_weight else None
    state = invsr.invsr_state(config, predictor, discriminator)
    state.step = config.adversarial_after
    if checkpointing:
        base.save_memory()
        invsr.save_memory(state.model)
    pictures = Pictures(crop, predictor.config.scale)
    run = invsr.InvSRRun(state, config, base, pictures, torch.empty(TEXT), metric)
    return FakeRun(run, [*base.networks(), *([metric] if metric else [])])


COUNTED = 2
"""Batches of a step that are counted: the second finds the gradients of the first, and all others are like it."""


Accumulating = stablesr_config.StableSRConfig | cfw_config.CFWTrainConfig


def count_accumulated(
    make: Callable[..., FakeRun],
    name: str,
    config: Accumulating,
    crop: int = 512,
    precision: str = "bfloat16",
    *,
    checkpointing: bool = True,
) -> StepResult:
    """A step of a training whose batches are `accumulate` times the same: `stablesr` or `cfw`."""
    few = replace(config, accumulate=min(COUNTED, config.accumulate))
    with metering() as meter:
        found = make(few, crop, precision, checkpointing=checkpointing).step(meter, name, precision)
    return replace(found, flop=found.flop * config.accumulate / few.accumulate)


def count_invsr(
    name: str, config: InvSRConfig, crop: int = 512, precision: str = "bfloat16", *, checkpointing: bool = True
) -> StepResult:
    """A step of Train Noise Predictor; what all crops of the batch take beside those that are counted is added."""
    part = config.microbatch or config.batch
    few = replace(config, batch=min(COUNTED * part, config.batch))
    with metering() as meter:
        bench = invsr_bench(few, crop, precision, checkpointing=checkpointing)
        found = bench.step(meter, name, precision)
        preparing, kept = _prepared(meter, bench, config)
    more = (config.batch - few.batch) * kept
    return replace(
        found,
        flop=found.flop * config.batch / few.batch,
        activations=max(found.activations + more, preparing),
        peak=max(found.peak + more, found.weights + found.moments + preparing),
    )


def _prepared(meter: Meter, bench: FakeRun, config: InvSRConfig) -> tuple[int, int]:
    """Activations while the whole batch is encoded, and bytes that are kept of each crop until the step's end."""
    run: Any = bench.run
    encode, made = run.base.encode, list[torch.Size]()

    def encode_once(picture: Tensor) -> Tensor:
        """All parts of a batch are alike: the others are there without work."""
        if made:
            return torch.empty(made[0])
        latent = encode(picture)
        made.append(latent.shape)
        return latent

    meter.start()
    before = meter.live
    with patched(run.base, encode=encode_once):
        batch = prepare(config, run.base, *run.source.batch(generator_for(0), config.batch), run.text, generator_for(0))
    kept = (meter.live - before) // config.batch
    prediction = batch.z_gt[0].numel() * batch.z_gt.element_size()
    # both latents of all parts are there while the last one is encoded
    return meter.activations + 2 * config.batch * prediction, kept + prediction


def plans() -> Iterator[Callable[[], StepResult]]:
    """Rows of the table: the nodes' defaults, the papers' presets, and what checkpointing is worth."""
    stable, fusion, start = stablesr_config.StableSRConfig(), cfw_config.CFWTrainConfig(), InvSRConfig(microbatch=1)
    paper = replace(stable, batch=6, accumulate=32)
    large = replace(paper, batch=3)
    plain = {"checkpointing": False}
    yield lambda: count_accumulated(stablesr, "Train StableSR: default at batch 4", stable)
    yield lambda: count_accumulated(stablesr, "Train StableSR: default without checkpointing", stable, **plain)
    yield lambda: count_accumulated(stablesr, "Train StableSR: paper, 32 batches of 6", paper)
    yield lambda: count_accumulated(stablesr, "Train StableSR: paper, 768, 32 batches of 3", large, 768)
    yield lambda: count_accumulated(cfw, "Train CFW: default and paper, 8 batches of 1, LPIPS", fusion)
    yield lambda: count_accumulated(cfw, "Train CFW: default without checkpointing", fusion, **plain)
    yield lambda: count_invsr("Train Noise Predictor: default and paper, 64 in parts of 1", start)
    yield lambda: count_invsr("Train Noise Predictor: default without checkpointing", start, **plain)
    yield lambda: count_invsr("Train Noise Predictor: 64 in parts of 4", replace(start, microbatch=4))


HEADER = (
    "| step | precision | trained, M | frozen, M | TFLOP | weights, GB | gradients, GB | moments, GB | activations, GB | peak, GB |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def row(result: StepResult) -> str:
    """One line of the table."""
    sizes = (result.weights, result.gradients, result.moments, result.activations, result.peak)
    gigabytes = " | ".join(f"{size / GIB:.2f}" for size in sizes)
    return (
        f"| {result.name} | {result.precision} | {result.trained / 1e6:.1f} | {result.frozen / 1e6:.1f} | {result.flop / 1e12:.1f} | "
        f"{gigabytes} |"
    )
