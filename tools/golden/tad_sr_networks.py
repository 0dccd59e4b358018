"""Golden checks of the networks of ResShift, SinSR and TAD-SR: blocks, denoiser, autoencoder, discriminator, pipeline."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ...imaging.resize import bicubic_upsample
from ...models.layers import Factory, scaled_dot_product, timestep_embedding
from ...models.residual_unet import ResidualUNet, ResidualUNetConfig, TimeResBlock
from ...models.state_dict import load_weights
from ...models.swin import SwinBlock, SwinConfig, last_row_mask
from ...models.vq_autoencoder import VQAutoencoder, VQConfig
from ...models.vq_blocks import AttnBlock, VQDownsample, VQResnetBlock
from ...sampling.samplers import StepReport, sample_ancestral, sample_deterministic, sample_one_step
from ...training.tad_sr.discriminator import DiscriminatorConfig, TimeAwareDiscriminator
from .analytic import schedule_of, states
from .vectors import DECODED, NETWORK, Checks, Golden

MAKE = Factory(nn)


def check_timestep_embedding(golden: Golden) -> None:
    period = golden.config["max_period"]
    for dim in golden.below("out.dim"):
        golden.expect(f"out.dim{dim}", timestep_embedding(golden["in.t"], int(dim), period), NETWORK)


@torch.no_grad()
def check_swin_block(golden: Golden) -> None:
    for tag, params, _, effective in golden.config["entries"]:
        window, shift = effective["effective_window"], effective["effective_shift"]
        dim, heads = params["dim"], params["num_heads"]
        config = SwinConfig(dim, 1, heads, params["window_size"], int(dim * params["mlp_ratio"]))
        block = SwinBlock(config, window, shift, scaled_dot_product, MAKE)
        load_weights(block, golden.below(f"w.{tag}."))
        x = golden[f"{tag}.in.x"]
        golden.expect(f"{tag}.out.y", block(x), NETWORK)
        golden.expect(f"{tag}.mask", _full_mask(x, window, shift), NETWORK)


def _full_mask(x: Tensor, window: int, shift: int) -> Tensor:
    """The additive mask of every window of a map, row-major, (N, L, L)."""
    rows, columns = x.shape[-2] // window, x.shape[-1] // window
    mask = torch.zeros(rows * columns, window**2, window**2)
    if shift:
        mask[-columns:] = last_row_mask(window, shift)
    return mask


@torch.no_grad()
def check_resblock(golden: Golden) -> None:
    config = golden.config
    block = TimeResBlock(config["channels"], config["out_channels"], config["emb_channels"], MAKE)
    load_weights(block, golden.below("w."))
    golden.expect("out.y", block(golden["in.x"], golden["in.emb"]), NETWORK)


def load_unet(golden: Golden) -> ResidualUNet:
    """The denoiser whose weights a file holds."""
    weights = golden.below("w.")
    config = ResidualUNetConfig.from_state_dict(weights, golden.config["params"]["image_size"])
    network = ResidualUNet(config)
    load_weights(network, weights)
    return network


@torch.no_grad()
def check_unet(golden: Golden) -> None:
    network = load_unet(golden)
    seen: dict[str, Tensor] = {}
    taps = {f"hs.{i}": block for i, block in enumerate(network.input_blocks)} | {"mid": network.middle_block}
    for name, block in taps.items():
        block.register_forward_hook(partial(_record, seen, name))
    for run in range(len(golden.config["runs"])):
        x, t, lq = (golden[f"run{run}.in.{name}"] for name in ("x", "t", "lq"))
        output = network(x, t, lq, golden.tensors.get(f"run{run}.in.mask"))
        golden.expect(f"run{run}.out.y", output, NETWORK)
        golden.expect_all(f"run{run}.", seen.items(), NETWORK)


def _record(seen: dict[str, Tensor], name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
    seen[name] = output


@torch.no_grad()
def check_vq_blocks(golden: Golden) -> None:
    config = golden.config
    channels = config["attn"]["channels"]
    blocks: dict[str, tuple[nn.Module, str]] = {
        "res": (VQResnetBlock(config["res"]["in_channels"], config["res"]["out_channels"], MAKE), "in.x_res"),
        "attn": (AttnBlock(channels, scaled_dot_product, MAKE), "in.x"),
        "down": (VQDownsample(config["down"]["channels"], MAKE), "in.x"),
    }
    for name, (block, source) in blocks.items():
        load_weights(block, golden.below(f"w.{name}."))
        golden.expect(f"out.{name}", block(golden[source]), NETWORK)


def load_autoencoder(golden: Golden) -> VQAutoencoder:
    """The autoencoder whose weights a file holds."""
    weights = golden.below("w.")
    network = VQAutoencoder(VQConfig.from_state_dict(weights))
    load_weights(network, weights)
    return network


@torch.no_grad()
def check_vq_autoencoder(golden: Golden) -> None:
    network = load_autoencoder(golden)
    z = network.encode(golden["in.image"])
    z_q, indices = network.quantize(z)
    golden.expect("out.z", z, NETWORK)
    golden.expect("out.z_q", z_q, NETWORK)
    golden.expect("out.indices", indices.flatten())
    golden.expect("out.decoded_quantized", network.decode(z), DECODED)
    golden.expect("out.decoded_not_quantized", network.decode(z, quantize=False), NETWORK)


@torch.no_grad()
def check_pipeline(golden: Golden) -> None:
    config = golden.config
    unet = load_unet(golden.sibling(config["unet"]))
    autoencoder = load_autoencoder(golden.sibling(config["vq"]))
    schedule = schedule_of(config["diffusion"], config["s0_rule"])
    lq, noise, step_noise = (golden[f"in.{name}"] for name in ("lq", "noise", "step_noise"))
    upsampled = bicubic_upsample(lq, config["diffusion"].get("sf", 4))
    y = autoencoder.encode(upsampled)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return unet(x, t, lq)

    steps: dict[str, list[StepReport]] = {"ddim": [], "ancestral": []}
    one_step = sample_one_step(denoise, y, schedule, noise)
    ddim = sample_deterministic(denoise, y, schedule, noise, steps["ddim"].append)
    ancestral = sample_ancestral(denoise, y, schedule, noise, lambda i: step_noise[i], steps["ancestral"].append)
    golden.expect("out.lq_upsampled", upsampled)
    golden.expect("out.z_y", y, NETWORK)
    golden.expect("out.one_step_latent", one_step, NETWORK)
    for name, reports in steps.items():
        golden.expect(f"out.{name}_latents", states(reports), NETWORK, calls=len(reports))
    for name, latent in (("one_step", one_step), ("ddim", ddim), ("ancestral", ancestral)):
        golden.expect(f"out.{name}_image", autoencoder.decode(latent), DECODED)


@torch.no_grad()
def check_discriminator(golden: Golden) -> None:
    weights = golden.below("w.")
    network = TimeAwareDiscriminator(DiscriminatorConfig.from_state_dict(weights))
    load_weights(network, {key: value.clone() for key, value in weights.items()})
    names = sorted(golden.below("in.feat."), key=int)
    features = [golden[f"in.feat.{name}"] for name in names]
    for mode in ("eval", "train"):
        logits = network.train(mode == "train").head_logits(features, golden["in.t"])
        golden.expect_all(f"out.{mode}_logits.", zip(names, logits), NETWORK)
    golden.expect_all("after_train_fwd.", network.state_dict().items(), NETWORK)


CHECKS: Checks = {
    "timestep_embedding": check_timestep_embedding,
    "swin_block": check_swin_block,
    "resblock": check_resblock,
    "swin_unet_a": check_unet,
    "swin_unet_b": check_unet,
    "vq_blocks": check_vq_blocks,
    "vq_autoencoder": check_vq_autoencoder,
    "pipeline": check_pipeline,
    "discriminator": check_discriminator,
}
