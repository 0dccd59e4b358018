"""Load CFW and CFW Decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..host import files
from ..host.images import join_image, split_image
from .common import CATEGORY, LOADERS, CheckedNode, file_input, loader_fingerprint, output
from .types import CFW

if TYPE_CHECKING:
    from ..host.stablesr.cfw import LoadedCFW


class LoadCFW(CheckedNode):
    """Gives the fusion layers of a CFW file, and the VAE that the published file carries along."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadCFW",
            display_name="Load CFW",
            category=LOADERS,
            description="Loads StableSR's controllable feature wrapping (vqgan_cfw_00011) for CFW Decode, and the VAE in the same file.",
            search_aliases=["stablesr", "cfw", "vqgan_cfw", "controllable feature wrapping", "load vae"],
            inputs=[
                file_input(
                    "cfw_name",
                    files.CFW,
                    "Files of models/adaptivesr/cfw, told by their keys whatever their name: vqgan_cfw_00011.ckpt, or its fusion layers alone. One file serves StableSR 512, 768v and turbo.",
                ),
            ],
            outputs=[
                CFW.Output(display_name="cfw", tooltip="For CFW Decode."),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="The VAE beside which the fusion was trained, SD 2.1's. Empty for a file of fusion layers alone: use the checkpoint's VAE then.",
                ),
                io.String.Output(display_name="info", tooltip="What was recognised."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, cfw_name: str) -> str:
        return loader_fingerprint(files.CFW, cfw_name)

    @classmethod
    def execute(cls, cfw_name: str) -> io.NodeOutput:
        from ..host.stablesr.cfw import load_cfw

        loaded, vae = load_cfw(cfw_name)
        return output(loaded, vae, loaded.summary, line=loaded.summary)


class CFWDecode(CheckedNode):
    """Decodes a latent with the LR image's encoder features fused in."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRCFWDecode",
            display_name="CFW Decode",
            category=CATEGORY,
            description="VAE Decode that looks at the LR image: its encoder features are fused into the decoder with strength w, for fidelity against the picture that was upscaled. The effect is subtle.",
            search_aliases=["stablesr", "vae decode", "cfw", "fidelity", "decode tiled", "dec_w"],
            inputs=[
                io.Vae.Input("vae", tooltip="VAE of the SD 2.1 checkpoint, or the one that Load CFW gives."),
                CFW.Input("cfw", tooltip="From Load CFW."),
                io.Latent.Input("latent", tooltip="What was sampled, 4 channels. Batches work."),
                io.Image.Input(
                    "lr_image",
                    tooltip="The picture that was upscaled: the enlarged one that was encoded, or the small one, which is enlarged bicubically. One, or one for each latent. Its transparency is put back.",
                ),
                io.Float.Input(
                    "w",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.01,
                    tooltip="Strength. 0 is plain VAE Decode; 0.5 is the authors' choice; towards 1 closer to the LR image, with less invented detail.",
                ),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=8192,
                    step=64,
                    tooltip="Largest side of decoded tiles in output pixels: as many tiles as it takes, no larger than they must be; 0 decodes the whole picture, the least work. When memory runs out, tiles of 512, then 256 are taken by themselves.",
                ),
                io.Int.Input(
                    "overlap",
                    default=64,
                    min=0,
                    max=4096,
                    step=8,
                    advanced=True,
                    tooltip="Least overlap of tiles in output pixels.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The decoded picture.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        vae: io.Vae.Type,
        cfw: LoadedCFW,
        latent: dict,
        lr_image: io.Image.Type,
        w: float,
        tile: int,
        overlap: int = 64,
    ) -> io.NodeOutput:
        from ..host.stablesr.cfw import Decoding, decode_fused, fit_alpha

        rgb, alpha = split_image(lr_image, "lr_image")
        settings = Decoding(w, tile, overlap)
        pixels, remark = decode_fused(vae, cfw, latent["samples"], rgb, settings)
        return output(join_image(pixels, fit_alpha(alpha, pixels)), line=remark)
