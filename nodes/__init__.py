"""The node list."""

from comfy_api.latest import ComfyExtension, io

from ..host.files import register_folders
from .adaptive_upscale import AdaptiveUpscale
from .cfw import CFWDecode, LoadCFW
from .color import WaveletColorFix
from .conditioning import EmptyPrompt, ResShiftConditioning
from .degrade import RealWorldDegradation
from .embedded_base import LoadEmbeddedBase
from .gain import MMLEGainEstimator
from .gain_models import LoadMMLEPFJ
from .invsr import InvSRNoise, InvSRUpscale, LoadNoisePredictor
from .one_step import LoadOneStepSR, OneStepDistilledSR
from .padding import PadOrCrop
from .pfj import PFJInject
from .quality import ImageQuality
from .region import RegionSamplerNode, TiledRegionSampler
from .region_analysis import RegionReport, UpscalePlan
from .sigmas import SpacedSigmas
from .stablesr import LoadStableSR, StableSRApply, StableSRUpscale
from .time_aware import AdapterMap, LoadTimeAwareControlNet, TimeAwareAdapterNode
from .training.cfw import TrainCFW
from .training.distill import DistillOneStepSR
from .training.gains import TrainMMLE, TrainPFJ
from .training.invsr import TrainNoisePredictor
from .training.stablesr import TrainStableSR
from .training.time_aware import TrainTimeAwareAdapter

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
    LoadNoisePredictor,
    InvSRNoise,
    InvSRUpscale,
    LoadStableSR,
    StableSRApply,
    StableSRUpscale,
    LoadCFW,
    CFWDecode,
    LoadEmbeddedBase,
    LoadTimeAwareControlNet,
    TimeAwareAdapterNode,
    AdapterMap,
    TrainTimeAwareAdapter,
    TrainMMLE,
    TrainPFJ,
    MMLEGainEstimator,
    AdaptiveUpscale,
    RealWorldDegradation,
    ImageQuality,
    DistillOneStepSR,
    LoadMMLEPFJ,
    PFJInject,
    TrainNoisePredictor,
    TrainStableSR,
    PadOrCrop,
    TrainCFW,
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
