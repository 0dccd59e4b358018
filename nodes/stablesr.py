"""Load StableSR and StableSR Apply."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..host import files
from .common import CATEGORY, LOADERS, CheckedNode, file_input, loader_fingerprint, output
from .types import StableSR

if TYPE_CHECKING:
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
                    "Files of models/adaptivesr/stablesr, told by their keys whatever their name. What else a checkpoint holds is left out. 512 and turbo files go with SD 2.1 base or SD Turbo, 768v files with SD 2.1 768.",
                ),
            ],
            outputs=[
                StableSR.Output(display_name="stablesr", tooltip="For StableSR Apply."),
                io.String.Output(display_name="info", tooltip="What was recognised and which base it goes with."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str) -> str:
        return loader_fingerprint(files.STABLESR, model_name)

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        from ..host.stablesr.loading import load_stablesr

        loaded = load_stablesr(model_name)
        return output(loaded, loaded.summary, line=loaded.summary)


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
