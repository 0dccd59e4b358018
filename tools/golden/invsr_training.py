"""Golden checks of InvSR's training: the discriminator, LPIPS on latents, and the losses of a step with their gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...imaging.resize import bicubic_upsample
from ...models.judges.latent_discriminator import LatentDiscriminator, LatentDiscriminatorConfig
from ...models.judges.latent_lpips import LatentLPIPS
from ...models.state_dict import load_weights
from ...training.invsr.config import InvSRConfig
from ...training.invsr.steps import InvSRBatch, discriminator_loss, judged, one_step, predictor_losses
from .invsr import SCALE, fake_encode, fake_eps, metadata, predictor_of, sigma_table
from .vectors import NETWORK, Checks, Golden, compared

GRADIENT = 5e-4
"""Tolerance of gradients in the files' README."""
KINKS = 3e-3
"""Of a gradient through 13 ReLUs: in float64 it differs from the file's, and from ours, by 2e-3 of its largest value."""
SPREAD, NUMBER, FIRST, SECOND = (np.uint32(value) for value in (2654435761, 2654435769, 2246822519, 3266489917))


def uniform(count: int, number: int) -> NDArray[np.float64]:
    """`count` values in [0, 1): a 32-bit mix of the index and of a number."""
    start = np.uint32((number + 1) * int(NUMBER) % 2**32)
    x = np.arange(count, dtype=np.uint32) * SPREAD + start
    x ^= x >> np.uint32(16)
    x *= FIRST
    x ^= x >> np.uint32(13)
    x *= SECOND
    x ^= x >> np.uint32(16)
    return x / 2.0**32


def hashed(shape: Iterable[int], number: int, factor: float, *, signed: bool = True) -> Tensor:
    """A float32 tensor of such values, times a factor."""
    values = uniform(math.prod(shape := tuple(shape)), number)
    values = factor * (2 * values - 1) if signed else factor * values
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def lpips_of(golden: Golden) -> LatentLPIPS:
    """The metric with the hashed weights that the file names."""
    about, network = metadata(golden), LatentLPIPS(device="meta")
    offset = int(about["hash_offset"])
    weights: dict[str, Tensor] = {}
    for number, name in enumerate(about["conv_order"]):
        layer = network.net.get_submodule(name)
        shape = layer.weight.shape
        bound = math.sqrt(6 / shape[1:].numel())
        weights[f"net.{name}.weight"] = hashed(shape, offset + number, bound)
        weights[f"net.{name}.bias"] = hashed(shape[:1], offset + 100 + number, 0.05)
    for index in range(5):
        key = f"lin{index}.model.1.weight"
        weights[key] = hashed(network.state_dict()[key].shape, offset + 200 + index, 1.0, signed=False)
    load_weights(network, weights)
    return network.requires_grad_(False)


def discriminator_of(golden: Golden) -> LatentDiscriminator:
    """The network of a file, at the sizes that its metadata names."""
    about = golden.config
    kinds = [kind == "CrossAttnDownBlock2D" for kind in about["down_block_types"]]
    weights = golden.below("w.")
    config = LatentDiscriminatorConfig(
        channels=tuple(about["block_out_channels"]),
        layers=tuple(about["layers_per_block"]),
        heads=tuple(count if kind else 0 for kind, count in zip(kinds, about["attention_head_dim"])),
        side_channels=len(weights["feature_in.bias"]),
        text_channels=about["cross_attention_dim"],
        text_heads=about["addition_embed_type_num_heads"],
        time_channels=len(weights["time_embedding.linear_1.bias"]),
        groups=about["norm_num_groups"],
    )
    network = LatentDiscriminator(config, device="meta")
    load_weights(network, weights)
    return network


@torch.no_grad()
def check_discriminator(golden: Golden) -> None:
    network, text = discriminator_of(golden), golden["in.cond"]
    golden.given("odd.z")
    for index, logits in enumerate(network(golden["in.z"], golden["in.t"], text)):
        golden.expect(f"out.{index}", logits, NETWORK)
    odd = network(golden["odd.z"], torch.tensor([149]), text[:1])
    golden.expect_all("odd.out.", ((str(index), logits) for index, logits in enumerate(odd)), NETWORK)


