"""Train MMLE and Train PFJ."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from ...host.images import join_image
from ...host.training.files import MMLE as MMLE_FILES
from ...host.training.files import PFJ as PFJ_FILES
from ...host.training.files import RunFiles, folder_state
from ...host.training.networks import PRECISIONS
from ...imaging.degradation.choices import PRESET_NAMES
from ...sampling.adaptive.choices import STEPPER_NAMES
from ...training.gains.config import OFFLINE, PAPER, SMALL, GainOptions, MmleTrainConfig, PfjTrainConfig
from ..common import CheckedNode, fingerprint, output
from ..types import GainModels
from .inputs import folder_input, name_input, rate_input, resume_input, save_input, steps_input

CATEGORY = "image/upscaling/AdaptiveSR/training"
MMLE, PFJ, OWN = MmleTrainConfig(), PfjTrainConfig(), GainOptions(steps=1000)
REPORT = "JSON: files, steps, losses of the first and last tenth of the run"


class TrainMMLE(CheckedNode):
    """The training of AdaDiffSR's gain regressor inside of the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRTrainMMLE",
            display_name="Train MMLE",
            category=CATEGORY,
            description="Trains AdaDiffSR's gain regressor for your MODEL: runs its chain on degraded pictures, measures every prediction, caches all of it, and teaches a small network to tell the gains from latents alone. The file that it saves is for this MODEL only.",
            search_aliases=["adadiffsr", "mmle", "gain regressor", "train dynamic timesteps"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL that will be sampled; it stays as it is. Load One-Step SR's teacher, the output of StableSR Apply, or a text-to-image MODEL; no flow models.",
                ),
                io.Vae.Input("vae", tooltip="Its VAE; it stays as it is."),
                *common_inputs(MMLE.batch, MMLE.lr, "mmle", MMLE_FILES),
                io.Int.Input(
                    "trajectories",
                    default=OWN.trajectories,
                    min=8,
                    max=100_000,
                    step=8,
                    tooltip="Crops whose whole chain is cached in output/adaptivesr/training/trajectories, as half precision: calls times the latent each (40 calls at 512 pixels: 1.3 MB). More are added to those that are there. Ours: 2000 for a UNet.",
                ),
                io.String.Input(
                    "metrics",
                    default=OFFLINE,
                    tooltip="What gains are of, names of pyiqa with commas. paper: PSNR, LPIPS, AHIQ, NLPD, BRISQUE, MUSIQ, whose weights pyiqa fetches; what cannot be had is left out and named. The default needs no weights.",
                ),
                *chain_inputs(),
                io.Float.Input(
                    "t_half",
                    default=MMLE.t_half,
                    min=0.0,
                    max=1000.0,
                    step=10.0,
                    advanced=True,
                    tooltip="Metrics without reference count below this timestep only. The paper: the second half, 500.",
                ),
                io.Boolean.Input(
                    "visibility_floor",
                    default=MMLE.floor,
                    advanced=True,
                    tooltip="On: what the flattest quarter of the regions goes through counts as no gain, so that skies get fewer steps than texture. Off: ranges are 1 % and 99 % quantiles.",
                ),
                io.Boolean.Input(
                    "convolutions",
                    default=MMLE.convolutions,
                    advanced=True,
                    tooltip="Off, with size small: the regressor learns from statistics of the latents alone. A few hundred trajectories are too few for its convolutions, which then learn them by heart; thousands are wanted.",
                ),
                io.Int.Input(
                    "schedule",
                    default=MMLE.schedule,
                    min=0,
                    max=10_000_000,
                    advanced=True,
                    tooltip="Steps over which the learning rate falls as half a cosine; set it to the steps of all runs together. 0: it stays.",
                ),
                *optional_inputs(),
            ],
            outputs=outputs("correlation of predicted and measured gains on trajectories that were kept back."),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, image_folder: str = "", **inputs: Any) -> str:
        return fingerprint(folder_state, image_folder)

    @classmethod
    def execute(cls, model: Any, vae: Any, steps: int, **inputs: Any) -> io.NodeOutput:
        from ...host.training.gains import describe, train_mmle
        from ...host.training.run import from_inputs

        source = inputs.get("image_folder", ""), inputs.get("images")
        config, options = from_inputs(MmleTrainConfig, inputs), from_inputs(GainOptions, inputs, steps=steps)
        trained = train_mmle(model, vae, inputs.get("positive"), source, config, options)
        return output(
            trained.models, join_image(trained.losses), json.dumps(trained.report), line=describe(trained.report)
        )


