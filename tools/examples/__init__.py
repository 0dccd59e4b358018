"""The example workflows, described once each; `tools.workflows` makes files of them."""

from .adadiffsr import ADADIFFSR_ANY_MODEL
from .adadiffsr_embedded import ADADIFFSR_EMBEDDED
from .adadiffsr_stablesr import ADADIFFSR
from .adaptive_upscale import ADAPTIVE_UPSCALE, ADAPTIVE_UPSCALE_CHECKPOINT
from .distill import DISTILL_ONE_STEP
from .image_quality import IMAGE_QUALITY
from .invsr import INVSR, INVSR_STEPS
from .one_step import ONE_STEP_SR
from .stablesr import STABLESR, STABLESR_768V, STABLESR_EMBEDDED, STABLESR_TURBO
from .tasr import TASR, TASR_EMBEDDED, TASR_TRAINING_FREE
from .tiled_region import TILED_REGION_UPSCALE
from .train_cfw import TRAIN_CFW
from .train_mmle import TRAIN_MMLE
from .train_noise_predictor import TRAIN_NOISE_PREDICTOR
from .train_stablesr import TRAIN_STABLESR

WORKFLOWS = (
    ADAPTIVE_UPSCALE,
    ADAPTIVE_UPSCALE_CHECKPOINT,
    ONE_STEP_SR,
    TILED_REGION_UPSCALE,
    ADADIFFSR_ANY_MODEL,
    STABLESR,
    STABLESR_TURBO,
    STABLESR_768V,
    INVSR,
    INVSR_STEPS,
    TASR,
    TASR_TRAINING_FREE,
    ADADIFFSR,
    ADADIFFSR_EMBEDDED,
    TASR_EMBEDDED,
    STABLESR_EMBEDDED,
    IMAGE_QUALITY,
    DISTILL_ONE_STEP,
    TRAIN_MMLE,
    TRAIN_NOISE_PREDICTOR,
    TRAIN_STABLESR,
    TRAIN_CFW,
)
"""In the order in which our menu in the page shows them."""
