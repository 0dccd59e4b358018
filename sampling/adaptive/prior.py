"""What the input says about its regions before the first call: flat ones need more to count as changing (ours).

A gain is compared with what a region may hold at all. A chain leaves grain in flat parts too, and as a share of the little that
is there it looks like a great change; so the threshold tau is multiplied by (mean detail / own detail)^(2 strength), detail
being the mean absolute Laplacian of the input's latent, and its square standing for the energy. The flattest third starts
with the second speed. AdaDiffSR has no such prior; only the input decides, so nothing depends on batches or order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ...imaging.detail import sharpness
from .types import Row, crop_rows

MOST = 8.0
"""The factor on tau lies between 1 / MOST and MOST."""

ALIKE = 1e-6
"""Relative differences of details that are rounding."""

FLAT_SHARE = 3
"""One in so many regions starts with the second speed."""


@dataclass(frozen=True)
class RegionPrior:
    """start: rung of the warmup's jumps. tau_factor: what the thresholds of the region are multiplied by."""

    start: int = 0
    tau_factor: float = 1.0


NO_PRIOR = RegionPrior()


def detail_priors(details: Sequence[float], strength: float) -> list[RegionPrior]:
    """Returns the priors of an image's regions from their details (at least 0); none where strength is 0 or all are alike."""
    mean = sum(details) / max(1, len(details))
    if not strength or max(details, default=0.0) <= mean * (1 + ALIKE):
        return [NO_PRIOR] * len(details)
    order = sorted(range(len(details)), key=lambda i: details[i])
    flattest = {i for i in order[: len(details) // FLAT_SHARE] if details[i] < mean}
    return [RegionPrior(int(i in flattest), _factor(detail / mean, strength)) for i, detail in enumerate(details)]


def region_priors(reference: Tensor, rows: Sequence[Row], strength: float) -> Mapping[tuple[int, int], RegionPrior]:
    """Priors by (image, region) from the input's latents (M, C, H, W); each image's regions are compared among themselves."""
    priors: dict[tuple[int, int], RegionPrior] = {}
    for image in sorted({row.image for row in rows}):
        own = [row for row in rows if row.image == image]
        details = sharpness(crop_rows(reference, own).float()).tolist()
        priors.update(((image, row.region_id), prior) for row, prior in zip(own, detail_priors(details, strength)))
    return priors


def _factor(relative: float, strength: float) -> float:
    """(1 / relative)^(2 strength) within its limits; relative may be 0."""
    limit = math.log(MOST)
    power = -2 * strength * math.log(relative) if relative > 0 else limit
    return math.exp(min(limit, max(-limit, power)))
