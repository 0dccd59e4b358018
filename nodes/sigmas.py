"""Spaced Sigmas."""

from __future__ import annotations

from comfy_api.latest import io

from .common import CATEGORY, CheckedNode


class SpacedSigmas(CheckedNode):
    """The noise levels at which the papers' respaced chains stop."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRSpacedSigmas",
            display_name="Spaced Sigmas",
            category=CATEGORY,
            description="Evenly spaced timesteps with both ends, as the DDPM chains of StableSR, DiffBIR and TASR use them. With the sampler ddpm the host then runs the papers' chain.",
            search_aliases=["scheduler", "respacing", "ddpm", "stablesr", "diffbir", "tasr", "timesteps"],
            inputs=[
                io.Model.Input("model", tooltip="The model that will be sampled; eps and v models of 1000 timesteps."),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="Steps to take. StableSR: 200, or 4 for turbo. TASR: 20. DiffBIR: 50.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1: from the noisiest timestep. Less: the last steps of a longer chain, as in Basic Scheduler, for a result that stays closer to the start.",
                ),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, steps: int, denoise: float) -> io.NodeOutput:
        from ..host.sigmas import spaced_sigmas

        return io.NodeOutput(spaced_sigmas(model, steps, denoise))
