"""What Super Resolution (InvSR) offers, apart from what runs it: the host reads all schemas at its start."""

from enum import Enum


class Order(str, Enum):
    """What is tiled: the sampling alone, or everything."""

    LATENT_REGIONS = "latent regions"
    PIXEL_CHOP = "pixel chop"
