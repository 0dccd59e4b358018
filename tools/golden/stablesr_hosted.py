"""Golden checks of StableSR inside the host's UNet: the product's patch on small and published networks, whole runs, training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...host.loading import host_attention
from ...host.networks import UNetShape, unet
from ...host.stablesr.patch import BlockPatch, FeatureMemory, encode_rows, residual_blocks
from ...imaging.stablesr_tiles import column_order, offcentre_window
from ...imaging.tiles import gather, merge
from ...models.spade import SpadeShape
from ...models.struct_parts import DENOISER, StructParts, StructPartsConfig
from ...sampling.spaced import SpacedSchedule, spaced_timesteps
from ...training.stablesr.losses import guided_diffusion_loss, noised
from .adadiffsr_codebook import implicit_jump
from .hash_weights import fill_by_hash, hash_uniform, seed_of
from .stablesr_cfw import CHECKS as CFW_CHECKS
from .stablesr_networks import PUBLISHED_ENCODER, encoder_config, expect_maps
from .stablesr_sampling import predicted_x0, reference_ddim
from .stablesr_tiles import metadata
from .vectors import NETWORK, Checks, Golden

END_TO_END = 5e-4
GRADIENTS = 1e-4
HIDDEN = 128
PUBLISHED: Mapping[str, Any] = {
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attention_resolutions": [4, 2, 1],
    "num_head_channels": 64,
    "context_dim": 1024,
    "semb_channels": 256,
    "enc": PUBLISHED_ENCODER,
}


class RecordedPatch(BlockPatch):
    """The product's patch, which also keeps what every block returned."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.seen: dict[Any, Tensor] = {}

    def __call__(self, block: Any, *given: Any) -> Tensor:
        self.seen[block] = super().__call__(block, *given)
        return self.seen[block]


@dataclass
class GuidedUNet:
    """The host's UNet and StableSR's parts, joined by the patch of the product."""

    unet: torch.nn.Module
    parts: StructParts

    @classmethod
    def hashed(cls, sizes: Mapping[str, Any], seed: int) -> GuidedUNet:
        """Networks of the sizes in a file's header, with weights made from their names."""
        shape = UNetShape(
            sizes["model_channels"],
            sizes["channel_mult"],
            sizes["num_res_blocks"],
            sizes["attention_resolutions"],
            sizes["num_head_channels"],
            sizes["context_dim"],
        )
        network = unet(shape)
        modulations = tuple(
            (placed.name, SpadeShape(placed.block.out_channels, HIDDEN, sizes["semb_channels"]))
            for placed in residual_blocks(network)
        )
        parts = StructParts(StructPartsConfig(encoder_config(sizes["enc"]), modulations), attention=host_attention)
        fill_by_hash(network, seed, DENOISER)
        fill_by_hash(parts, seed)
        return cls(network, parts.eval())

    def __call__(
        self, x: Tensor, timesteps: Tensor, context: Tensor, latent: Tensor, seen: dict[str, Tensor] | None = None
    ) -> Tensor:
        """The network's output; `seen` receives the output of every residual block by its name."""
        features = encode_rows(self.parts, latent, timesteps, FeatureMemory())
        patch = RecordedPatch(self.unet, self.parts, features, 1.0)
        with patch.in_call({}) as options:
            output = self.unet(x, timesteps, context=context, transformer_options=options)
        if seen is not None:
            seen |= {placed.name: patch.seen[placed.block] for placed in residual_blocks(self.unet)}
        return output

    def parameters_by_key(self) -> dict[str, torch.nn.Parameter]:
        """Parameters of UNet and parts under their keys in a checkpoint."""
        own = {f"{DENOISER}{name}": value for name, value in self.unet.named_parameters()}
        return own | dict(self.parts.named_parameters())


def check_small_unet(golden: Golden) -> None:
    network = GuidedUNet.hashed(golden.config, seed_of(metadata(golden)["weights"]))
    parameters = network.parameters_by_key()
    sums = [parameters[f"{DENOISER}{key}"].double().sum() for key in metadata(golden)["unet_keys_sorted"]]
    with torch.no_grad():
        golden.expect("wcheck.unet_param_sums_sorted_keys", torch.stack(sums).detach())
        expect_maps(golden, "mid.struct.", network.parts.encoder, "in.lr_latent")
        output = network(*(golden[f"in.{name}"] for name in ("x", "t", "context", "lr_latent")))
    golden.expect("out.y", output, NETWORK)


@torch.no_grad()
def check_published_unet(golden: Golden) -> None:
    seed, seen = seed_of(metadata(golden)["weights"]), dict[str, Tensor]()
    network = GuidedUNet.hashed(PUBLISHED, seed)
    values = hash_uniform("context", 77 * PUBLISHED["context_dim"], seed)
    context = torch.from_numpy(values).float().reshape(1, 77, -1)
    output = network(golden["in.x"], golden["in.t"], context, golden["in.lr_latent"], seen)
    for name, value in seen.items():
        golden.expect(f"mid.{name}", value, NETWORK)
        golden.expect(f"mid.{name}.first8ch", value[:, :8], NETWORK)
    golden.expect("out.y", output, NETWORK)


