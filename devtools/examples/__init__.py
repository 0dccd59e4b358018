"""The example workflows, described once each; `devtools.workflows` makes files of them."""

from .adadiffsr import ADADIFFSR_ANY_MODEL
from .one_step import ONE_STEP_SR
from .tiled_region import TILED_REGION_UPSCALE

WORKFLOWS = (ONE_STEP_SR, TILED_REGION_UPSCALE, ADADIFFSR_ANY_MODEL)
