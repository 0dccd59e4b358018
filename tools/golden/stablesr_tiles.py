"""Golden checks of StableSR's aggregation sampling: tile weights, tile grids, one step of the canvas."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ...imaging.stablesr_tiles import column_order, offcentre_window
from ...imaging.tiles import starts
from ...sampling.adaptive.choices import MergeMode
from ...sampling.adaptive.policy import FixedSchedule
from ...sampling.adaptive.sampler import sample_regions
from ...sampling.adaptive.steppers import stepper_for
from ...sampling.adaptive.types import NoiseSpace, RegionModel, RegionObserver, Row
from ...sampling.batching import BatchSize
from ...sampling.schedules import sigma_of, stable_diffusion_alphas
from .vectors import FORMULA, NETWORK, Checks, Golden

TILE_MODEL = "0.5*(x - mean_hw(x)) + 0.25*lr^2 - 0.1*t/1000"
NUMBER = r"(-?[0-9.]+)"


def check_gaussian_weights(golden: Golden) -> None:
    for key in golden.tensors:
        size, name = re.fullmatch(r"tile(\d+)\.(\w+)", key).groups()  # type: ignore[union-attr]
        weights = torch.from_numpy(offcentre_window(int(size), int(size)))
        middle = int(size) // 2
        found = {"row_mid": weights[middle], "col_mid": weights[:, middle], "weights": weights.float()}
        golden.expect(key, found.get(name, weights), 1e-12 if golden[key].dtype == torch.float64 else FORMULA)


def check_tile_grids(golden: Golden) -> None:
    for key in golden.tensors:
        numbers = [int(number) for number in re.findall(r"\d+", key)]
        if key.startswith("pix_"):
            golden.expect(key, torch.tensor(starts(*numbers)))
        else:
            golden.expect(key, torch.tensor([[region.y, region.x] for region in column_order(*numbers)]))


def check_canvas_step(golden: Golden) -> None:
    """One level of the region sampler on y = z / sqrt(abar) = x0 + sigma n."""
    meta = metadata(golden)
    alphas = stable_diffusion_alphas()
    kept = [round(k * (len(alphas) - 1) / (meta["steps"] - 1)) for k in range(meta["steps"])]
    a, previous = alphas[kept[meta["i"]]], alphas[kept[meta["i"] - 1]]
    regions = column_order(meta["h"], meta["w"], meta["tile"], meta["overlap"])
    seen: list[Tensor] = []

    class Previews(RegionObserver):
        shows_canvas = True

        def previewed(self, x0: Tensor, done: int, planned: int) -> None:
            seen.append(x0)

    result = sample_regions(
        _tile_model(golden, meta["tile_model"], meta["t"], float(a)),
        golden["in.x"] / math.sqrt(a),
        sigma_of(np.array([a, previous])).tolist(),
        regions=regions,
        stepper=stepper_for("ddpm", NoiseSpace.VARIANCE_EXPLODING),
        merge=MergeMode.AGGREGATE,
        policy=FixedSchedule(),
        noise=lambda level: golden["in.noise"][0],
        rows_per_call=BatchSize(4),
        observer=Previews(),
        window=torch.from_numpy(offcentre_window(meta["tile"], meta["tile"])).float(),
    )
    golden.expect("out.x0", seen[0], NETWORK)
    golden.expect("out.x_prev", result.samples * math.sqrt(previous), NETWORK)


def _tile_model(golden: Golden, description: str, t: int, a: float) -> RegionModel:
    """The analytic network of the file as a predictor of x0; its numbers are read from its description."""
    pattern = re.escape(TILE_MODEL)
    for number in ("0\\.5", "0\\.25", "0\\.1"):
        pattern = pattern.replace(number, NUMBER, 1)
    match = re.fullmatch(pattern, description)
    if match is None:
        raise ValueError(f"The tile model is {description!r}, expected the form {TILE_MODEL!r}.")
    shape, light, time = (float(number) for number in match.groups())
    is_v = golden.path.stem.endswith("_v")

    def model(y: Tensor, sigma: Tensor, rows: Sequence[Row]) -> Tensor:
        z = y * math.sqrt(a)
        lr = torch.stack([golden["in.lr"][(row.image, slice(None), *row.region.slices)] for row in rows])
        output = shape * (z - z.mean((2, 3), keepdim=True)) + light * lr.square() - time * t / 1000
        return math.sqrt(a) * z - math.sqrt(1 - a) * output if is_v else (z - math.sqrt(1 - a) * output) / math.sqrt(a)

    return model


def metadata(golden: Golden) -> dict[str, Any]:
    """The file's metadata, whose values are JSON one by one."""
    with safe_open(golden.path, framework="pt") as file:
        return {key: json.loads(value) for key, value in file.metadata().items()}


CHECKS: Checks = {
    "03_gaussian_weights": check_gaussian_weights,
    "04_tile_grids": check_tile_grids,
    "17_canvas_step_eps": check_canvas_step,
    "17_canvas_step_v": check_canvas_step,
}
