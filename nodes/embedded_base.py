"""Load Embedded Base: a small MODEL that ships with the pack, to be steered by a ControlNet or by StableSR's parts."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.files import EMBEDDED_BASE
from .common import LOADERS, CheckedNode, output


class LoadEmbeddedBase(CheckedNode):
    """Gives the MODEL and the VAE of the weights that ship."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadEmbeddedBase",
            display_name="Load Embedded Base",
            category=LOADERS,
            description="A small diffusion model that ships with the pack and knows neither text nor an LR picture: for trying TASR and StableSR without a download, with the embedded entries of Load Time-Aware ControlNet and Load StableSR. Its pictures are no match for Stable Diffusion's.",
            search_aliases=["embedded", "small model", "no download", "tasr demo", "stablesr demo"],
            inputs=[
                io.Combo.Input(
                    "base",
                    options=[EMBEDDED_BASE],
                    default=EMBEDDED_BASE,
                    tooltip="1.9 M parameters, trained by the pack's own recipe on photographs.",
                )
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Sample it with cfg 1."),
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="Zeros: the base knows no text. For Apply ControlNet and the sampler.",
                ),
                io.Vae.Output(
                    display_name="vae", tooltip="Rearranges pixels, without loss; for Apply ControlNet and VAE Decode."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, base: str) -> io.NodeOutput:
        from ..host.conditioning import empty_prompt
        from ..host.latent_base import load_latent_base

        model, vae = load_latent_base()
        return output(
            model, empty_prompt(model), vae, line=f"{base}: 1.9 M parameters, latents of 48 channels of 4 x 4 pixels."
        )