def check_latent_lpips(golden: Golden) -> None:
    golden.given("in0", "in1")
    network = lpips_of(golden)
    convolutions = [value.flatten() for key, value in network.state_dict().items() if key.endswith("weight")]
    golden.expect("w0_first8", convolutions[0][:8], 1e-7)
    golden.expect("w12_last4", network.net.get_submodule("slice5.28").weight.flatten()[-4:], 1e-7)
    latent = golden["in0"].clone().requires_grad_(True)
    found = network.per_layer(latent, golden["in1"])
    golden.expect("per_layer", found, NETWORK)
    value = network(latent, golden["in1"])
    golden.expect("value", value.view(-1, 1, 1, 1), NETWORK)
    (gradient,) = torch.autograd.grad(value.sum(), latent)
    _expect_gradient(golden, "grad_in0", gradient, KINKS)


class FakeBase:
    """The file's stand-ins for the frozen networks; `training.invsr.steps.OneStepBase`."""

    pixels_per_cell, device = 8, torch.device("cpu")

    def __init__(self, golden: Golden) -> None:
        self._golden, self.sigmas = golden, sigma_table().float()

    def cast(self) -> AbstractContextManager[object]:
        return nullcontext()

    def encode(self, picture: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, latent: Tensor) -> Tensor:
        raise NotImplementedError

    def predict(self, z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return fake_eps(self._golden, z, t[:, None], text)


def check_train_step(golden: Golden) -> None:
    pipeline, about = golden.sibling("pipeline"), metadata(golden)
    predictor, discriminator = predictor_of(golden.sibling("np_a")), discriminator_of(golden.sibling("discriminator"))
    coefficients = about["loss_coef"]
    config = InvSRConfig(
        mse_weight=coefficients["ldif"], lpips_weight=coefficients["llpips"], adversarial_weight=coefficients["ldis"]
    )
    lr, t = golden["in.lq"], golden["in.tau"] - 1
    golden.expect("t_index", t)
    scaling = metadata(pipeline)["vae_scaling_factor"]
    z_lr = scaling * fake_encode(pipeline, bicubic_upsample(lr, SCALE) * 2 - 1, golden["in.noise_vae"])
    batch = InvSRBatch(lr, z_lr, golden["in.gt_latent"], t, golden["in.noise_np"], golden["in.cond"])
    z_t, z = one_step(FakeBase(pipeline), predictor, predictor, batch)
    golden.expect("z_t", z_t, NETWORK)
    golden.expect("z0_pred", z, NETWORK)
    lpips = lpips_of(golden.sibling("latent_lpips"))
    losses = predictor_losses(config, config.adversarial_after, z, batch, lpips, discriminator)
    weighed = {name: getattr(config, f"{name}_weight") * value for name, value in losses.items()}
    names = {"mse": "ldif", "adversarial": "ldis", "lpips": "llpips"}
    golden.expect_all("loss.", ((names[name], value) for name, value in weighed.items()), NETWORK)
    total = torch.stack(list(weighed.values())).sum(0)
    golden.expect("loss.loss", total, NETWORK)
    total.mean().backward()
    _check_gradients(golden, predictor, "grad.", about["grad_norms"])
    discriminator.zero_grad()
    real, fake = judged(discriminator, z, batch)
    for index in range(len(real)):
        golden.expect(f"d_real.{index}", real[index], NETWORK)
        golden.expect(f"d_fake.{index}", fake[index], NETWORK)
    hinge = discriminator_loss(real, fake)
    golden.expect("loss.d_hinge", hinge, NETWORK)
    hinge.mean().backward()
    _check_gradients(golden, discriminator, "dgrad.", about["d_grad_norms"])


def _check_gradients(golden: Golden, network: nn.Module, prefix: str, norms: dict[str, float]) -> None:
    """Those that the file holds whole, and the norms of all; keys' biases have none, their rounding noise is passed over."""
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    golden.results.append(compared(f"{prefix}names", float(set(gradients) != set(norms)), 0.0))
    for name, gradient in gradients.items():
        if gradient is None:
            golden.results.append(compared(f"{prefix}norm.{name}", math.inf, GRADIENT))
            continue
        _expect_gradient(golden, prefix + name, gradient)
        if not name.endswith(("to_k.bias", "k_proj.bias")):
            found, wanted = float(gradient.norm()), norms[name]
            error = abs(found - wanted) / max(wanted, 1e-3)
            golden.results.append(compared(f"{prefix}norm.{name}", error, GRADIENT))


def _expect_gradient(golden: Golden, key: str, gradient: Tensor, tolerance: float = GRADIENT) -> None:
    """Gradients may be small, so their error is told by their own largest value."""
    if key in golden:
        golden.expect(key, gradient, tolerance * min(1.0, float(golden[key].abs().max())))


CHECKS: Checks = {
    "discriminator": check_discriminator,
    "latent_lpips": check_latent_lpips,
    "train_step": check_train_step,
}
