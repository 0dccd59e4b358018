"""`dev.py train pfj`: the injection network of AdaDiffSR without the page, through the same functions as the node."""

from __future__ import annotations

from .mmle import run


def main(argv: list[str]) -> int:
    """Trains, and prints the report."""
    return run("pfj", argv)
