"""Gains of every back end in the region sampler, the trained parts at the paper's sizes, and PFJ."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from ...models.feature_injection import PfjConfig
from ...models.gain_models import GainModels, GainModelsConfig, GainModelsInfo, MetricInfo
from ...models.gain_regressor import MmleConfig
from .bench import Bench, Case
from .regions import canvas, sample, unet_model
from .sd import load_vae, text
from .stablesr import load_parts
from .weights import like

GAIN_MODELS = "mmle_pfj.safetensors"
METRICS = ("psnr", "nlpd", "sharpness", "lpips", "musiq", "brisque")
LIMITS = {"intervals": "1, 2, 3, 4", "warmup": 2, "patience": 2, "t_half": 500.0, "t_sat_max": 300.0}
LIMITS |= {"min_share": 0.1, "max_share": 1.0, "tail_guard": 0.0, "prior": 1.0, "growing": "both"}
GAIN = {"tau": 0.005, "mode": "ladder", "metrics": "psnr, nlpd, sharpness", **LIMITS}
SIZE = (1048, 744)
STEPS = 6


def load_gain_models(bench: Bench, model: Any) -> Any:
    """GAIN_MODELS at the paper's sizes, said to be trained on this MODEL."""
    base, label = importlib.import_module("adaptivesr.host.gains.models").base_of(model)
    metrics = tuple(MetricInfo(name, 0.0, 1.0, name != "psnr", True, 1 / 6) for name in METRICS)
    metadata = GainModelsInfo(base, label, metrics).to_metadata()
    config = GainModelsConfig(MmleConfig(), PfjConfig())
    bench.files.put(
        "gain_models",
        GAIN_MODELS,
        lambda: like(bench.recorder, lambda: GainModels(config), torch.float32),
        metadata,
    )
    return bench.load("AdaptiveSRLoadMMLEPFJ", model_name=GAIN_MODELS)[0]


def gained(bench: Bench, back_end: str, **changes: Any) -> None:
    """SD 2.1 in regions whose gains a back end measures."""
    model = unet_model(bench, "SD 2.1")
    if back_end == "vae":
        changes["vae"] = load_vae(bench.recorder)
        bench.watch_vae(changes["vae"])
    if back_end == "regressor":
        changes["gain_models"] = load_gain_models(bench, model)
        bench.watch("MMLE", changes["gain_models"].network.mmle, marks=False)
    plan = bench.load("AdaptiveSRMMLEGainEstimator", **{**GAIN, "back_end": back_end, **changes})[0]
    name = changes.get("rule", back_end)
    sample(bench, f"SD 2.1, gains by {name}, {SIZE[0]}x{SIZE[1]}", model, canvas(*SIZE), gain=plan, steps=STEPS)


def latent(bench: Bench) -> None:
    gained(bench, "latent")


def rgb_linear(bench: Bench) -> None:
    gained(bench, "rgb_linear")


def proxies(bench: Bench) -> None:
    gained(bench, "proxies")


def vae(bench: Bench) -> None:
    gained(bench, "vae")


def regressor(bench: Bench) -> None:
    gained(bench, "regressor")


def step_size(bench: Bench) -> None:
    gained(bench, "latent", rule="step_size", tau=0.1)


def pfj(bench: Bench) -> None:
    """Injection into StableSR's LR latent, by gains of the latent."""
    base = unet_model(bench, "SD 2.1")
    parts, size = load_parts(bench, "stablesr_000117.ckpt"), canvas(*SIZE)
    inputs = {"model": base, "positive": text(base), "negative": text(base), "stablesr": parts, "lr_latent": size}
    model, positive, negative = bench.load("AdaptiveSRStableSRApply", **inputs)[:3]
    models = load_gain_models(bench, model)
    bench.watch("PFJ", models.network.pfj, marks=False)
    plan = bench.load("AdaptiveSRMMLEGainEstimator", **GAIN, back_end="latent")[0]
    inputs = {"model": model, "positive": positive, "negative": negative, "gain": plan, "gain_models": models}
    model, positive, negative = bench.load("AdaptiveSRPFJInject", **inputs)[:3]
    sample(
        bench,
        f"PFJ Inject on StableSR, SD 2.1, {SIZE[0]}x{SIZE[1]}",
        model,
        size,
        positive=positive,
        negative=negative,
        gain=plan,
        steps=STEPS,
        denoise=1.0,
    )


CASES: tuple[Case, ...] = (latent, rgb_linear, proxies, vae, regressor, step_size, pfj)
