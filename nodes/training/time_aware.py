"""Train Time-Aware Adapter."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from ...host.images import join_image
from ...host.training.files import TASR, folder_state
from ...imaging.degradation.choices import PRESET_NAMES
from ...models.time_aware_adapter_config import DESIGNS
from ...training.tasr.config import LEARNERS, SCHEDULES, STAGES, TasrConfig, TasrOptions
from ...training.tasr.losses import X0Formula
from ...training.tasr.rewards import REWARDS
from ..common import CheckedNode, fingerprint, output
from ..types import TimeAwareAdapter
from .inputs import folder_input, name_input, rate_input, resume_input, save_input, steps_input

DEFAULTS, SETTINGS = TasrConfig(), TasrOptions(steps=1000)


class TrainTimeAwareAdapter(CheckedNode):
    """TASR's training inside of the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRTrainTimeAwareAdapter",
            display_name="Train Time-Aware Adapter",
            category="image/upscaling/AdaptiveSR/training",
            description="Trains a DiffBIR-type ControlNet (stage I), or it and time-aware adapters in turns (stage II), on your pictures, as TASR does. Saves a file that Load Time-Aware ControlNet offers, and a state from which the run can go on.",
            search_aliases=["tasr", "train controlnet", "diffbir training", "finetune", "time-aware adapter"],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                *network_inputs(),
                *main_inputs(),
                *data_inputs(),
                *advanced_inputs(),
                *optional_inputs(),
                *later_inputs(),
            ],
            outputs=[
                TimeAwareAdapter.Output(display_name="adapter", tooltip="Trained gates; nothing after stage I."),
                io.ControlNet.Output(display_name="control_net", tooltip="The ControlNet that was trained with them."),
                io.Image.Output(display_name="losses", tooltip="Every part of the loss over the steps."),
                io.String.Output(
                    display_name="report", tooltip="JSON: files, steps, losses of the first and last tenth of the run."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, image_folder: str = "", **inputs: Any) -> str:
        return fingerprint(folder_state, image_folder)

    @classmethod
    def execute(cls, model: Any, vae: Any, positive: list, stage: str, steps: int, **inputs: Any) -> io.NodeOutput:
        from ...host.training.run import describe, from_inputs
        from ...host.training.tasr import settings_of, train_time_aware

        config, settings = settings_of(stage, inputs), from_inputs(TasrOptions, inputs, steps=steps)
        source = inputs.get("image_folder", ""), inputs.get("images")
        start = inputs.get("control_net"), inputs.get("adapter")
        prompts = positive, inputs.get("clip")
        trained = train_time_aware(model, vae, source, prompts, start, config, settings, inputs.get("cleaner"))
        losses = join_image(trained.losses)
        return output(
            trained.adapters, trained.control, losses, json.dumps(trained.report), line=describe(trained.report)
        )


def network_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model", tooltip="Stable Diffusion 2.1-base or another eps model of its kind; it stays as it is."
        ),
        io.Vae.Input("vae", tooltip="The checkpoint's VAE; it stays as it is."),
        io.Conditioning.Input(
            "positive",
            tooltip="Prompt of pictures without tags of their own: CLIP Text Encode, or Empty Prompt. Several entries: only the first is used.",
        ),
    ]


def main_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "stage",
            options=list(STAGES),
            default="stage II",
            tooltip="stage II: ControlNet and adapters in turns; needs a ControlNet that works already (DiffBIR v2, or stage I's). stage I: the ControlNet alone.",
        ),
        steps_input(1000, paper="The paper: 20000 in stage I, 100000 in stage II, at batch 32."),
        io.Int.Input("batch_size", default=DEFAULTS.batch, min=1, max=256, tooltip="Crops per step. The paper: 32."),
        rate_input(
            "learning_rate", DEFAULTS.lr, "AdamW, constant. The paper: 0.00001; the public code: 0.000005 in stage II."
        ),
        io.Combo.Input(
            "adapter_size",
            options=list(DESIGNS),
            default=SETTINGS.design,
            advanced=True,
            tooltip="lite: 10 M parameters (ours). full: 757 M, as in TASR's file. paper: as its text words it, gates up to 1. Not used with a connected adapter.",
        ),
        io.Int.Input(
            "adapter_every",
            default=DEFAULTS.adapter_every,
            min=1,
            max=1000,
            advanced=True,
            tooltip="Every n-th step trains the adapters, the others the ControlNet. 5: the public code. 2: turns, as the paper says. 1: adapters only.",
        ),
        io.Combo.Input(
            "reward",
            options=list(REWARDS),
            default=SETTINGS.reward,
            tooltip="What the adapters' steps maximise at timesteps 0 to 200. CLIP-IQA, and MANIQA and MUSIQ of the paper's ablation, need their files where pyiqa keeps them; nothing is downloaded. gradient energy match is ours: it matches the original's local sharpness and is no measure of quality.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            advanced=True,
            tooltip="Of crops, degradations, noise and timesteps.",
        ),
    ]


def data_inputs() -> list[io.Input]:
    return [
        folder_input(
            "Tags beside a picture (name.txt) are its prompt where clip is connected. Leave empty when images are connected."
        ),
        io.Int.Input(
            "crop_size",
            default=SETTINGS.crop,
            min=64,
            max=2048,
            step=64,
            tooltip="Side of the random crops in pixels; smaller pictures are enlarged. The paper: 512.",
        ),
        name_input(SETTINGS.name),
        resume_input(TASR),
    ]


