"""Golden checks of InvSR: noise predictor, schedule, sampler, patches, colours, degradation, tiled autoencoder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from ...imaging import color
from ...imaging.degradation import parts as degradation
from ...imaging.padding import to_chop
from ...imaging.resize import bicubic_upsample, resize
from ...imaging.tiles import Region, starts
from ...models.layers import timestep_embedding
from ...models.noise_predictor import DiagonalGaussian, NoisePredictor, NoisePredictorConfig
from ...models.state_dict import load_weights
from ...sampling.adaptive.steppers import Step, euler
from ...sampling.batching import BatchSize
from ...sampling.inversion import indices, inversion_sigmas, preset_taus
from ...sampling.schedules import sigma_of, stable_diffusion_alphas
from ...sampling.tiled.invsr import chop, chop_line, chop_regions, chop_window
from ...sampling.tiled.start_noise import PATCH_MULTIPLE
from .vectors import FORMULA, NETWORK, Checks, Golden, compared

SCALE = 4
WHOLE = {"time_emb": "time_embedding", "conv_in": "conv_in", "mid": "mid_block"}
PART = re.compile(r"down_(\d+)(?:_(resnet|attn)_(\d+))?")


def recorded_module(name: str) -> str:
    """Submodule of the encoder behind the name of a recorded output."""
    match = PART.fullmatch(name)
    if match is None:
        return WHOLE.get(name, "")
    level, kind, number = match.groups()
    folder = {"resnet": ".resnets.", "attn": ".attentions."}.get(kind, "")
    return f"down_blocks.{level}{folder}{number or ''}"


def predictor_of(golden: Golden) -> NoisePredictor:
    """The network of a file, at the file's head width and group count."""
    weights = golden.below("w.")
    config = NoisePredictorConfig.from_state_dict(
        weights, head_dim=golden.config["attention_head_dim"], groups=golden.config["norm_num_groups"]
    )
    network = NoisePredictor(config, device="meta")
    load_weights(network, weights)
    return network.eval()


@torch.no_grad()
def check_noise_predictor(golden: Golden) -> None:
    network, image = predictor_of(golden), golden["in.image"]
    name = "moments" if network.config.is_distribution else "out"
    golden.compared_keys |= {"odd.image", "pervec.t"}  # inputs, whatever their names
    for index in sorted({int(key.split(".")[0][1:]) for key in golden.tensors if key[0] == "t" and key[1].isdigit()}):
        moments = network(image, torch.full((len(image),), index))
        found = network.distribution(moments)
        golden.expect(f"t{index}.{name}", moments, NETWORK)
        golden.expect_all(f"t{index}.", {"mean": found.mean, "logvar": found.logvar, "std": found.std}.items(), NETWORK)
        if "in.noise" in golden:
            golden.expect(f"t{index}.sample", found.sample(golden["in.noise"]), NETWORK)
    golden.expect(f"pervec.{name}", network(image, golden["pervec.t"]), NETWORK)
    golden.expect(f"odd.{name}", network(golden["odd.image"], torch.full((len(golden["odd.image"]),), 149)), NETWORK)
    _check_inside(golden, network)


def _check_inside(golden: Golden, network: NoisePredictor) -> None:
    seen: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    paths = {name: recorded_module(name) for name in golden.below("dbg.")}
    modules = dict(network.encoder.named_modules())
    hooks = [modules[path].register_forward_hook(recorder(name)) for name, path in paths.items() if path]
    times = torch.full((len(golden["in.image"]),), 199)
    network(golden["in.image"], times)
    for hook in hooks:
        hook.remove()
    seen["time_proj"] = timestep_embedding(times, network.config.sinusoid_dim)
    golden.expect_all("dbg.", seen.items(), NETWORK)


def check_posterior(golden: Golden) -> None:
    golden.compared_keys |= {"moments", "noise"}
    found = DiagonalGaussian.from_moments(golden["moments"])
    results = {"mean": found.mean, "logvar": found.logvar, "std": found.std, "sample": found.sample(golden["noise"])}
    golden.expect_all("", results.items())
    golden.expect("kl", found.kl())
    golden.expect("partial_kl", found.kl(with_mean=False))


