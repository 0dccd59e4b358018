"""What example workflows are made of: nodes with their places and inputs, links and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FRONTEND_NOTE = "MarkdownNote"


@dataclass(frozen=True)
class Link:
    """Output `slot` of the node with that key."""

    key: str
    slot: int = 0


@dataclass(frozen=True)
class Node:
    """A node of a workflow: where it stands, and its inputs by name (values, or Link)."""

    key: str
    type: str
    pos: tuple[int, int]
    size: tuple[int, int]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Workflow:
    """A file name and its nodes, in the order in which they get their ids."""

    name: str
    nodes: Sequence[Node]


def note(key: str, pos: tuple[int, int], size: tuple[int, int], title: str, text: str) -> Node:
    """A text on the canvas; it does not run."""
    return Node(key, FRONTEND_NOTE, pos, size, title=title, text=text)
