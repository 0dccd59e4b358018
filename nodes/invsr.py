"""Load Noise Predictor, InvSR Noise and Super Resolution (InvSR)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..host import files
from ..host.images import join_image, split_image
from ..host.invsr.choices import Order
from ..imaging.color import ColorFix, match_color
from ..sampling.inversion import LONGEST_START, choose_taus
from .common import (
    CATEGORY,
    LOADERS,
    NO_COLOR_FIX,
    CheckedNode,
    color_fix_input,
    display_of,
    file_input,
    loader_fingerprint,
    output,
    seed_input,
)
from .types import NoisePredictor

if TYPE_CHECKING:
    from ..host.invsr.loading import NoisePredictorModel


def step_inputs() -> list[io.Input]:
    """Inputs that say from where and how often: both nodes have them."""
    return [
        io.Int.Input(
            "steps",
            default=1,
            min=1,
            max=LONGEST_START,
            tooltip="1 to 5 are the published lists, starting at step 200 (250 for five); more are spread evenly from 250. One step suits noisy pictures, several suit blurred ones. Not used where taus is filled in.",
        ),
        io.String.Input(
            "taus",
            default="",
            tooltip="Your own list of steps, falling, such as 200, 100, 50. The first must be 250, 200, 150 or 100: a larger one is sharper, a smaller one more faithful; 100 alone helps against patterns on skin. Empty: the list for steps.",
        ),
        seed_input("One noise field per seed covers the whole picture, the same for every image of a batch."),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=2.0,
            step=0.01,
            advanced=True,
            tooltip="Factor of the predicted noise. 1: as trained. Less: smoother; 0 adds none.",
        ),
    ]


def patch_inputs() -> list[io.Input]:
    """Inputs that say how large pictures are cut."""
    return [
        io.Int.Input(
            "patch_size",
            default=0,
            min=0,
            max=1024,
            step=16,
            tooltip="Patch side in pixels of the LR image. 0: 128, the training size, for the predicted noise; latent regions then have the size that covers the canvas for the least work, as in Tiled Region Sampler. 256 sees more context and needs more memory. Smaller images are extended by reflection and cropped back.",
        ),
        io.Int.Input(
            "overlap",
            advanced=True,
            default=32,
            min=0,
            max=512,
            step=2,
            tooltip="Least overlap of patches in pixels of the LR image, up to half a patch. More hides seams better and costs more calls.",
        ),
        io.Int.Input(
            "patch_batch",
            default=0,
            min=0,
            max=64,
            advanced=True,
            tooltip="Patches in one call; 0: by the host's memory estimate. Halved when memory runs out. The result does not depend on it.",
        ),
    ]


class LoadNoisePredictor(CheckedNode):
    """Gives InvSR's noise predictor."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadNoisePredictor",
            display_name="Load Noise Predictor",
            category=LOADERS,
            description="Loads InvSR's noise predictor (noise_predictor_sd_turbo_v5.pth, or one of your own training). It works with SD-Turbo. Published weights are for non-commercial use.",
            search_aliases=["invsr", "noise predictor", "sd turbo upscale", "diffusion inversion"],
            inputs=[
                file_input(
                    "model_name",
                    files.NOISE_PREDICTOR,
                    "Files of models/adaptivesr/noise_predictor, recognised by their keys whatever their name.",
                )
            ],
            outputs=[
                NoisePredictor.Output(
                    display_name="noise_predictor", tooltip="For InvSR Noise and Super Resolution (InvSR)."
                ),
                io.String.Output(display_name="info", tooltip="What was recognised, and its scale."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str) -> str:
        return loader_fingerprint(files.NOISE_PREDICTOR, model_name)

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        from ..host.invsr.loading import load_noise_predictor

        model = load_noise_predictor(model_name)
        return output(model, model.summary, line=model.summary)


class InvSRNoise(CheckedNode):
    """Start noise and noise levels for the host's samplers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRInvSRNoise",
            display_name="InvSR Noise",
            category=CATEGORY,
            description="Predicts from the small picture the noise that SD-Turbo is to start with. Sample with SamplerCustomAdvanced, a CFG or basic guider, and KSamplerSelect euler, or Region Sampler for large pictures.",
            search_aliases=["invsr", "diffusion inversion", "sd turbo upscale", "predicted noise", "super resolution"],
            inputs=[
                NoisePredictor.Input("noise_predictor", tooltip="From Load Noise Predictor."),
                io.Model.Input("model", tooltip="SD-Turbo; gives the noise levels."),
                io.Image.Input(
                    "lr_image",
                    tooltip="The small picture, not enlarged. The predictor's scale is fixed at x4: for another scale resize this picture first.",
                ),
                io.Latent.Input(
                    "lr_latent",
                    tooltip="The same picture enlarged x4 (Upscale Image By, bicubic) and encoded by VAE Encode.",
                ),
                *step_inputs(),
                *patch_inputs(),
            ],
            outputs=[
                io.Noise.Output(display_name="noise", tooltip="The predicted start noise."),
                io.Sigmas.Output(display_name="sigmas", tooltip="Noise levels of the steps."),
                io.Latent.Output(display_name="latent", tooltip="lr_latent, to be sampled."),
            ],
        )

    @classmethod
    def execute(
        cls,
        noise_predictor: NoisePredictorModel,
        model: io.Model.Type,
        lr_image: io.Image.Type,
        lr_latent: dict,
        steps: int,
        taus: str,
        seed: int,
        strength: float = 1.0,
        patch_size: int = 0,
        overlap: int = 32,
        patch_batch: int = 0,
    ) -> io.NodeOutput:
        from ..host.invsr.noise import noise_for, start_sigmas
        from ..sampling.tiled.start_noise import TRAINED_PATCH, Patches

        rgb, _ = split_image(lr_image, "lr_image")
        chosen = choose_taus(steps, taus, noise_predictor.starts)
        patches = Patches(patch_size or TRAINED_PATCH, overlap, patch_batch)
        sigmas = start_sigmas(model, chosen)
        noise, latent = noise_for(noise_predictor, rgb, lr_latent, chosen, patches, seed=seed, strength=strength)
        return io.NodeOutput(noise, sigmas, latent)


class InvSRUpscale(CheckedNode):
    """InvSR from picture to picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRInvSRUpscale",
            display_name="Super Resolution (InvSR)",
            category=CATEGORY,
            description="Upscales pictures of any size x4 with SD-Turbo and InvSR's noise predictor, in one step or more.",
            search_aliases=["invsr", "diffusion inversion", "sd turbo upscale", "one step super resolution", "4x"],
            inputs=[
                io.Model.Input("model", tooltip="SD-Turbo, from Load Checkpoint."),
                io.Conditioning.Input("positive", tooltip="The published prompt is in the workflow invsr."),
                io.Conditioning.Input("negative", tooltip="Used where cfg is above 1."),
                io.Vae.Input("vae", tooltip="The VAE of the SD-Turbo checkpoint."),
                NoisePredictor.Input("noise_predictor", tooltip="From Load Noise Predictor."),
                io.Image.Input(
                    "image",
                    tooltip="Pictures of any size, best below about 512 pixels: large ones are sharp already, reduce them first. The scale is x4; for another one resize this picture first. Transparency is enlarged beside it.",
                ),
                *step_inputs(),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance. 1 is off, as trained; more follows the prompts and takes twice the time.",
                ),
                color_fix_input(
                    "Gives the result the input's colours. The paper's numbers use wavelet; ycbcr keeps brightness and takes the colour alone."
                ),
                io.Combo.Input(
                    "mode",
                    options=[order.value for order in Order],
                    default=Order.LATENT_REGIONS.value,
                    tooltip="latent regions: patches are blended in latent space on one noise field, each pixel is decoded about once. pixel chop: the reference's order, every patch encoded, sampled and decoded on its own with half overlap, pixels blended; slower.",
                ),
                *patch_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture, four times larger."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: steps, predictor and model calls, latent Mpx, encoded and decoded Mpx, halvings, seconds.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        positive: list,
        negative: list,
        vae: io.Vae.Type,
        noise_predictor: NoisePredictorModel,
        image: io.Image.Type,
        steps: int,
        taus: str,
        seed: int,
        strength: float = 1.0,
        cfg: float = 1.0,
        color_fix: str = NO_COLOR_FIX,
        mode: str = Order.LATENT_REGIONS.value,
        patch_size: int = 0,
        overlap: int = 32,
        patch_batch: int = 0,
    ) -> io.NodeOutput:
        from ..host.invsr.upscale import InvSRSettings, describe, upscale_rgb
        from ..sampling.tiled.start_noise import TRAINED_PATCH, Patches

        rgb, alpha = split_image(image)
        chosen, fitted = choose_taus(steps, taus, noise_predictor.starts), patch_size == 0
        patches = Patches(patch_size or TRAINED_PATCH, overlap, patch_batch)
        settings = InvSRSettings(chosen, cfg, seed, strength, Order(mode), patches, fitted)
        display, conditions = display_of(cls), (positive, negative)
        large, report = upscale_rgb(model, conditions, vae, noise_predictor, rgb, settings, display)
        if color_fix != NO_COLOR_FIX:
            large = match_color(large, rgb, ColorFix(color_fix))
        return output(join_image(large, alpha), json.dumps(report), line=describe(report), display=display)
