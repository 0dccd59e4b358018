"""StableSR: the MODEL that Apply gives in the region sampler, Super Resolution (StableSR), and CFW decoding whole and in tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .bench import Bench, Case
from .device import run_node
from .regions import STEPS, canvas, sample, unet_model
from .sd import V_BIAS, spread, text
from .weights import listed

CFW = "vqgan_cfw_00011.ckpt"


def file_weights(bench: Bench, *, predicts_v: bool) -> dict[str, Tensor]:
    """Tensors of a checkpoint; whether its denoiser predicts v is told by the values of one of them."""
    found = listed(bench.recorder, "stablesr_512")
    return {key: spread(value, predicts_v) if key.endswith(V_BIAS) else value for key, value in found.items()}


def load_parts(bench: Bench, name: str) -> Any:
    """STABLESR of the published list of keys under a published file's name."""
    bench.files.put("stablesr", name, lambda: file_weights(bench, predicts_v="768v" in name))
    loaded = bench.load("AdaptiveSRLoadStableSR", model_name=name)[0]
    bench.watch("StableSR's encoder", loaded.parts.encoder, marks=False)
    return loaded


def load_cfw(bench: Bench) -> tuple[Any, Any]:
    """CFW, and the VAE of its file."""
    bench.files.put_list("cfw", CFW, "vqgan_cfw")
    loaded, vae, _ = bench.load("AdaptiveSRLoadCFW", cfw_name=CFW)
    bench.watch("CFW", loaded.network, marks=False)
    return loaded, vae


def apply(bench: Bench, file: str, *, size: tuple[int, int], **options: Any) -> None:
    """StableSR Apply on the base of a file, sampled in regions of `tile_size`."""
    width, height = size
    predicts_v = "768v" in file
    model = unet_model(bench, "SD 2.1", predicts_v=predicts_v)
    parts, latent = load_parts(bench, file), canvas(width, height)
    inputs = {"model": model, "positive": text(model), "negative": text(model), "stablesr": parts, "lr_latent": latent}
    guided, positive, negative = bench.load("AdaptiveSRStableSRApply", **inputs, strength=1.0)[:3]
    settings = {"denoise": 1.0, "merge_mode": "aggregate", "sampler_name": "ddpm", **options}
    sample(
        bench,
        f"StableSR Apply, {file}, {width}x{height}",
        guided,
        latent,
        positive=positive,
        negative=negative,
        **settings,
    )


def apply_512(bench: Bench) -> None:
    """With guidance."""
    apply(bench, "stablesr_000117.ckpt", size=(2048, 2048), cfg=7.0)


def apply_768v(bench: Bench) -> None:
    """An odd size, consensus of regions at levels of their own kind."""
    apply(bench, "stablesr_768v_000139.ckpt", size=(1160, 904), tile_size=768, merge_mode="consensus")


def apply_turbo(bench: Bench) -> None:
    """Without guidance."""
    apply(bench, "stablesr_turbo.ckpt", size=(2048, 2048), cfg=1.0)


def upscale(bench: Bench, *, size: tuple[int, int], scale: float, decode_tile: int = 0) -> None:
    """Super Resolution (StableSR) of a random picture of (width, height) with CFW."""
    width, height = size
    model = unet_model(bench, "SD 2.1")
    parts, (cfw, vae) = load_parts(bench, "stablesr_turbo.ckpt"), load_cfw(bench)
    bench.watch_vae(vae)
    inputs = {"model": model, "positive": text(model), "negative": text(model), "stablesr": parts, "vae": vae}
    inputs |= {"image": torch.rand(1, height, width, 3), "preset": "turbo, 4 steps", "scale": scale, "seed": 1}
    inputs |= {"w": 0.5, "color_fix": "adain", "steps": STEPS, "decode_tile": decode_tile, "cfw": cfw}
    large = f"{round(width * scale)}x{round(height * scale)}"
    tiles = f", decoded in tiles of {decode_tile}" if decode_tile else ""
    bench.run(
        f"Super Resolution (StableSR) with CFW, {width}x{height} to {large}{tiles}",
        lambda: run_node("AdaptiveSRStableSRUpscale", **inputs),
    )


def upscale_large(bench: Bench) -> None:
    """512 to 2048 pixels, decoded as a whole, or in tiles where the card has no room for it."""
    upscale(bench, size=(512, 512), scale=4.0)


def upscale_odd(bench: Bench) -> None:
    """An odd size, decoded in tiles."""
    upscale(bench, size=(287, 203), scale=3.7, decode_tile=512)


def decode(bench: Bench) -> None:
    """CFW Decode, whole and in tiles, with a small LR picture."""
    cfw, vae = load_cfw(bench)
    bench.watch_vae(vae)
    inputs = {"vae": vae, "cfw": cfw, "latent": canvas(1024, 1024), "lr_image": torch.rand(1, 256, 256, 3)}
    for tile in (0, 512):
        bench.run(
            f"CFW Decode, 1024x1024, {f'tiles of {tile}' if tile else 'whole'}",
            lambda tile=tile: run_node("AdaptiveSRCFWDecode", **inputs, w=0.5, tile=tile),
        )


def quick(bench: Bench) -> None:
    """A small picture of odd sides through the whole of StableSR."""
    upscale(bench, size=(131, 150), scale=4.0)


CASES: tuple[Case, ...] = (apply_512, apply_768v, apply_turbo, upscale_large, upscale_odd, decode)
