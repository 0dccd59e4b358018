"""Load StableSR, StableSR Apply and Super Resolution (StableSR)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..host import files
from ..host.images import join_image, split_image
from ..host.stablesr.choices import PRESETS
from ..imaging.color import ColorFix
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
from .region import check_tile
from .types import CFW, StableSR

if TYPE_CHECKING:
    from ..host.stablesr.cfw import LoadedCFW
    from ..host.stablesr.loading import LoadedStableSR


class LoadStableSR(CheckedNode):
    """Gives the encoder and the SFT layers of a StableSR checkpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadStableSR",
            display_name="Load StableSR",
            category=LOADERS,
            description="Loads StableSR's time-aware encoder and SFT layers from an original checkpoint or from the small webui file: 512, 768v and turbo.",
            search_aliases=["stablesr", "struct cond", "spade", "sft", "webui_768v", "stablesr_turbo"],
            inputs=[
                file_input(
                    "model_name",
                    files.STABLESR,
                    "Files of models/adaptivesr/stablesr, told by their keys whatever their name; embedded: small base ships, for Load Embedded Base. 512 and turbo files go with SD 2.1 base or SD Turbo, 768v files with SD 2.1 768.",
                ),
                io.Boolean.Input(
                    "load_base",
                    default=False,
                    optional=True,
                    tooltip="Also gives the MODEL, CLIP and VAE that a full checkpoint holds (stablesr_000117, 768v_000139, turbo): no other checkpoint is needed then. Files of the parts alone have none.",
                ),
            ],
            outputs=[
                StableSR.Output(display_name="stablesr", tooltip="For StableSR Apply and Super Resolution (StableSR)."),
                io.String.Output(display_name="info", tooltip="What was recognised and which base it goes with."),
                io.Model.Output(display_name="model", tooltip="The base in the file, with load_base; else empty."),
                io.Clip.Output(display_name="clip", tooltip="Its text encoder, with load_base; else empty."),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="Its VAE, with load_base; else empty. Load CFW gives one that fits better.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **inputs: Any) -> str:
        return loader_fingerprint(files.STABLESR, model_name)

    @classmethod
    def execute(cls, model_name: str, load_base: bool = False) -> io.NodeOutput:
        from ..host.stablesr import loading

        if load_base:
            loaded, *base = loading.load_with_base(model_name)
        else:
            loaded, base = loading.load_stablesr(model_name), [None] * 3
        return output(loaded, loaded.summary, *base, line=loaded.summary)


class StableSRApply(CheckedNode):
    """Patches a MODEL so that the LR image guides it at every step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRStableSRApply",
            display_name="StableSR Apply",
            category=CATEGORY,
            description="Lets an LR image guide Stable Diffusion 2.1: its latent goes through the time-aware encoder at every step and modulates every residual block. Works with any sampler, with areas and with the Tiled Region Sampler.",
            search_aliases=["stablesr", "super resolution", "upscale", "restore", "spade", "sft"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Stable Diffusion 2.1 (512 base or 768) or SD Turbo, as the StableSR file wants. LoRAs may come before or after.",
                ),
                io.Conditioning.Input("positive", tooltip="Prompt. StableSR was trained with an empty one."),
                io.Conditioning.Input("negative", tooltip="Negative prompt; unused at cfg 1."),
                StableSR.Input("stablesr", tooltip="From Load StableSR."),
                io.Latent.Input(
                    "lr_latent",
                    tooltip="The LR image, enlarged to the final size first (bicubic) and then encoded by VAE Encode. It must have the size of the latent that is sampled; one, or one per image of the batch.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1: as trained. 0: the MODEL unchanged. Between: every residual branch is blended linearly from plain to modulated, which no paper describes.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Guided by the LR latent that the conditioning carries."),
                io.Conditioning.Output(
                    display_name="positive", tooltip="Carries the LR latent: sample the model with this one."
                ),
                io.Conditioning.Output(display_name="negative", tooltip="Carries the LR latent."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        positive: list,
        negative: list,
        stablesr: LoadedStableSR,
        lr_latent: dict,
        strength: float = 1.0,
    ) -> io.NodeOutput:
        from ..host.stablesr.loading import apply_stablesr

        *outputs, remark = apply_stablesr(model, positive, negative, stablesr, lr_latent, strength)
        return output(*outputs, line=remark)


def expert_inputs() -> list[io.Input]:
    """What the preset and the kind of the MODEL decide where it is 0."""
    return [
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1000,
            advanced=True,
            tooltip="Model calls for every region. 0: the preset's, 200, 20 or 4.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            advanced=True,
            tooltip="Guidance by the prompts. 1 is off, as in the paper's tables and for turbo; the authors' scripts also have 7 with prompts of their own: sharper, less faithful, twice the time.",
        ),
        io.Int.Input(
            "tile_size",
            default=0,
            min=0,
            max=8192,
            step=64,
            advanced=True,
            tooltip="Side of a region in pixels, and the least that the shorter side is enlarged to; regions overlap by half, as in the paper. 0: what the base was trained on, 512, or 768 for one that predicts v.",
        ),
        io.Int.Input(
            "decode_tile",
            default=0,
            min=0,
            max=8192,
            step=64,
            advanced=True,
            tooltip="With cfw: largest side of decoded tiles in pixels; 0 decodes the whole picture, and smaller tiles where memory runs out.",
        ),
    ]


class StableSRUpscale(CheckedNode):
    """StableSR from picture to picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRStableSRUpscale",
            display_name="Super Resolution (StableSR)",
            category=CATEGORY,
            description="Upscales pictures of any size with StableSR: enlarged, sampled region by region beside the encoder of the LR image, decoded with CFW, given the colours of the input.",
            search_aliases=["stablesr", "upscale", "super resolution", "restore", "4x"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The base of the StableSR file, from Load StableSR (load_base) or Load Checkpoint."
                ),
                io.Conditioning.Input("positive", tooltip="Prompt. StableSR was trained with an empty one."),
                io.Conditioning.Input("negative", tooltip="Negative prompt; unused at cfg 1."),
                StableSR.Input("stablesr", tooltip="From Load StableSR."),
                io.Vae.Input("vae", tooltip="The VAE of the base, or the one that Load CFW gives."),
                io.Image.Input(
                    "image",
                    tooltip="The small pictures, of any size. Where the result's shorter side would be below a region's (what the base was trained on), they are enlarged further and the result is reduced. Transparency is enlarged beside them.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    tooltip="How the published results were sampled: DDPM of 200 steps, DDIM of 20, or 4 steps for turbo files with SD Turbo.",
                ),
                io.Float.Input(
                    "scale",
                    default=4.0,
                    min=1.0,
                    max=16.0,
                    step=0.05,
                    tooltip="Size of the result in multiples of the input; 4 as trained.",
                ),
                seed_input("One noise field for the whole picture, the same for every image of a batch."),
                io.Float.Input(
                    "w",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.01,
                    tooltip="With cfw: strength of the fusion, 0.5 as the authors have it; towards 1 closer to the LR image.",
                ),
                color_fix_input(
                    "Gives the result the input's colours: adain is the paper's choice, wavelet the authors' other one.",
                    ColorFix.ADAIN.value,
                ),
                *expert_inputs(),
                CFW.Input("cfw", optional=True, tooltip="From Load CFW; without it the VAE decodes alone."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The pictures in exactly scale times their size."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: sizes, calls, latent Mpx, steps per region, seconds, for Region Report.",
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
        stablesr: LoadedStableSR,
        vae: io.Vae.Type,
        image: io.Image.Type,
        preset: str,
        scale: float,
        seed: int,
        w: float,
        color_fix: str,
        steps: int = 0,
        cfg: float = 1.0,
        tile_size: int = 0,
        decode_tile: int = 0,
        cfw: LoadedCFW | None = None,
    ) -> io.NodeOutput:
        from ..host.stablesr.upscale import StableSRParts, StableSRSettings, describe, upscale_rgb

        check_tile(tile_size)
        rgb, alpha = split_image(image)
        color = None if color_fix == NO_COLOR_FIX else ColorFix(color_fix)
        settings = StableSRSettings(preset, scale, seed, steps, cfg, w, color, tile_size, decode_tile)
        display, parts = display_of(cls), StableSRParts(model, positive, negative, stablesr, vae, cfw)
        large, report, remark = upscale_rgb(parts, rgb, settings, display)
        line = " ".join(filter(None, (describe(report), remark)))
        return output(join_image(large, alpha), json.dumps(report), line=line, display=display)
