"""Load One-Step SR and One-Step Distilled SR."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..host import files
from ..host.images import join_image, split_image
from ..imaging.color import ColorFix, match_color
from ..sampling.tiled.residual_shift_presets import PRESETS
from .common import (
    CATEGORY,
    LOADERS,
    NO_COLOR_FIX,
    CheckedNode,
    color_fix_input,
    display_of,
    file_fingerprint,
    file_input,
    output,
    seed_input,
    size_inputs,
)
from .types import OneStepSR

if TYPE_CHECKING:
    from ..host.resshift.loading import OneStepSR as OneStepModel


class LoadOneStepSR(CheckedNode):
    """Gives a residual-shift checkpoint as ONE_STEP_SR, and the same network as MODEL and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadOneStepSR",
            display_name="Load One-Step SR",
            category=LOADERS,
            description="Loads a ResShift, SinSR or TAD-SR checkpoint, or the small weights that ship with the pack, with its autoencoder.",
            search_aliases=["resshift", "sinsr", "tad-sr", "load upscale model", "one step super resolution"],
            inputs=[
                file_input(
                    "model_name",
                    files.ONE_STEP,
                    "Files of models/adaptivesr/one_step, told apart by their keys whatever their name. 'embedded: one step' is a small network that ships with the pack, for fidelity rather than invented detail: no download, modest quality.",
                ),
                io.Combo.Input(
                    "autoencoder",
                    options=[files.AUTO, *files.list_files(files.AUTOENCODER)],
                    default=files.AUTO,
                    tooltip="VQ autoencoder from models/adaptivesr/autoencoder. auto: the file that fits the checkpoint's latents (autoencoder_vq_f4 for x4, ffhq512_vq_f8_dim8_face for faces). Embedded weights need none.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[files.AUTO, *PRESETS],
                    default=files.AUTO,
                    advanced=True,
                    tooltip="What the file's keys cannot tell: 15 or 4 steps, teacher or one-step student. auto: from the file name (_s15, _s4, SinSR, TAD); the choice is shown under the node. A wrong one gives wrong time steps.",
                ),
            ],
            outputs=[
                OneStepSR.Output(display_name="one_step_sr", tooltip="For One-Step Distilled SR."),
                io.Model.Output(
                    display_name="model",
                    tooltip="The same network for the host's samplers; needs ResShift Conditioning.",
                ),
                io.Vae.Output(display_name="vae", tooltip="The autoencoder for VAE Encode and VAE Decode."),
                io.String.Output(display_name="info", tooltip="What was recognised and which schedule is used."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str, autoencoder: str, preset: str) -> str:
        from ..host.resshift.loading import file_paths

        return file_fingerprint(lambda name, beside, _: file_paths(name, beside), model_name, autoencoder, preset)

    @classmethod
    def execute(cls, model_name: str, autoencoder: str = files.AUTO, preset: str = files.AUTO) -> io.NodeOutput:
        from ..host.resshift.loading import load_one_step

        sr = load_one_step(model_name, autoencoder, preset)
        return output(sr, sr.patcher, sr.vae, sr.summary, line=sr.summary)


class OneStepDistilledSR(CheckedNode):
    """Upscales images of any size with a residual-shift model, tiled on one noise field."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSROneStepDistilledSR",
            display_name="One-Step Distilled SR",
            category=CATEGORY,
            description="Upscales with one network pass per tile (TAD-SR, SinSR) or with the teacher's chain (ResShift). Any size, any target, batches and transparency.",
            search_aliases=["upscale", "super resolution", "放大", "sinsr", "tad-sr", "resshift", "one step", "4x"],
            inputs=[
                OneStepSR.Input("one_step_sr", tooltip="From Load One-Step SR."),
                io.Image.Input(
                    "image", tooltip="Images of any size. Transparency is enlarged beside them and put back."
                ),
                io.Float.Input(
                    "scale",
                    default=4.0,
                    min=0.1,
                    max=16.0,
                    step=0.05,
                    tooltip="Size of the result in multiples of the input. The network's own scale (4 for most) is applied first, then one resize. Ignored where width or height is set.",
                ),
                *size_inputs(),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=15,
                    tooltip="0: as trained (1 for a student, all for a teacher). 1: one step from the noisiest level, for any weights. Others: a shortened chain of a teacher.",
                ),
                seed_input(
                    "One noise field per seed covers the whole picture, the same for every image of a batch and for every tile size."
                ),
                color_fix_input(
                    "Gives the result the input's colours, as the Wavelet Color Fix node does. none: as the papers."
                ),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=4096,
                    step=8,
                    tooltip="Tile side in pixels of the network's input, lifted to what the network can take (64s for published weights). 0: about 256, which ResShift's authors prefer for detail, width and height apart, whatever covers the picture for the least work, the autoencoder's attention counted. Smaller: less memory.",
                ),
                io.Int.Input(
                    "overlap",
                    advanced=True,
                    default=32,
                    min=0,
                    max=1024,
                    step=4,
                    tooltip="Least overlap of tiles in pixels of the network's input; tiles are spread evenly. More hides seams better and costs more calls.",
                ),
                io.Int.Input(
                    "tile_batch",
                    default=0,
                    min=0,
                    max=64,
                    advanced=True,
                    tooltip="Tiles in one network call; 0: by the host's memory estimate. Halved when memory runs out. The result does not depend on it.",
                ),
                io.Combo.Input(
                    "chain",
                    options=["stochastic", "deterministic"],
                    default="stochastic",
                    advanced=True,
                    tooltip="For more than one step: ResShift's random chain or SinSR's deterministic one.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The large picture."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: network calls, latent Mpx, decoded pixels per output pixel, halvings, seconds.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        one_step_sr: OneStepModel,
        image: io.Image.Type,
        scale: float,
        width: int,
        height: int,
        steps: int,
        seed: int,
        color_fix: str,
        tile: int,
        overlap: int,
        tile_batch: int,
        chain: str,
    ) -> io.NodeOutput:
        from ..host.resshift import upscale

        rgb, alpha = split_image(image)
        size = upscale.target_size(rgb.shape[3], rgb.shape[2], scale, width, height)
        settings = upscale.UpscaleSettings(steps, chain == "stochastic", tile, overlap, tile_batch, seed)
        display = display_of(cls)
        result, report = upscale.upscale_rgb(one_step_sr, rgb, size, settings, display)
        if color_fix != NO_COLOR_FIX:
            result = match_color(result.clamp(0, 1), rgb, ColorFix(color_fix))
        return output(join_image(result, alpha), json.dumps(report, indent=1), display=display)
