"""The example workflows, described once each; `devtools.workflows` makes files of them."""

from .one_step import ONE_STEP_SR
from .tasr import TASR, TASR_TRAINING_FREE
from .tiled_region import TILED_REGION_UPSCALE

WORKFLOWS = (ONE_STEP_SR, TILED_REGION_UPSCALE, TASR, TASR_TRAINING_FREE)
