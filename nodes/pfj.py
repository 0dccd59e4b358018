"""PFJ Inject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .common import CATEGORY, CheckedNode, output
from .types import Gain, GainModels

if TYPE_CHECKING:
    from ..host.gains.models import LoadedGainModels
    from ..host.gains.plan import GainPlan


class PFJInject(CheckedNode):
    """Lets the gains of regions decide how much of the LR image the next call of each gets."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRPFJInject",
            display_name="PFJ Inject",
            category=CATEGORY,
            description="Injects features of the LR image into a region's next call by what its last call gained (AdaDiffSR's progressive feature injection). For StableSR, DiffBIR and TASR ControlNets, ResShift models and models that take the LR latent beside their own.",
            search_aliases=["adadiffsr", "pfj", "feature injection", "fidelity", "progressive feature injection"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL as it is sampled, behind StableSR Apply and the like."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="Already with the LR condition: from StableSR Apply, Apply ControlNet or ResShift Conditioning.",
                ),
                io.Conditioning.Input("negative", tooltip="From the same node as positive."),
                Gain.Input(
                    "gain",
                    tooltip="From MMLE Gain Estimator, the same that goes to the sampler. With back end regressor and the same file every gain is known.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the injection. 1: as trained. 0: model and conditionings are passed on unchanged.",
                ),
                GainModels.Input(
                    "gain_models",
                    optional=True,
                    tooltip="From Load MMLE + PFJ, with a PFJ for this MODEL. Without it everything is passed on unchanged.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Carries the injection network: sample this one."),
                io.Conditioning.Output(
                    display_name="positive", tooltip="For Tiled Region Sampler or Region Sampler only."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="For Tiled Region Sampler or Region Sampler only."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        positive: list,
        negative: list,
        gain: GainPlan,
        strength: float = 1.0,
        gain_models: LoadedGainModels | None = None,
    ) -> io.NodeOutput:
        from ..host.gains.feature_injection import inject_pfj

        *outputs, line = inject_pfj(model, positive, negative, gain, gain_models, strength)
        return output(*outputs, line=line)
