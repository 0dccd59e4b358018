"""Golden checks of CFW inside the host's KL autoencoder; imported where the host is, by `stablesr_hosted`."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from ...host.networks import autoencoder
from ...host.stablesr.cfw import fusing
from ...models.cfw import CFW, CFWConfig, FuseConfig
from .hash_weights import fill_by_hash, seed_of
from .stablesr_tiles import metadata
from .vectors import NETWORK, Checks, Golden

SCALE = 0.18215  # of the latents against the autoencoder's
STRENGTH = re.compile(r"out\.dec_w([0-9.]+)")
LOG_VARIANCE_RANGE = (-30.0, 20.0)


def check_small(golden: Golden) -> None:
    sizes = golden.config
    widths = [sizes["ch"] * factor for factor in sizes["ch_mult"]]
    fusion = CFWConfig((FuseConfig(widths[1], widths[1]), FuseConfig(widths[2], widths[2])))
    _check(golden, autoencoder(sizes["ch"], sizes["ch_mult"], sizes["nrb"]), CFW(fusion))


def check_published(golden: Golden) -> None:
    _check(golden, autoencoder(), CFW())


@torch.no_grad()
def _check(golden: Golden, model: Any, cfw: CFW) -> None:
    seed = seed_of(metadata(golden)["weights"])
    fill_by_hash(model, seed)
    fill_by_hash(cfw, seed)
    image = golden["in.image"]
    with fusing(model, cfw, 0.0) as features:
        moments = model.quant_conv(model.encoder(image))
    for level, tensor in features.items():
        golden.expect(f"out.enc_fea{level - 1}", tensor, NETWORK)
        golden.expect(f"out.enc_fea{level - 1}_first8ch", tensor[:, :8], NETWORK)
    if "in.posterior_noise" in golden:
        _check_posterior(golden, moments)
    for key, match in ((key, STRENGTH.fullmatch(key)) for key in golden.tensors):
        if match:
            golden.expect(key, _decoded(model, cfw, golden, float(match[1])), NETWORK)


def _check_posterior(golden: Golden, moments: Tensor) -> None:
    mean, log_variance = moments.chunk(2, dim=1)
    deviation = torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE))
    golden.expect("out.moments", moments, NETWORK)
    golden.expect("out.mean", mean, NETWORK)
    golden.expect("out.std", deviation, NETWORK)
    golden.expect("out.sample_scaled", SCALE * (mean + deviation * golden["in.posterior_noise"]), NETWORK)


def _decoded(model: nn.Module, cfw: CFW, golden: Golden, w: float) -> Tensor:
    with fusing(model, cfw, w):
        model.encoder(golden["in.image"])
        return model.decode(golden["in.z_unscaled"])


CHECKS: Checks = {"12_vae_cfw_small": check_small, "32_full_vae_cfw": check_published}
