"""Golden checks of TASR's adapters and training losses."""

from __future__ import annotations

import torch

from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
from ...sampling.schedules import stable_diffusion_alphas
from ...training.tasr.config import TasrConfig
from ...training.tasr.losses import X0Formula, at, denoise_loss, masked_l1, noised, predicted_x0, reward_loss
from .formula_weights import formula_weights, meta_of
from .vectors import Checks, Golden


def check_full_adapter(golden: Golden) -> None:
    weights = {f"0.0.{key}": value for key, value in golden.below("w.").items()}
    network = TimeAwareAdapters(TimeAwareAdaptersConfig.from_state_dict(weights))
    network.load_state_dict(weights)
    h, skip, residual = golden["in.h"], golden["in.skip"], golden["in.f_cond"]
    alpha = network.forward_site(0, h, skip, residual, golden["in.emb"])
    golden.expect("out.alpha", alpha)
    golden.expect("out.fused_skip", skip + alpha * residual)


def check_lite_adapter(golden: Golden) -> None:
    meta = meta_of(golden.path)
    sizes = meta["lite_adapter"]
    config = TimeAwareAdaptersConfig("lite", (sizes["ch"] + 2 * sizes["cs"],), sizes["t"], sizes["m"])
    network = TimeAwareAdapters(config)
    weights = formula_weights(network.site(0), "lite.", meta["formula_weights"]["base_seed"])
    network.site(0).load_state_dict(weights)
    alpha = network.forward_site(0, golden["in.h"], golden["in.skip"], golden["in.f_cond"], golden["in.emb"])
    golden.expect("out.alpha", alpha)


def check_losses(golden: Golden) -> None:
    golden.compared_keys |= {"t", "eps", "eps_pred", "z_0", "pred01", "gt", "rewards"}  # inputs, whatever their names
    t, prediction = golden["t"], golden["eps_pred"]
    abar = at(torch.from_numpy(stable_diffusion_alphas()).float(), t)
    z_t = noised(golden["z_0"], golden["eps"], abar)
    golden.expect("z_t", z_t)
    golden.expect("denoise_mse", denoise_loss(prediction, golden["eps"])[None])
    golden.expect("x0_correct", predicted_x0(z_t, prediction, abar))
    golden.expect("x0_public_code_formula", predicted_x0(z_t, prediction, abar, X0Formula.PUBLISHED_CODE))
    golden.expect("l1_masked", masked_l1(golden["pred01"], golden["gt"] / 2 + 0.5, TasrConfig().has_l1(t, 1000))[None])
    golden.expect("clipiqa_loss_unweighted", reward_loss(golden["rewards"]))


CHECKS: Checks = {"adapter_small": check_full_adapter, "lite_adapter": check_lite_adapter, "losses": check_losses}
