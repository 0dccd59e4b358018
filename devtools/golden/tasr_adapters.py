"""Golden checks of TASR's adapters."""

from __future__ import annotations

from ...models.time_aware_adapter import TimeAwareAdapters, TimeAwareAdaptersConfig
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


CHECKS: Checks = {"adapter_small": check_full_adapter, "lite_adapter": check_lite_adapter}
