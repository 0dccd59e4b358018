"""What the papers report of their own methods, by the shipped workflow that runs them; docs/scale.md shows the same table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperNumbers:
    """A row of a paper's table, under pyiqa's names of the metrics."""

    workflow: str
    data_set: str
    values: Mapping[str, float]
    source: str


ADADIFFSR = "AdaDiffSR, arXiv 2410.17752, table 1"
TASR = "TASR, arXiv 2412.03355, table 1"
TAD_SR = "TAD-SR, arXiv 2408.07476, table 1"
INVSR = "InvSR, arXiv 2412.09013, table 1"

NUMBERS: tuple[PaperNumbers, ...] = ()


def numbers_for(title: str) -> list[PaperNumbers]:
    """Rows of the workflow of that name."""
    return [entry for entry in NUMBERS if entry.workflow == title]