def metadata(golden: Golden) -> dict[str, Any]:
    """The file's metadata, whose values are JSON one by one."""
    with safe_open(golden.path, framework="pt") as file:
        return {key: _value(text) for key, text in file.metadata().items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # a bare file name


def sigma_table() -> Tensor:
    """Noise levels of Stable Diffusion by index."""
    return torch.from_numpy(sigma_of(stable_diffusion_alphas()))


def check_schedule(golden: Golden) -> None:
    alphas, sigmas = stable_diffusion_alphas(), sigma_table()
    # The file's products are float32 (relative difference up to 1.3e-5); ours are float64, as the host's.
    golden.expect("alphas_cumprod", torch.from_numpy(alphas), 2 * FORMULA)
    golden.expect("betas", torch.from_numpy(1.0 - alphas / np.append(1.0, alphas[:-1])), FORMULA)
    golden.expect("sigmas_ascending", sigmas, 2 * FORMULA)
    for key in [key for key in golden.tensors if key.endswith(".tau")]:
        steps = int(key[1:].split(".")[0])
        taus = preset_taus(steps)
        golden.expect(key, torch.tensor(taus))
        golden.expect(f"n{steps}.timesteps", torch.tensor(indices(taus)))
        golden.expect(f"n{steps}.sigmas", inversion_sigmas(taus, sigmas), 2 * FORMULA)


@torch.no_grad()
def check_pipeline(golden: Golden) -> None:
    predictor = predictor_of(golden.sibling("np_a"))
    golden.compared_keys |= {key for key in golden.tensors if key.startswith(("fake.", "vae.")) or key.endswith(".cfg")}
    lr, scaling = golden["in.lr"], metadata(golden)["vae_scaling_factor"]
    large = bicubic_upsample(lr, SCALE) * 2 - 1
    z_lr = scaling * fake_encode(golden, large, golden["in.noise_vae"])
    golden.expect("image_up", large)
    golden.expect("z_lr", z_lr)
    for case in sorted({key.split(".")[0] for key in golden.tensors if key.endswith(".tau")}):
        _check_trajectory(golden, case, predictor, lr, z_lr, scaling)


def _check_trajectory(
    golden: Golden, case: str, predictor: NoisePredictor, lr: Tensor, z_lr: Tensor, scaling: float
) -> None:
    taus = tuple(golden[f"{case}.tau"].tolist())
    if case.endswith("arb"):  # a list of the file's own
        golden.compared_keys.add(f"{case}.tau")
    else:
        taus = preset_taus(len(taus))
        golden.expect(f"{case}.tau", torch.tensor(taus))
    golden.expect(f"{case}.timesteps", torch.tensor(indices(taus)))
    sigmas = inversion_sigmas(taus, sigma_table()).float()
    golden.expect(f"{case}.sigmas", sigmas, 2 * FORMULA)
    found = predictor.distribution(predictor(lr, torch.full((len(lr),), indices(taus)[0])))
    noise = found.sample(golden["in.noise_np"])
    z = z_lr + sigmas[0] * noise
    golden.expect(f"{case}.pred_noise", noise, NETWORK)
    golden.expect(f"{case}.latent_start", z, NETWORK)
    for k, index in enumerate(indices(taus)):
        unet_in = z / (sigmas[k] ** 2 + 1).sqrt()
        eps = fake_eps(golden, unet_in, index, golden["in.cond_pos"])
        cfg = float(golden[f"{case}.cfg"])
        if cfg > 1:
            negative = fake_eps(golden, unet_in, index, golden["in.cond_neg"])
            eps = negative + cfg * (eps - negative)
        golden.expect(f"{case}.step{k}.unet_in", torch.cat([unet_in] * (2 if cfg > 1 else 1)), NETWORK)
        golden.expect(f"{case}.step{k}.eps", eps, NETWORK)
        z = euler(Step(z, z - sigmas[k] * eps, sigmas[k], sigmas[k + 1]))
        golden.expect(f"{case}.step{k}.latent_next", z, NETWORK)
    image = (_fake_decode(golden, z / scaling) * 0.5 + 0.5).clamp(0, 1)
    stride = 1 if case == "s1" else 4  # longer runs keep every fourth pixel
    golden.expect(f"{case}.image", image[..., ::stride, ::stride], NETWORK)


def fake_eps(golden: Golden, x: Tensor, index: float | Tensor, cond: Tensor) -> Tensor:
    """The file's stand-in for the diffusion network."""
    w, b, u, v, a = (golden[f"fake.{name}"] for name in ("W", "b", "u", "V", "A"))
    shift = b + index / 1000 * u + cond.mean(1) @ v.T  # (B, 4)
    hidden = torch.tanh(F.conv2d(x, w, padding=1) + shift[:, :, None, None])
    return torch.einsum("oc,bchw->bohw", a, hidden)


def fake_encode(golden: Golden, image: Tensor, noise: Tensor) -> Tensor:
    """The file's stand-in for the autoencoder, not scaled."""
    e, e0, s = (golden[f"vae.{name}"] for name in ("E", "e0", "s"))
    mean = torch.einsum("oc,bchw->bohw", e, F.avg_pool2d(image, 8)) + e0[:, None, None]
    return mean + s[:, None, None] * noise


def _fake_decode(golden: Golden, latent: Tensor) -> Tensor:
    pixels = torch.einsum("oc,bchw->bohw", golden["vae.D"], latent) + golden["vae.d0"][:, None, None]
    return F.interpolate(torch.tanh(pixels), scale_factor=8, mode="nearest")


def check_chop(golden: Golden) -> None:
    meta = metadata(golden)
    for name, lists in meta.items():
        match = re.fullmatch(r"starts_pch(\d+)_stride(\d+)", name)
        for length, expected in lists.items() if match else ():
            found = starts(int(length), int(match[1]), int(match[2]))
            golden.results.append(compared(f"starts_{length}", float(found != expected), 0.0))
    for key in golden.below("gauss."):
        golden.expect(f"gauss.{key}", torch.from_numpy(chop_line(int(key))), 1e-12)
    for name, case in meta["cases"].items():
        _check_chop_case(golden, name, case)


def _check_chop_case(golden: Golden, name: str, case: dict[str, Any]) -> None:
    lq, patch = golden[f"{name}.lq"], case["pch"]
    golden.compared_keys.add(f"{name}.lq")
    padding = to_chop(lq.shape[-2], lq.shape[-1], patch, PATCH_MULTIPLE)
    calls: list[int] = []

    def upscale(tiles: Tensor, regions: Sequence[Region]) -> Tensor:
        calls.append(len(tiles))
        return _patch_model(tiles, case["mode"])

    side = patch * SCALE
    window = torch.ones(side, side) if case["weight"] == "ones" else torch.from_numpy(chop_window(side)).float()
    quiet: Any = SimpleNamespace(is_out_of_memory=lambda error: False)
    out = chop(lq, padding, patch, SCALE, upscale, BatchSize(case["extra_bs"]), window, quiet)
    corners = [[region.y, region.x] for region in chop_regions(padding, patch)]
    golden.expect(f"{name}.lq_padded", padding.extend(lq))
    golden.expect(f"{name}.starts", torch.tensor(corners))
    golden.expect(f"{name}.calls", torch.tensor(calls))
    golden.expect(f"{name}.out", _colored(out, padding.extend(lq), case["color_fix"]).clamp(0, 1), NETWORK)


def _patch_model(tiles: Tensor, mode: str) -> Tensor:
    nearest = F.interpolate(tiles, scale_factor=SCALE, mode="nearest")
    if mode == "nearest":
        return nearest
    line = torch.arange(nearest.shape[-1], dtype=torch.float32)
    return 0.5 * nearest + 0.5 * (line[None, :] + 2 * line[:, None]) / (3 * len(line))


def _colored(image: Tensor, padded: Tensor, fix: str) -> Tensor:
    """The reference's colours come from the padded image, resized to the cropped result; ours from the image itself."""
    style = resize(padded, image.shape[-2], image.shape[-1])
    fixes = {"wavelet": color.wavelet_color_fix, "ycbcr": color.ycbcr_transfer}
    return fixes[fix](image, style) if fix else image


def check_colorfix(golden: Golden) -> None:
    golden.compared_keys |= {"content", "style"}
    content, style = golden["content"], golden["style"]
    high, _ = color.wavelet_decompose(content, 5)
    _, low = color.wavelet_decompose(style, 5)
    results = {
        "wavelet": color.wavelet_color_fix(content, style),
        "wavelet_high": high,
        "wavelet_low": color.wavelet_decompose(content, 5)[1],
        "ycbcr": color.ycbcr_transfer(content, style),
        "adain": color.adain(content, style),
        "rgb2ycbcr": color.rgb_to_ycbcr(content),
        "blur_r1": color.blur_level(content, 1),
        "blur_r4": color.blur_level(content, 4),
    }
    golden.expect_all("", results.items(), NETWORK)
    golden.expect("wavelet", high + low, NETWORK)


def check_degradation(golden: Golden) -> None:
    golden.compared_keys |= {"image", "kernel", "quality"}
    for i, values in enumerate(metadata(golden)["kernels"]):
        size, first = values["ksize"], values["sig_x"]
        turned = (first, values["sig_y"], values["theta"])
        padded = golden[f"sinc.{i}"].shape[-1]
        golden.expect(f"iso.{i}", degradation.gaussian_kernel(size, first))
        golden.expect(f"aniso.{i}", degradation.gaussian_kernel(size, *turned))
        golden.expect(f"gen_aniso.{i}", degradation.generalized_kernel(size, values["beta_g"], *turned))
        golden.expect(f"plat_aniso.{i}", degradation.plateau_kernel(size, values["beta_p"], *turned))
        golden.expect(f"sinc.{i}", degradation.sinc_kernel(size, values["omega"], padded))
    image = golden["image"]
    golden.expect("filtered", degradation.filter_per_sample(image, golden["kernel"]))
    golden.expect("jpeg", degradation.jpeg(image, golden["quality"]), NETWORK)


def reference_only_vae_tiling(golden: Golden) -> None:
    golden.compared_keys |= {"E8", "D3", "x", "z"}
    meta = metadata(golden)
    latent, sample, overlap = meta["tile_latent"], meta["tile_sample"], meta["overlap_factor"]

    def encode(tile: Tensor) -> Tensor:
        moments = torch.einsum("oc,bchw->bohw", golden["E8"], F.avg_pool2d(tile, 8))
        return moments + _ramp(moments, 0.1, 0.03)

    def decode(tile: Tensor) -> Tensor:
        pixels = F.interpolate(torch.einsum("oc,bchw->bohw", golden["D3"], tile), scale_factor=8, mode="nearest")
        return pixels + _ramp(pixels, 0.01, 0.003)

    golden.expect("moments", _tiled_code(golden["x"], encode, sample, latent, overlap))
    golden.expect("decoded", _tiled_code(golden["z"], decode, latent, sample, overlap))


def _ramp(like: Tensor, rows: float, columns: float) -> Tensor:
    return rows * torch.arange(like.shape[-2])[:, None] + columns * torch.arange(like.shape[-1])[None, :]


def _tiled_code(image: Tensor, code: Any, tile: int, out_tile: int, overlap: float) -> Tensor:
    """The reference's tiles: each is blended into the blended ones above and to the left, and keeps its first rows and columns.

    Only needed for patches above 256 LR pixels there; the product decodes overlapping parts (`imaging.tiles.partition`).
    """
    stride, extent = int(tile * (1 - overlap)), int(out_tile * overlap)
    keep = out_tile - extent
    height, width = image.shape[-2:]
    rows: list[list[Tensor]] = []
    for y in range(0, height, stride):
        row: list[Tensor] = []
        for x in range(0, width, stride):
            new = code(image[..., y : y + tile, x : x + tile])
            if rows:
                new = _blend(rows[-1][len(row)], new, extent, -2)
            row.append(_blend(row[-1], new, extent, -1) if row else new)
        rows.append(row)
    return torch.cat([torch.cat([t[..., :keep, :keep] for t in row], dim=-1) for row in rows], dim=-2)


def _blend(before: Tensor, new: Tensor, extent: int, dim: int) -> Tensor:
    count = min(extent, before.shape[dim], new.shape[dim])
    share = torch.arange(count) / count
    share = share[:, None] if dim == -2 else share
    end = before.narrow(dim, before.shape[dim] - count, count)
    mixed = end * (1 - share) + new.narrow(dim, 0, count) * share
    return torch.cat([mixed, new.narrow(dim, count, new.shape[dim] - count)], dim=dim)


CHECKS: Checks = {
    "np_a": check_noise_predictor,
    "np_b": check_noise_predictor,
    "np_c": check_noise_predictor,
    "posterior": check_posterior,
    "schedule": check_schedule,
    "pipeline": check_pipeline,
    "chop": check_chop,
    "colorfix": check_colorfix,
    "degradation": check_degradation,
    "vae_tiling": reference_only_vae_tiling,
}
