"""Load Time-Aware ControlNet, Time-Aware Adapter and Adapter Map."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..host.control.choices import BOTH, EPS, FROM_THE_CONTROLNET_FILE, TRAINED, TRAINING_FREE, V
from ..host.files import AUTO, CONTROLNET, list_files
from ..sampling.control_schedule import CUSTOM, OFF_LATE, PRESETS
from .common import ANALYSIS, CATEGORY, LOADERS, CheckedNode, file_fingerprint, file_input, output
from .types import TimeAwareAdapter

if TYPE_CHECKING:
    from ..host.control.adapter import HostControl
    from ..host.control.parts import TimeAwarePart


class LoadTimeAwareControlNet(CheckedNode):
    """Reads the ControlNets that the host cannot."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRLoadTimeAwareControlNet",
            display_name="Load Time-Aware ControlNet",
            category=LOADERS,
            description="Loads a DiffBIR or TASR ControlNet, whose hint is the VAE latent of the LR picture, as CONTROL_NET for ComfyUI's own Apply ControlNet (connect its vae). TASR files hold adapters too.",
            search_aliases=["diffbir", "tasr", "load controlnet", "irControlNet", "v2.pth", "tasr_v1"],
            inputs=[
                file_input(
                    "control_name",
                    CONTROLNET,
                    "File in models/adaptivesr/controlnet: DiffBIR v1, v2, v2.1 or tasr_v1. Told by its keys, whatever its name. The embedded one is for Load Embedded Base.",
                ),
                io.Combo.Input(
                    "adapter_name",
                    options=[FROM_THE_CONTROLNET_FILE, *list_files(CONTROLNET)],
                    default=FROM_THE_CONTROLNET_FILE,
                    tooltip="Takes the time-aware adapters out of another file, such as one that Train Time-Aware Adapter has written.",
                ),
                io.Combo.Input(
                    "prediction",
                    options=[AUTO, EPS, V],
                    default=AUTO,
                    advanced=True,
                    tooltip="What the ControlNet's base model predicts, which keys do not tell: eps for DiffBIR v1, v2 and TASR, v for v2.1. auto goes by the published names. A MODEL of the other kind is refused when sampling.",
                ),
            ],
            outputs=[
                io.ControlNet.Output(
                    display_name="control_net", tooltip="For Apply ControlNet, or for Time-Aware Adapter."
                ),
                TimeAwareAdapter.Output(
                    display_name="adapter", tooltip="Trained gates; nothing where the file has none."
                ),
                io.String.Output(display_name="info", tooltip="What the file holds."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, control_name: str, adapter_name: str, prediction: str = AUTO) -> str:
        from ..host.control.controlnet import paths_of

        return file_fingerprint(lambda name, other, _: paths_of(name, other), control_name, adapter_name, prediction)

    @classmethod
    def execute(cls, control_name: str, adapter_name: str, prediction: str = AUTO) -> io.NodeOutput:
        from ..host.control.controlnet import load_time_aware_control

        loaded = load_time_aware_control(control_name, adapter_name, prediction)
        return output(loaded.control, loaded.adapters, loaded.info, line=loaded.info)


class TimeAwareAdapterNode(CheckedNode):
    """Lets a ControlNet's influence follow the timestep."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRTimeAwareAdapter",
            display_name="Time-Aware Adapter",
            category=CATEGORY,
            description="A CONTROL_NET that speaks loudest where the picture's structure is made: by TASR's trained gates, or by a schedule that works with every ControlNet and skips its calls where it is silent. Goes before Apply ControlNet.",
            search_aliases=[
                "tasr",
                "controlnet schedule",
                "controlnet strength over time",
                "skip controlnet",
                "timestep",
            ],
            inputs=[
                io.ControlNet.Input(
                    "control_net", tooltip="Any ControlNet; for trained gates the one they were trained with."
                ),
                io.Combo.Input(
                    "schedule",
                    options=[TRAINING_FREE, TRAINED, BOTH],
                    default=TRAINING_FREE,
                    tooltip="training-free: one factor by timestep. trained: TASR's gates, a map for every site (needs adapter). both: gates times the factor, and no call where it is zero.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[*PRESETS, CUSTOM],
                    default=OFF_LATE,
                    tooltip="off_late: full above timestep 400, none below 200. drop10: a hard cut below 204, the last fifth of the steps. soft: from 0.3 at 100 to full at 600. constant: as without this node. custom: the numbers below.",
                ),
                io.Float.Input(
                    "s_lo",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="custom: factor at and below t_off. Only 0 saves calls.",
                ),
                io.Float.Input(
                    "t_off",
                    default=200.0,
                    min=0.0,
                    max=1000.0,
                    step=1.0,
                    advanced=True,
                    tooltip="custom: timestep (1000 noise, 0 clean) at which control has ended.",
                ),
                io.Float.Input(
                    "t_on",
                    default=400.0,
                    min=0.0,
                    max=1000.0,
                    step=1.0,
                    advanced=True,
                    tooltip="custom: timestep above which control is full.",
                ),
                io.Boolean.Input(
                    "per_site",
                    default=False,
                    advanced=True,
                    tooltip="Deep levels, which hold structure, keep their control longer: t_off falls by 50 with every halving, by 200 at the middle block. Calls are then skipped later.",
                ),
                io.Float.Input(
                    "alpha_max",
                    default=0.0,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Upper end of the trained gates. 0: as they were trained, which is 2 for the published file (neutral at 1). The paper writes 1, which halves the control of such a file.",
                ),
                TimeAwareAdapter.Input(
                    "adapter", optional=True, tooltip="Trained gates, from Load Time-Aware ControlNet or a training."
                ),
            ],
            outputs=[io.ControlNet.Output(display_name="control_net", tooltip="For Apply ControlNet.")],
        )

    @classmethod
    def execute(
        cls,
        control_net: HostControl,
        schedule: str,
        preset: str,
        s_lo: float = 0.0,
        t_off: float = 200.0,
        t_on: float = 400.0,
        per_site: bool = False,
        alpha_max: float = 0.0,
        adapter: TimeAwarePart | None = None,
    ) -> io.NodeOutput:
        from ..host.control.adapter import choose_influence, make_time_aware
        from ..sampling.control_schedule import ControlSchedule

        own = ControlSchedule(s_lo, t_off, t_on) if preset == CUSTOM else PRESETS[preset]
        influence = choose_influence(schedule, own, adapter, per_site=per_site, alpha_max=alpha_max)
        return io.NodeOutput(make_time_aware(control_net, influence))


class AdapterMap(CheckedNode):
    """Shows what a time-aware control did."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaptiveSRAdapterMap",
            display_name="Adapter Map",
            category=ANALYSIS,
            description="Pictures the weight of a time-aware ControlNet by site and timestep in the last run (TASR, fig. 7), and counts its calls.",
            search_aliases=["tasr", "alpha map", "controlnet calls", "adapter heat map"],
            inputs=[
                io.ControlNet.Input(
                    "control_net", tooltip="From Time-Aware Adapter, the one that goes to Apply ControlNet."
                ),
                io.Latent.Input("latent", tooltip="What was sampled with it: the map is drawn when the run is over."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="map", tooltip="Mean weight: noisy timesteps left, the deepest site above."
                ),
                io.String.Output(
                    display_name="report", tooltip="JSON: calls made and skipped, weights by site and timestep."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, control_net: object, latent: io.Latent.Type) -> io.NodeOutput:
        from ..host.control.adapter import summary_of
        from ..host.control.adapter_map import adapter_map

        summary = summary_of(control_net)
        report = json.dumps(summary)
        return output(adapter_map(summary), report, line=f"{summary['calls']} calls made, {summary['skipped']} skipped")
