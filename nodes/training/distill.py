"""Distill One-Step SR."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ...host.images import join_image
from ...host.training.files import DISTILL, folder_state
from ...imaging.degradation.choices import PRESET_NAMES
from ...training.config import OWN_SETTINGS
from ...training.tad_sr.config import LOGIT_MEANS, PAPER, VARIANTS, DistillOptions, DistillSettings, ScoreForm
from ..common import CheckedNode, fingerprint, output
from ..types import OneStepSR
from .inputs import folder_input, rate_input, resume_input, save_input, steps_input

if TYPE_CHECKING:
    from ...host.resshift.loading import OneStepSR as OneStepModel

DEFAULTS, RUN = DistillSettings(), DistillOptions(steps=2000)


class DistillOneStepSR(CheckedNode):
    """TAD-SR's training inside of the graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRDistillOneStepSR",
            display_name="Distill One-Step SR",
            category="image/upscaling/AdaptiveSR/training",
            description="Trains a student that does in one step what a ResShift-type teacher does in many, on your pictures, as TAD-SR does; or one of its ablations, SinSR, or the teacher itself. Saves a file that Load One-Step SR offers, and a state from which the run can go on.",
            search_aliases=[
                "tad-sr",
                "sinsr",
                "resshift",
                "train upscale model",
                "distillation",
                "finetune",
                "one step",
            ],
            is_output_node=True,
            is_experimental=True,
            inputs=[
                *main_inputs(),
                *data_inputs(),
                *weight_inputs(),
                *run_inputs(),
                *optional_inputs(),
                *later_inputs(),
            ],
            outputs=[
                OneStepSR.Output(display_name="one_step_sr", tooltip="The trained network, for One-Step Distilled SR."),
                io.Image.Output(display_name="losses", tooltip="Every part of the loss over the steps."),
                io.Image.Output(display_name="samples", tooltip="LR, teacher, student and truth of a few pictures."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: files, steps, losses of the first and last tenth of the run, pyiqa's numbers of teacher and student.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, image_folder: str = "", **inputs: Any) -> str:
        return fingerprint(folder_state, image_folder)

    @classmethod
    def execute(
        cls, teacher: OneStepModel, method: str, steps: int, student: OneStepModel | None = None, **inputs: Any
    ) -> io.NodeOutput:
        from ...host.training.distill import DistillSource, distill
        from ...host.training.distill_data import options_of, settings_of
        from ...host.training.run import describe

        settings = settings_of(method, teacher, inputs)
        source = DistillSource(
            *(inputs.get(key) for key in ("image_folder", "images", "generated_pictures", "test_images"))
        )
        done = distill(teacher, student, source, settings, options_of(teacher, steps, inputs))
        pictures = join_image(done.losses), join_image(done.samples)
        return output(done.student, *pictures, json.dumps(done.report), line=describe(done.report))


def main_inputs() -> list[io.Input]:
    return [
        OneStepSR.Input("teacher", tooltip="A multi-step model from Load One-Step SR; it stays as it is."),
        io.Combo.Input(
            "method",
            options=list(VARIANTS),
            default="TAD-SR",
            tooltip="TAD-SR: distillation, high-frequency enhanced score distillation and a time-aware discriminator. The others leave parts out or exchange them. SinSR: its three losses. ResShift teacher: no distillation, the teacher itself is trained on.",
        ),
        steps_input(RUN.steps, paper="TAD-SR: 30000 at batch 8."),
        io.Int.Input(
            "batch_size",
            default=DEFAULTS.batch,
            min=1,
            max=256,
            advanced=True,
            tooltip="Crops per step. TAD-SR: 8.",
        ),
        rate_input(
            "learning_rate",
            DEFAULTS.lr,
            "The student's, AdamW, constant after the warm-up. TAD-SR: 0.00005. The small embedded family takes 0.0003 and more.",
        ),
        io.Int.Input(
            "seed",
            advanced=True,
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,
            tooltip="Of crops, degradations, noise, times and the discriminator's start.",
        ),
    ]


def data_inputs() -> list[io.Input]:
    return [
        folder_input(
            "Their small versions are made by the degradation. Leave empty for connected images or generated ones."
        ),
        io.Int.Input(
            "generated_pictures",
            default=0,
            min=0,
            max=10000,
            tooltip="Train on this many generated 320x320 pictures in place of a folder: enough to try the node, not to learn photographs. Each takes about a tenth of a second to make.",
        ),
        io.Combo.Input(
            "degradation",
            options=list(PRESET_NAMES),
            default=RUN.degradation,
            tooltip="How the LR pictures are made. tad_sr: that of ResShift, SinSR and TAD-SR; gfpgan_face: theirs for faces. mild: that of the embedded weights.",
        ),
        io.Int.Input(
            "crop_size",
            advanced=True,
            default=RUN.crop,
            min=32,
            max=2048,
            step=32,
            tooltip="Side of the sharp crops in pixels: 256 for x4 networks, 512 for faces; the embedded family takes any multiple of 32.",
        ),
        io.Boolean.Input(
            "whole_pictures",
            advanced=True,
            default=RUN.reduced,
            tooltip="On: the largest square of a picture, reduced to crop_size, as TAD-SR prepares its data. Off: crops at full resolution.",
        ),
        io.String.Input(
            "name", default=RUN.name, tooltip="Part of the file names; a number is added, nothing is overwritten."
        ),
        resume_input(DISTILL),
    ]


def weight_inputs() -> list[io.Input]:
    def weight(name: str, default: float, tooltip: str) -> io.Input:
        return io.Float.Input(name, default=default, min=0.0, max=1000.0, step=0.001, advanced=True, tooltip=tooltip)

    return [
        weight("distill_weight", DEFAULTS.distill, "Of the squared distance from the teacher's result. TAD-SR: 1."),
        weight("score_weight", DEFAULTS.score_weight, "Of the score distillation. TAD-SR: 1, for faces 0.1."),
        weight(
            "adversarial_weight",
            DEFAULTS.adversarial_weight,
            "Of the discriminator's verdict. TAD-SR: 0.02, for faces 0.2.",
        ),
        weight(
            "fidelity_weight",
            DEFAULTS.fidelity,
            "Of the distance from the true picture's latent (ours); 0: the teacher alone decides.",
        ),
        weight(
            "energy_weight",
            DEFAULTS.energy,
            "Of the mismatch of local sharpness with the true picture (ours); decodes, so it needs memory. Try 0.006 for the embedded family.",
        ),
        io.Combo.Input(
            "score_form",
            options=[form.value for form in ScoreForm],
            default=DEFAULTS.score_form,
            advanced=True,
            tooltip="code: noise uniform on [0, 1) and a second input scaling, which the public code does and the paper does not.",
        ),
    ]


def run_inputs() -> list[io.Input]:
    def count(name: str, default: int, most: int, tooltip: str) -> io.Input:
        return io.Int.Input(name, default=default, min=0, max=most, advanced=True, tooltip=tooltip)

    return [
        io.Int.Input(
            "teacher_steps",
            default=DEFAULTS.teacher_steps,
            min=0,
            max=1000,
            advanced=True,
            tooltip="Steps of the teacher's chain, 2 or more; 0: all, as TAD-SR. Fewer are faster and make another, smoother target.",
        ),
        rate_input(
            "discriminator_learning_rate", DEFAULTS.discriminator_lr, "Constant, without warm-up. TAD-SR: 0.00005."
        ),
        count("warmup", 200, 1_000_000, "Steps over which the student's learning rate rises. TAD-SR: 5000 of 30000."),
        io.Float.Input(
            "ema_decay",
            default=DEFAULTS.ema_decay,
            min=0.0,
            max=0.99999,
            step=0.0001,
            round=False,
            advanced=True,
            tooltip="Of the averaged weights, which are what is saved. Early steps count more.",
        ),
        count(
            "microbatch",
            DEFAULTS.microbatch,
            256,
            "Crops in one forward pass; gradients are summed over the batch. Less memory, one more student pass per step. 0: all.",
        ),
        io.Boolean.Input(
            "random_times",
            default=DEFAULTS.random_times,
            advanced=True,
            tooltip="The student also learns at three earlier times (an option of the public code, off there).",
        ),
        count(
            "samples_every",
            RUN.samples_every,
            1_000_000,
            "Steps between sample pictures in output/adaptivesr/training; 0: none.",
        ),
        save_input(RUN.save_every, " (about 2.2 GB for a published network)"),
        io.String.Input(
            "metrics",
            default=RUN.metrics,
            advanced=True,
            tooltip="pyiqa's names, measured at the end on the samples. Those given need no weights; lpips, clipiqa or musiq fetch theirs if they are not there, and are left out if that fails.",
        ),
    ]


def optional_inputs() -> list[io.Input]:
    return [
        OneStepSR.Input(
            "student",
            optional=True,
            tooltip="The student's start, of the teacher's architecture; without one it starts as the teacher.",
        ),
        io.Image.Input("images", optional=True, tooltip="Sharp pictures to train on, in place of image_folder."),
        io.Image.Input(
            "test_images",
            optional=True,
            tooltip="Sharp pictures for samples and metrics, the middle of the first four; without them crops of the training pictures, which says less.",
        ),
    ]


def later_inputs() -> list[io.Input]:
    """Inputs that came later, which older files do not have."""
    return [
        io.Combo.Input(
            "settings",
            options=[OWN_SETTINGS, PAPER],
            default=OWN_SETTINGS,
            optional=True,
            tooltip="paper: TAD-SR's for this kind of teacher, over the inputs: 30000 steps, warm-up 5000, rate 0.00005; x4: batch 8, crop 256, weights 1 / 1 / 0.02, tad_sr; faces (8 latent channels): batch 7, crop 512, weights 1 / 0.1 / 0.2, gfpgan_face. A resumed run takes steps from its input.",
        ),
        io.Int.Input(
            "score_levels",
            default=DEFAULTS.score_levels,
            min=1,
            max=1000,
            optional=True,
            advanced=True,
            tooltip="The score loss perturbs to the least noisy levels of the schedule, this many. TAD-SR's public code: 3 of 15; the paper: small time steps.",
        ),
        io.Combo.Input(
            "logit_mean",
            options=list(LOGIT_MEANS),
            default=DEFAULTS.logit_mean,
            optional=True,
            advanced=True,
            tooltip="Mean of the discriminator's logits. over positions: of all heads at once, so that larger maps weigh more, as in the public code. over heads: of each head first, as in the paper.",
        ),
    ]