@dataclass(frozen=True)
class Canvas:
    """A whole run's network on tiles that are averaged with StableSR's weights (section 3.3)."""

    golden: Golden
    network: GuidedUNet
    settings: dict[str, Any]

    def output(self, x: Tensor, timestep: int) -> Tensor:
        """The network's output for a canvas x (1, 4, h, w), guidance inside of each tile."""
        height, width, tile, overlap = self.settings["canvas"]
        regions = column_order(height, width, tile, overlap)
        tiles, lr = gather(x, regions), gather(self.golden["in.lr_latent"], regions)
        window = torch.from_numpy(offcentre_window(tile, tile)).float()
        return merge(self._guided(tiles, torch.full((len(tiles),), timestep), lr), regions, x.shape, window)

    def _guided(self, x: Tensor, times: Tensor, lr: Tensor) -> Tensor:
        context = self.golden["in.context"].expand(len(x), -1, -1)
        if "in.neg_context" not in self.golden:
            return self.network(x, times, context, lr)
        negative = self.golden["in.neg_context"].expand(len(x), -1, -1)
        # one call for both, as the host makes it: the encoder then sees every pair of rows once
        both = self.network(
            x.repeat(2, 1, 1, 1), times.repeat(2), torch.cat([context, negative]), lr.repeat(2, 1, 1, 1)
        )
        positive_part, negative_part = both.chunk(2)
        return negative_part + self.settings["cfg"] * (positive_part - negative_part)


@torch.no_grad()
def check_run(golden: Golden) -> None:
    settings = metadata(golden)
    network = GuidedUNet.hashed(settings["unet"], seed_of(settings["weights"]))
    x = noised(golden["in.lr_latent"], torch.tensor([999]), golden["in.noise0"])
    golden.expect("mid.x_T", x)
    sample = {"ddpm": _ddpm, "ddim": _ddim}[settings["sampler"]]
    result, trace = sample(Canvas(golden, network, settings), x)
    golden.expect("mid.trace", torch.cat(trace), END_TO_END)
    golden.expect("out.latent", result, END_TO_END)


def _ddpm(canvas: Canvas, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The respaced chain; the trace holds the latent after each step."""
    steps, trace = canvas.settings["S"], list[Tensor]()
    schedule = SpacedSchedule.of(steps)
    for noise, index in zip(canvas.golden["in.step_noises"], reversed(range(steps))):
        output = canvas.output(x, schedule.timesteps[index])
        x0 = predicted_x0(x, output, float(schedule.alphas_cumprod[index]), canvas.settings["param"])
        x = schedule.step(index, x, x0, noise[None])
        trace.append(x)
    return x, trace


def _ddim(canvas: Canvas, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The reference's DDIM, whose two lists of timesteps differ; the trace holds the predicted x0."""
    steps, trace = canvas.settings["S"], list[Tensor]()
    _, alphas, previous = reference_ddim(steps)
    for noise, index in zip(canvas.golden["in.step_noises"], reversed(range(steps))):
        output, a = canvas.output(x, spaced_timesteps(steps)[index]), float(alphas[index])
        x0 = predicted_x0(x, output, a, canvas.settings["param"])
        jump = implicit_jump(alphas[index], previous[index], canvas.settings["eta"])
        eps = (x - a**0.5 * x0) / (1.0 - a) ** 0.5
        x = float(jump.x0_factor) * x0 + float(jump.eps_factor) * eps + float(jump.noise_factor) * noise[None]
        trace.append(x0)
    return x, trace


def check_training(golden: Golden) -> None:
    settings = metadata(golden)
    sizes = settings.get("unet") or golden.sibling("10_unet_struct_small").config
    network = GuidedUNet.hashed(sizes, seed_of(settings["weights"]))
    parameters = network.parameters_by_key()
    trained = [parameters[name] for name in settings["grad_param_names"]]
    hr, lr, noise, context, t = (golden[f"in.{name}"] for name in ("z_gt", "z_lq", "noise", "context", "t"))

    def predict(x: Tensor, timesteps: Tensor, latent: Tensor) -> Tensor:
        return network(x, timesteps, context, latent)

    for kind in ("eps", "v"):
        loss = guided_diffusion_loss(predict, hr, lr, t, noise, predicts_v=kind == "v").mean()
        gradients = torch.autograd.grad(loss, trained)
        golden.expect(f"out.{kind}.loss", loss.detach()[None])
        norms = torch.stack([gradient.double().norm() for gradient in gradients])
        golden.expect(f"out.{kind}.grad_norms", norms, GRADIENTS)


CHECKS: Checks = {
    "10_unet_struct_small": check_small_unet,
    "18_e2e_*": check_run,
    "23_training_loss_grads": check_training,
    "31_full_unet_with_spade": check_published_unet,
    **CFW_CHECKS,
}