class TrainPFJ(CheckedNode):
    """The training of AdaDiffSR's injection network inside of the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRTrainPFJ",
            display_name="Train PFJ",
            category=CATEGORY,
            description="Trains AdaDiffSR's feature injection for your MODEL and its gain regressor: how the LR condition of the next call should follow from what the last one gained. The file that it saves holds both parts.",
            search_aliases=["adadiffsr", "pfj", "feature injection", "train pfj"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL of the regressor, which must read the LR picture: Load One-Step SR's teacher, or the output of StableSR Apply. It stays as it is.",
                ),
                io.Vae.Input("vae", tooltip="Its VAE; it stays as it is."),
                GainModels.Input(
                    "gain_models", tooltip="A trained regressor for this MODEL: from Train MMLE or Load MMLE + PFJ."
                ),
                *common_inputs(PFJ.batch, PFJ.lr, "gain", PFJ_FILES),
                *chain_inputs(),
                *optional_inputs(),
            ],
            outputs=outputs("error of predictions with and without injection on pictures that were not trained on."),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, image_folder: str = "", **inputs: Any) -> str:
        return fingerprint(folder_state, image_folder)

    @classmethod
    def execute(cls, model: Any, vae: Any, gain_models: Any, steps: int, **inputs: Any) -> io.NodeOutput:
        from ...host.training.gains import describe, train_pfj
        from ...host.training.run import from_inputs

        source = inputs.get("image_folder", ""), inputs.get("images")
        options = from_inputs(GainOptions, inputs, steps=steps)
        config = from_inputs(PfjTrainConfig, inputs, sampler=options.samplers[0])
        trained = train_pfj(model, vae, inputs.get("positive"), gain_models, source, config, options)
        return output(
            trained.models, join_image(trained.losses), json.dumps(trained.report), line=describe(trained.report)
        )


def common_inputs(batch: int, lr: float, name: str, files: RunFiles) -> list[io.Input]:
    return [
        folder_input(),
        io.Combo.Input(
            "degradation",
            options=list(PRESET_NAMES),
            default=OWN.degradation,
            tooltip="How the small pictures are made of the sharp ones: tables of the papers, as Real-World Degradation has them. mild fits the embedded teacher, stablesr StableSR.",
        ),
        steps_input(OWN.steps, 10_000_000),
        io.Int.Input("batch_size", default=batch, min=1, max=1024, advanced=True, tooltip="Pairs or crops per step."),
        rate_input("learning_rate", lr, "Of Adam, at the start."),
        io.Combo.Input(
            "size",
            options=[PAPER, SMALL],
            default=PAPER,
            tooltip="paper: the published size, for the UNets of Stable Diffusion. small: for bases of about a million parameters, such as the embedded teacher.",
        ),
        io.Int.Input(
            "crop_size",
            advanced=True,
            default=OWN.crop,
            min=64,
            max=2048,
            step=8,
            tooltip="Side of the random crops in pixels of the result: the tile size that will be sampled. 128 fits the embedded teacher. A multiple of eight latent cells.",
        ),
        io.Int.Input(
            "seed",
            advanced=True,
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,
            tooltip="Of crops, degradations, noise and the start.",
        ),
        name_input(name),
        resume_input(files),
    ]


def chain_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "calls",
            advanced=True,
            default=OWN.calls,
            min=4,
            max=1000,
            tooltip="Steps of the chain that will be sampled with scheduler 'normal', at evenly spaced timesteps. The paper: 200; the embedded teacher: 40.",
        ),
        io.Float.Input(
            "denoise",
            advanced=True,
            default=OWN.denoise,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Share of the schedule, as in the sampler; 1 for MODELs that read the LR picture.",
        ),
        io.Combo.Input(
            "sampler_name",
            advanced=True,
            options=list(STEPPER_NAMES),
            default=OWN.sampler,
            tooltip="Sampler of the chain. The paper: ddpm.",
        ),
        io.Float.Input(
            "smooth_share",
            default=OWN.smooth_share,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Share of crops that are blurred to slow changes before they are degraded, for folders without skies and walls.",
        ),
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default=OWN.precision,
            advanced=True,
            tooltip="Of the frozen networks; gains are small, so float32 where memory allows. What is trained stays in float32. CPUs compute in float32 either way.",
        ),
        save_input(OWN.save_every),
    ]


def optional_inputs() -> list[io.Input]:
    return [
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="Prompt of all pictures; without it an empty one. Only the first entry is used.",
        ),
        io.Image.Input("images", optional=True, tooltip="Pictures to train on, in place of image_folder."),
    ]


def outputs(more: str) -> list[io.Output]:
    return [
        GainModels.Output(display_name="gain_models", tooltip="Ready for MMLE Gain Estimator and PFJ Inject."),
        io.Image.Output(display_name="losses", tooltip="Every part of the loss over the steps."),
        io.String.Output(display_name="report", tooltip=f"{REPORT}, {more}"),
    ]
