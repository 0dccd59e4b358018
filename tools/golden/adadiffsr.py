"""Golden checks of AdaDiffSR: the reference's jump coefficients and codebook, merging of regions; the others stand beside."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...imaging.tiles import Region, gaussian_window, merge, starts
from ...sampling.schedules import Table, sigma_of, stable_diffusion_alphas
from . import adadiffsr_codebook as cb
from .adadiffsr_dtss import CHECKS as DTSS_CHECKS
from .adadiffsr_gains import CHECKS as GAIN_CHECKS
from .formula_weights import meta_of
from .vectors import FORMULA, Checks, Golden, compared

F64_RELATIVE = 1e-10
FILE_FIELDS = {
    "ddpm_c_x0": "x0_factor",
    "ddpm_c_xt": "z_factor",
    "ddpm_var": "variance",
    "ddpm_a_xt": "z_factor_eps",
    "ddpm_b_eps": "eps_factor",
}
IMPLICIT_FIELDS = {"x0": "x0_factor", "eps": "eps_factor", "noise": "noise_factor"}


def check_skip_coefficients(golden: Golden) -> None:
    golden.compared_keys |= {"betas", "pairs_t_s"}  # inputs, whatever their names
    alphas = np.cumprod(1.0 - golden["betas"].numpy())
    _expect(golden, "alphas_cumprod", alphas)
    t, s = golden["pairs_t_s"].numpy().T
    a, b = alphas[t], np.append(alphas, 1.0)[s]  # s = -1, "finish", is the appended 1
    for key, name in FILE_FIELDS.items():
        _expect(golden, key, getattr(cb.ancestral_jump(a, b), name))
    _expect(golden, "sigma_t", sigma_of(a))
    _expect(golden, "sigma_s", sigma_of(b))
    for key in golden.below("ddim_eta"):
        eta, name = key.split("_")
        _expect(golden, f"ddim_eta{key}", getattr(cb.implicit_jump(a, b, float(eta)), IMPLICIT_FIELDS[name]))


def check_codebook(golden: Golden) -> None:
    golden.compared_keys.add("jumps")
    coefficients = golden.path.with_name("skip_coeffs.safetensors")
    if coefficients.is_file():
        alphas = Golden.load(coefficients)["alphas_cumprod"].numpy()
    else:
        alphas = stable_diffusion_alphas()
    grid = cb.grid_timesteps(len(golden["grid"]), len(alphas))
    golden.expect("grid", torch.tensor(grid))
    table = cb.ancestral_codebook(alphas, grid, golden["jumps"].tolist())
    for key, name in FILE_FIELDS.items():
        _expect(golden, key, getattr(table, name))


def check_region_merge(golden: Golden) -> None:
    golden.compared_keys.add("tiles")
    layout = _layouts(golden.path)[0]
    tiles: Tensor = golden["tiles"]
    size, stride = layout["tile"], layout["stride"]
    places = [(y, x) for y in starts(layout["H"], size, stride) for x in starts(layout["W"], size, stride)]
    regions = [Region(y, x, size, size) for y, x in places]
    shape = (1, tiles.shape[1], layout["H"], layout["W"])
    golden.expect("gauss1d", gaussian_window(1, size)[0], FORMULA / 10)
    golden.expect("merged", merge(tiles, regions, shape, gaussian_window(size, size))[0], FORMULA / 10)
    for other in _layouts(golden.path):
        found = [starts(other[side], other["tile"], other["stride"]) for side in ("H", "W")]
        wrong = float(found != [other["ys"], other["xs"]])
        golden.results.append(compared(f"origins_{other['H']}x{other['W']}", wrong, 0.0))


def _layouts(path: Path) -> list[dict[str, Any]]:
    return meta_of(path)["region_slices"]


def _expect(golden: Golden, key: str, actual: Table) -> None:
    """Compares element by element, relative to each; NaN must stand where the file has NaN."""
    expected = golden[key].numpy()
    golden.compared_keys.add(key)
    if actual.shape != expected.shape or not np.array_equal(np.isnan(actual), np.isnan(expected)):
        golden.results.append(compared(key, math.inf, F64_RELATIVE))
        return
    scale = np.where(expected == 0.0, 1.0, np.abs(expected))
    golden.results.append(compared(key, float(np.nanmax(np.abs(actual - expected) / scale)), F64_RELATIVE))


CHECKS: Checks = {
    "skip_coeffs": check_skip_coefficients,
    "codebook": check_codebook,
    "region_merge": check_region_merge,
    **DTSS_CHECKS,
    **GAIN_CHECKS,
}
