"""MMLE Gain Estimator: how many steps a region gets follows from what they gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..host.gains.choices import GainBackEnd, GainLimits
from ..sampling.adaptive.choices import GainRule, GrowingRule, JumpRule
from .common import CheckedNode, output
from .types import Gain, GainModels

if TYPE_CHECKING:
    from ..host.gains.models import LoadedGainModels

LIMITS = GainLimits()


def expert_inputs() -> list[io.Input]:
    """Numbers of the state machine."""
    return [
        io.String.Input(
            "intervals",
            default=LIMITS.intervals,
            advanced=True,
            tooltip="Steps that the four speeds advance per call, the first for regions that change fast. 1, 1, 1, 1: no jumps.",
        ),
        io.Int.Input(
            "warmup",
            default=LIMITS.warmup,
            min=0,
            max=1000,
            advanced=True,
            tooltip="First calls of every region at the first speed.",
        ),
        io.Int.Input(
            "patience",
            default=LIMITS.patience,
            min=1,
            max=1000,
            advanced=True,
            tooltip="Calls with falling quality in a row before a region ends early with its best prediction.",
        ),
        io.Float.Input(
            "t_half",
            default=LIMITS.t_half,
            min=0.0,
            max=1000.0,
            step=10.0,
            advanced=True,
            tooltip="Timestep (999 is pure noise) below which quality counts, not only closeness to the input.",
        ),
        io.Float.Input(
            "t_sat_max",
            default=LIMITS.t_sat_max,
            min=0.0,
            max=1000.0,
            step=10.0,
            advanced=True,
            tooltip="Timestep below which a region may end early; at most t_half. 0, the default: regions never end early; with vae and a quality metric such as piqe or musiq try 300.",
        ),
        io.Float.Input(
            "min_share",
            default=LIMITS.min_share,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Least share of the run's steps that a region makes.",
        ),
        io.Float.Input(
            "max_share",
            default=LIMITS.max_share,
            min=0.01,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Greatest share of the run's steps that a region makes, whatever it gains.",
        ),
        io.Float.Input(
            "tail_guard",
            default=LIMITS.tail_guard,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Share of the run at its end that is always made at the first speed.",
        ),
        io.Float.Input(
            "prior",
            optional=True,  # came later: workflows of the API without it still run
            default=LIMITS.prior,
            min=0.0,
            max=2.0,
            step=0.05,
            advanced=True,
            tooltip="How much the detail of the input counts: tau grows in flat regions and falls in busy ones, and the flattest third starts at the second speed. 0: regions are told apart by their gains only. Not used by aggregate and at tau 0.",
        ),
    ]


class MMLEGainEstimator(CheckedNode):
    """Chooses what gains are measured on and what follows from them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRMMLEGainEstimator",
            display_name="MMLE Gain Estimator",
            category="image/upscaling/AdaptiveSR",
            description="Lets Tiled Region Sampler decide the steps of every region while it runs: regions whose predictions stop changing take larger jumps, those that get worse can end early (AdaDiffSR). Gains are measured, or predicted by a trained regressor.",
            search_aliases=["adadiffsr", "dynamic timesteps", "adaptive steps", "early exit", "skip steps", "dtss"],
            inputs=[
                io.Combo.Input(
                    "back_end",
                    options=[kind.value for kind in GainBackEnd],
                    default=GainBackEnd.LATENT.value,
                    tooltip="What gains are measured on. latent: predictions as they are, any model. rgb_linear: ComfyUI's linear picture of them. proxies: distance and sharpness without metrics. vae: decoded pictures, slow. regressor: a trained MMLE from gain_models.",
                ),
                io.Float.Input(
                    "tau",
                    default=0.005,
                    min=0.0,
                    max=1.0,
                    step=0.0005,
                    round=0.00001,
                    tooltip="Gain per step of a 200-step chain from which a region counts as changing, in the paper's units; scaled to the back end and to the number of steps. Larger: fewer steps. 0: only regions that do not change at all jump.",
                ),
                io.Combo.Input(
                    "mode",
                    options=[rule.value for rule in JumpRule],
                    advanced=True,
                    default=JumpRule.LADDER.value,
                    tooltip="How the speed follows. ladder: stable regions speed up call by call. phase_class: by class and half of the chain. magnitude: by the size of the gain.",
                ),
                io.String.Input(
                    "metrics",
                    default="psnr, nlpd, sharpness",
                    tooltip="Names with commas; not used by proxies and regressor. psnr, nlpd, sharpness need no weights, nor do ssim, gmsd and piqe (rgb_linear, vae). lpips, ahiq, brisque, musiq, or paper for its six, make pyiqa fetch their weights; what cannot be had is left out and named.",
                ),
                *expert_inputs(),
                io.Latent.Input(
                    "reference",
                    optional=True,
                    tooltip="Latent of the enlarged input, as large as the sampled one. Without it and without image, the sampled latent itself.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Instead of reference: the enlarged input picture, in the size of the result. Needs vae.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="The model's VAE, for image and for back end vae."),
                GainModels.Input(
                    "gain_models",
                    optional=True,
                    tooltip="From Load MMLE + PFJ, for back end regressor only: the file of the MODEL that is sampled. Its metrics, weights and tau then count.",
                ),
                io.Combo.Input(
                    "rule",
                    optional=True,  # came later: workflows of the API without it still run
                    options=[rule.value for rule in GainRule],
                    advanced=True,
                    default=GainRule.PAPER.value,
                    tooltip="What decides the next jump. paper: AdaDiffSR's classes and speeds. step_size: as far as the estimated error of the jump stays below tau, in units of the latent; metrics, mode, intervals and prior then do not count.",
                ),
                io.Combo.Input(
                    "growing",
                    optional=True,  # came later: workflows of the API without it still run, by "either"
                    options=[rule.value for rule in GrowingRule],
                    default=GrowingRule.BOTH.value,
                    advanced=True,
                    tooltip="When a region counts as growing below t_half. both: closeness to the input and quality rise, as in the paper. either: quality rises or the region drifts away from the input; more steps.",
                ),
            ],
            outputs=[Gain.Output(display_name="gain", tooltip="For Tiled Region Sampler and Region Sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        back_end: str,
        tau: float,
        mode: str,
        metrics: str,
        reference: dict | None = None,
        image: torch.Tensor | None = None,
        vae: Any = None,
        gain_models: LoadedGainModels | None = None,
        rule: str = GainRule.PAPER.value,
        **limits: Any,
    ) -> io.NodeOutput:
        from ..host.gains.plan import make_plan, plan_text

        plan = make_plan(back_end, tau, mode, metrics, GainLimits(**limits), reference, image, vae, gain_models, rule)
        return output(plan, line=plan_text(plan))