def advanced_inputs() -> list[io.Input]:
    def weight(name: str, default: float, tooltip: str) -> io.Input:
        return io.Float.Input(name, default=default, min=0.0, max=100.0, step=0.001, advanced=True, tooltip=tooltip)

    return [
        weight(
            "l1_weight",
            DEFAULTS.l1_weight,
            "Of the pixel error at timesteps 1 to 799. The paper: 0.01; the public code: 0.1.",
        ),
        weight("reward_weight", DEFAULTS.reward_weight, "Of 1 - reward. The paper: 0.01; the public code: 0.1."),
        weight(
            "alpha_pull",
            DEFAULTS.pull_weight,
            "Of the gates' squared distance from their neutral value (ours), against too much reward; 0 is off, try 0.001.",
        ),
        io.Combo.Input(
            "x0_formula",
            options=[formula.value for formula in X0Formula],
            default=DEFAULTS.x0_formula,
            advanced=True,
            tooltip="How the picture losses estimate the clean latent. published code: the formula of a v-prediction, which is wrong for an eps model and dark near timestep 800.",
        ),
        io.Float.Input(
            "prompt_dropping",
            default=DEFAULTS.prompt_dropping,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Share of samples with the empty prompt, for cfg; needs clip. The public code: 0.5.",
        ),
        io.Int.Input(
            "decode_size",
            default=8 * DEFAULTS.decode_cells,
            min=0,
            max=2048,
            step=8,
            advanced=True,
            tooltip="Side in pixels of the random part that the VAE decodes for the picture losses, to save memory; CLIP-IQA wants about 224. 0: all of it.",
        ),
        io.Combo.Input(
            "precision",
            options=["bfloat16", "float32"],
            default=SETTINGS.precision,
            advanced=True,
            tooltip="Of the frozen networks and of the arithmetic; what is trained stays in float32. CPUs compute in float32 either way.",
        ),
        save_input(SETTINGS.save_every, " (about 4 GB for an SD 2.1 ControlNet)"),
    ]


def later_inputs() -> list[io.Input]:
    """Inputs that came later, which older files do not have."""
    return [
        io.Combo.Input(
            "degradation",
            options=list(PRESET_NAMES),
            default=SETTINGS.degradation,
            optional=True,
            advanced=True,
            tooltip="How the LR pictures are made: tasr is the public code's (CodeFormer's form), real-esrgan what the paper names (section 4.1).",
        ),
        io.Int.Input(
            "l1_below",
            default=DEFAULTS.l1_below,
            min=1,
            max=1000,
            optional=True,
            advanced=True,
            tooltip="The pixel error counts below this timestep, t_1 of the paper: 800. 1000: everywhere, which the paper's Table 4 advises against.",
        ),
        io.Int.Input(
            "reward_until",
            default=DEFAULTS.reward_until,
            min=0,
            max=999,
            optional=True,
            advanced=True,
            tooltip="The adapters' steps and the reward take timesteps from 0 to this one, t_clipiqa of the paper: 200. 999: everywhere, where the paper saw the training collapse.",
        ),
        io.Combo.Input(
            "loss_schedule",
            options=list(SCHEDULES),
            default=DEFAULTS.loss_schedule,
            optional=True,
            advanced=True,
            tooltip="The schedules of the paper's Table 4. by timestep: the method. inverse: the same intervals counted from timestep 999 down. everywhere: both picture losses at all timesteps. reward only: without the pixel error. All but the first made worse pictures there.",
        ),
        io.Combo.Input(
            "reward_moves",
            options=list(LEARNERS),
            default=DEFAULTS.reward_moves,
            optional=True,
            advanced=True,
            tooltip="adapters: the method. ControlNet, without adapters: stage II on the ControlNet alone, which the paper shows to end in reward hacking.",
        ),
        io.Boolean.Input(
            "sees_time",
            default=DEFAULTS.sees_time,
            optional=True,
            advanced=True,
            tooltip="Off: the gates do not know the timestep, an ablation of the paper; also of a connected adapter.",
        ),
        io.UpscaleModel.Input(
            "cleaner",
            optional=True,
            tooltip="Load Upscale Model with a restoration network (SwinIR, BSRNet, Real-ESRGAN): every condition is cleaned by it, as in the public code. Clean your pictures alike when you use the result. Without it the condition is the LR picture, as the paper says.",
        ),
    ]


def optional_inputs() -> list[io.Input]:
    return [
        io.ControlNet.Input(
            "control_net",
            optional=True,
            tooltip="Start, from Load Time-Aware ControlNet: DiffBIR v2 stands in for stage I. Without one the ControlNet starts as the model's encoder, silent, and needs stage I first.",
        ),
        TimeAwareAdapter.Input("adapter", optional=True, tooltip="Adapters to go on training, of any size."),
        io.Clip.Input(
            "clip",
            optional=True,
            tooltip="For the tags beside the pictures and for the empty prompt. Without it prompts are not dropped.",
        ),
        io.Image.Input("images", optional=True, tooltip="Pictures to train on, in place of image_folder."),
    ]
