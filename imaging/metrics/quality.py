"""What Image Quality measures: names from a list, what pyiqa says of them, and scores of pictures."""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

OFFLINE = ("psnr", "ssim", "ms_ssim", "nlpd", "gmsd", "fsim", "vif", "vsi", "piqe")
"""Metrics without weights; all but piqe compare with a reference."""

ON_LUMA = ("psnr", "ssim", "ms_ssim")
"""Metrics that may look at brightness alone or at all three channels."""

OF_SETS = ("fid", "sfid", "fid_dinov2", "inception_score", "clipscore", "fgresq_pair")
"""pyiqa's metrics that need more than a picture and its reference."""


@dataclass(frozen=True)
class Score:
    """A metric's values, None where it gave no finite number; low and high are its usual limits where it has them."""

    name: str
    lower_is_better: bool
    low: float | None
    high: float | None
    values: tuple[float | None, ...]

    def beside(self, other: Score | None) -> Score:
        """With another's values behind its own."""
        return self if other is None else replace(self, values=self.values + other.values)

    @property
    def mean(self) -> float | None:
        """Over the finite values."""
        finite = [value for value in self.values if value is not None]
        return sum(finite) / len(finite) if finite else None

    @property
    def best(self) -> int | None:
        """The image with the best value, where there are several and they differ."""
        finite = [(value, index) for index, value in enumerate(self.values) if value is not None]
        if len({value for value, _ in finite}) < 2:
            return None
        return (min(finite) if self.lower_is_better else max(finite))[1]


def names_in(text: str) -> tuple[str, ...]:
    """The names of a list with commas, each once. Raises ValueError for an empty one and for names that pyiqa does not know."""
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if not names:
        raise ValueError(f"Got no metric: expected names with commas such as {', '.join(OFFLINE[:4])}.")
    known = set(importlib.import_module("pyiqa").list_models())
    for name in names:
        if name in OF_SETS:
            raise ValueError(
                f"Got the metric '{name}', which needs whole sets of pictures or texts: expected metrics of single pictures such as "
                f"{', '.join(OFFLINE[:4])}."
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, 3)
            hint = (
                f"did you mean {' or '.join(close)}?" if close else f"without weights there are {', '.join(OFFLINE)}."
            )
            raise ValueError(f"Got the metric '{name}', which pyiqa does not know: expected one of its names; {hint}")
    return names


def needs_reference(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that compare with a reference."""
    compared = set(importlib.import_module("pyiqa").list_models("FR"))
    return tuple(name for name in names if name in compared)


def options_for(names: Sequence[str], *, luma: bool) -> Mapping[str, Mapping[str, bool | str]]:
    """Options of metrics that leave the choice of channels open.

    Brightness is that of YCbCr with levels 16 to 235, as the papers measure; pyiqa's own choice (YIQ, full range) gives 1.3 dB less.
    """
    return {name: {"test_y_channel": luma, "color_space": "ycbcr"} for name in names if name in ON_LUMA}


def limits(text: str | None) -> tuple[float | None, float | None]:
    """The ends of a range that pyiqa writes as '0, ~1'; None for an end that is open."""

    def end(part: str) -> float | None:
        digits = part.replace("~", "").strip()
        return float(digits) if digits else None

    ends = (text or "~, ~").split(",")
    return (end(ends[0]), end(ends[1])) if len(ends) == 2 else (None, None)


def score(metric: Callable[..., Tensor], name: str, pairs: Iterable[tuple[Tensor, ...]]) -> Score:
    """A metric's values of pictures (1, 3, H, W) in [0, 1], or of pictures with their references, one by one."""
    found = (float(metric(*pair).reshape(-1)[0]) for pair in pairs)
    values = tuple(value if math.isfinite(value) else None for value in found)
    low, high = limits(getattr(metric, "score_range", None))
    return Score(name, bool(getattr(metric, "lower_better", False)), low, high, values)
