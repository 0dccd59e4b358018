"""The node list."""

from comfy_api.latest import ComfyExtension, io

from ..host.files import register_folders
from .color import WaveletColorFix
from .conditioning import EmptyPrompt, ResShiftConditioning
from .gain import MMLEGainEstimator
from .one_step import LoadOneStepSR, OneStepDistilledSR
from .region import RegionSamplerNode, TiledRegionSampler
from .region_analysis import RegionReport, UpscalePlan
from .sigmas import SpacedSigmas

NODES: list[type[io.ComfyNode]] = [
    LoadOneStepSR,
    OneStepDistilledSR,
    WaveletColorFix,
    ResShiftConditioning,
    EmptyPrompt,
    TiledRegionSampler,
    RegionSamplerNode,
    UpscalePlan,
    RegionReport,
    SpacedSigmas,
    MMLEGainEstimator,
]


class AdaptiveSR(ComfyExtension):
    """The pack, as the host sees it."""

    async def on_load(self) -> None:
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> AdaptiveSR:
    """Called by the host once the pack is imported."""
    return AdaptiveSR()
