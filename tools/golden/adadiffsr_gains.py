"""Golden checks of AdaDiffSR's gains and of the two networks around them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...models.feature_injection import Pfj, PfjConfig
from ...models.gain_regressor import Mmle, MmleConfig
from ...models.state_dict import load_weights
from ...sampling.adaptive import gain
from ...sampling.adaptive.dynamic import FULL_REFERENCE, NO_REFERENCE
from .formula_weights import formula_tensor, meta_of
from .vectors import NETWORK, Checks, Golden, compared

F64 = 1e-9


def check_metrics(golden: Golden) -> None:
    golden.compared_keys |= {"raw", "omega"}  # inputs, whatever their names
    metrics = _metrics(golden)
    raw = golden["raw"].tolist()
    scores = [[gain.normalised(metric, value) for metric, value in zip(metrics, row)] for row in raw]
    gains = [
        {m.name: gain.metric_gain(a, b) for m, a, b in zip(metrics, *pair) if a is not None and b is not None}
        for pair in pairwise(scores)
    ]
    table = [[math.nan if score is None else score for score in row] for row in scores]
    golden.expect("M", torch.tensor(table, dtype=torch.float64), F64)
    vectors = [[row.get(metric.name, 0.0) for metric in metrics] for row in gains]
    golden.expect("per_metric_gain", torch.tensor(vectors, dtype=torch.float64), F64)
    groups = [gain.group_gains(metrics, row) for row in gains]
    for key, name in (("I_fr", FULL_REFERENCE), ("I_nr", NO_REFERENCE)):
        golden.expect(key, torch.tensor([row[name] for row in groups], dtype=torch.float64), F64)
    overall = [_overall(metrics, row) for row in gains]
    golden.expect("I_all_paper", torch.tensor(overall, dtype=torch.float64), F64)


def _overall(metrics: list[gain.GainMetric], gains: dict[str, float]) -> float:
    """I over all metrics, each group at half weight; the pack decides by its groups one by one."""
    return math.tanh(sum(0.5 * gain.group_sum(metrics, gains, group) for group in (FULL_REFERENCE, NO_REFERENCE)))


def _metrics(golden: Golden) -> list[gain.GainMetric]:
    """The file's metrics: ranges and directions from meta.json, weights from the file, groups from our table."""
    groups = {metric.name: metric.full_reference for metric in gain.PAPER_METRICS}
    rows = zip(meta_of(golden.path)["metric_ranges"], golden["omega"].tolist())
    return [
        gain.GainMetric(r["metric"], r["lo"], r["hi"], r["lower_better"], groups[r["metric"]], omega)
        for r, omega in rows
    ]


@torch.no_grad()
def check_modules(golden: Golden) -> None:
    golden.compared_keys |= {"x0", "x0_prev", "o", "t", "t_prev"}  # inputs, whatever their names
    meta = meta_of(golden.path)
    names = ("x0", "x0_prev", "o", "t", "t_prev")
    regressor = _network(meta, "mmle")
    gains: Tensor = regressor(*(golden[name] for name in names))
    golden.expect("mmle_gain", gains, NETWORK)
    alpha, beta = _network(meta, "pfj")(golden["o"], golden["mmle_gain"])
    golden.expect("pfj_alpha", alpha, NETWORK)
    golden.expect("pfj_beta", beta, NETWORK)
    golden.expect("pfj_o_hat", alpha * golden["o"] + beta, NETWORK)
    for part in ("mmle", "pfj"):
        count = sum(parameter.numel() for parameter in _network(meta, part).parameters())
        golden.results.append(compared(f"{part}_params", float(count != meta["modules"][f"{part}_params"]), 0.0))


def _network(meta: dict[str, Any], part: str) -> nn.Module:
    """A network of formula weights, loaded strictly from the keys and shapes that meta.json lists."""
    seed, keys = meta["formula_weights"]["base_seed"], meta["modules"][f"{part}_keys"]
    weights = {key: formula_tensor(seed, f"{part}.{key}", torch.Size(shape)) for key, shape in keys.items()}
    network = Mmle(MmleConfig.from_state_dict(weights)) if part == "mmle" else Pfj(PfjConfig.from_state_dict(weights))
    load_weights(network, weights)
    return network


CHECKS: Checks = {"metrics": check_metrics, "modules": check_modules}
