"""Where the nodes of an example workflow stand: notes at the left, then groups by what nodes do, from left to right.

Sizes are those of the front end's canvas renderer: a title of 30 above the body, 20 for a row of sockets, 24 for a widget.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .examples.parts import FRONTEND_NOTE, MODELS, PICTURE, PROMPTS, RESULT, UPSCALE, Link, Node, Workflow

TITLE, ROW, WIDGET = 30, 20, 24
GAP, COLUMN_GAP, GROUP_GAP = 30, 40, 40
PADDING, HEADING = 20, 44
"""Room inside a group: at its sides, and for its own title."""
TALLEST = 1150
"""Height that a column of groups should not pass."""
ORIGIN = (40, 40)
LINE, LETTER = 12.5, 5.0
"""Height of a line of a note, and mean width of a letter."""
ADDRESS = re.compile(r"\]\([^)]*\)")
TEXT = 70
"""Room for the line that nodes of ours grow by when they have run."""
LONG_TEXT = 240
WITH_LONG_TEXT = ("AdaptiveSRRegionReport", "AdaptiveSRUpscalePlan")
"""The same for nodes that say many lines."""
MAP = 400
"""Room for the map that our front end extension puts into nodes that sample: that of a square picture."""
TALLER, BADGE, FOOTER = 8, 24, 20
"""What Nodes 2.0 adds to any node, to ours for the pack's name, and to those with widgets: measured in the front end 1.58."""
WITH_MAP = (
    "AdaptiveSRTiledRegionSampler",
    "AdaptiveSRRegionSampler",
    "AdaptiveSROneStepDistilledSR",
    "AdaptiveSRInvSRUpscale",
    "AdaptiveSRStableSRUpscale",
)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Style:
    """Colours of a group: its frame, and title and body of its nodes; darker than the front end's palette."""

    frame: str
    title: str
    body: str


STYLES: Mapping[str, Style] = {
    MODELS: Style("#b77fc4", "#323", "#4a2f4a"),
    PROMPTS: Style("#7fa8cc", "#2a363b", "#38474e"),
    PICTURE: Style("#8fbf8f", "#232", "#2f472f"),
    UPSCALE: Style("#9a9ad8", "#223", "#2f2f4d"),
    RESULT: Style("#84bcbc", "#233", "#2f4a4a"),
}
NOTE_STYLE = Style("", "#332b1e", "#1d1a15")
"""Dark enough for the greys in which Nodes 2.0 writes notes."""
GROUP_OF: Mapping[str, str] = {
    "CLIPTextEncode": PROMPTS,
    "AdaptiveSREmptyPrompt": PROMPTS,
    **dict.fromkeys(
        ("LoadImage", "LoadImageMask", "ImageScale", "ImageScaleBy", "ImageScaleToTotalPixels", "GetImageSize"), PICTURE
    ),
    **dict.fromkeys(
        ("EmptyLatentImage", "VAEEncode", "AdaptiveSRRealWorldDegradation", "LoadImageDataSetFromFolder"), PICTURE
    ),
    **dict.fromkeys(("VAEDecode", "VAEDecodeTiled", "AdaptiveSRCFWDecode", "AdaptiveSRWaveletColorFix"), RESULT),
    **dict.fromkeys(("SaveImage", "PreviewImage", "PreviewAny", "ImageCompare"), RESULT),
    **dict.fromkeys(("AdaptiveSRRegionReport", "AdaptiveSRAdapterMap", "AdaptiveSRImageQuality"), RESULT),
}


@dataclass(frozen=True)
class Group:
    """A titled frame around nodes: x, y, width, height."""

    title: str
    box: Box
    style: Style


@dataclass(frozen=True)
class GraphLayout:
    """Body boxes of nodes by key, their styles, and the groups."""

    boxes: Mapping[str, Box]
    styles: Mapping[str, Style]
    groups: Sequence[Group]


def arrange(workflow: Workflow, definitions: Mapping[str, Any]) -> GraphLayout:
    """The layout of a workflow; no two nodes overlap, and no two groups."""
    boxes: dict[str, Box] = {}
    left, top = ORIGIN[0], ORIGIN[1] + HEADING
    notes = [node for node in workflow.nodes if node.type == FRONTEND_NOTE]
    bottom = top
    for node in notes:
        width, height = _note_size(node)
        boxes[node.key] = (left, bottom + TITLE, width, height)
        bottom += TITLE + height + GAP
    left += max((boxes[node.key][2] for node in notes), default=-COLUMN_GAP) + COLUMN_GAP
    groups: list[Group] = []
    for lane in _lanes(workflow, definitions):
        y, width = top - HEADING, 0
        for block in lane:
            boxes |= {key: (left + PADDING + x, y + HEADING + dy, w, h) for key, (x, dy, w, h) in block.inside.items()}
            title = f"{len(groups) + 1}  {block.title}"
            groups.append(Group(title, (left, y, block.width, block.height), STYLES[block.title]))
            y += block.height + GROUP_GAP
            width = max(width, block.width)
        left += width + COLUMN_GAP
    return GraphLayout(boxes, {node.key: _style(node) for node in workflow.nodes}, groups)


@dataclass(frozen=True)
class _Block:
    """A group before it has a place: node boxes from the corner below its heading."""

    title: str
    inside: Mapping[str, Box]
    width: int
    height: int


def _lanes(workflow: Workflow, definitions: Mapping[str, Any]) -> list[list[_Block]]:
    """Groups in reading order; those of the inputs share a column as long as it does not get too tall."""
    depth = _depths(workflow)
    lanes: list[list[_Block]] = []
    for title in STYLES:
        nodes = [node for node in workflow.nodes if node.type != FRONTEND_NOTE and group_of(node) == title]
        if not nodes:
            continue
        nodes.sort(key=lambda node: (depth[node.key], node.pos[1]))
        block = _block(title, nodes, definitions)
        shares = title in (PROMPTS, PICTURE) and lanes
        if shares and sum(b.height + GROUP_GAP for b in lanes[-1]) + block.height <= TALLEST:
            lanes[-1].append(block)
        else:
            lanes.append([block])
    return lanes


def group_of(node: Node) -> str:
    """The node's own choice, else by type: loaders are models, what is nowhere listed upscales."""
    if node.group:
        return node.group
    listed = GROUP_OF.get(node.type)
    is_loader = node.type.startswith(("AdaptiveSRLoad", "CheckpointLoader")) or node.type.endswith("Loader")
    return listed or (MODELS if is_loader else UPSCALE)


def _block(title: str, nodes: Sequence[Node], definitions: Mapping[str, Any]) -> _Block:
    """Nodes from top to bottom, in as many columns of about equal height as it takes."""
    sizes = {node.key: node_size(node, definitions) for node in nodes}
    steps = {
        node.key: TITLE + sizes[node.key][1] + _growth(node, definitions) + _more(node, definitions) + GAP
        for node in nodes
    }
    inside: dict[str, Box] = {}
    x = tallest = 0
    for column in _columns(nodes, steps):
        y = 0
        for node in sorted(
            column, key=lambda node: node.type in WITH_MAP
        ):  # maps grow with the picture: below them is room
            inside[node.key] = (x, y + TITLE, *sizes[node.key])
            y += steps[node.key]
        x += max(sizes[node.key][0] for node in column) + COLUMN_GAP
        tallest = max(tallest, y)
    return _Block(title, inside, x - COLUMN_GAP + 2 * PADDING, HEADING + tallest - GAP + PADDING)


def _columns(nodes: Sequence[Node], steps: Mapping[str, int]) -> list[list[Node]]:
    """Nodes in as many columns of about equal height as it takes."""
    count = math.ceil(sum(steps.values()) / (TALLEST - HEADING - PADDING))
    target = max(sum(steps.values()) / count, *steps.values())
    columns: list[list[Node]] = [[]]
    height = 0.0
    for node in nodes:
        if height and height + steps[node.key] / 2 > target:
            columns.append([])
            height = 0.0
        columns[-1].append(node)
        height += steps[node.key]
    return columns


def node_size(node: Node, definitions: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of a body: what sockets and widgets need, more where a text or a picture is shown."""
    inputs = definitions[node.type]["input"]
    declared = {**inputs.get("required", {}), **inputs.get("optional", {})}
    widgets = sockets = 0
    for kind, *options in declared.values():
        settings = options[0] if options else {}
        if is_socket(kind, settings):
            sockets += 1
        else:
            widgets += 1 + len(extra_widgets(settings))
    height = ROW * max(sockets, len(definitions[node.type]["output"])) + 6 + (WIDGET * widgets + 8 if widgets else 0)
    shows = node.type in ("LoadImage", "SaveImage", "PreviewImage", "PreviewAny", "ImageCompare", "CLIPTextEncode")
    return node.size[0], max(height, node.size[1]) if shows else height


def _growth(node: Node, definitions: Mapping[str, Any]) -> int:
    """What a node gets taller by when it runs."""
    ours = node.type.startswith("AdaptiveSR") and "unique_id" in definitions[node.type]["input"].get("hidden", {})
    says = ours or node.type == "GetImageSize"
    text = LONG_TEXT if node.type in WITH_LONG_TEXT else TEXT
    return (text if says else 0) + (MAP if node.type in WITH_MAP else 0)


def _more(node: Node, definitions: Mapping[str, Any]) -> int:
    """What a node is taller by in Nodes 2.0, before it has run."""
    inputs = definitions[node.type]["input"]
    declared = {**inputs.get("required", {}), **inputs.get("optional", {})}
    widgets = any(not is_socket(kind, options[0] if options else {}) for kind, *options in declared.values())
    return TALLER + BADGE * node.type.startswith("AdaptiveSR") + FOOTER * widgets


def is_socket(kind: Any, settings: Mapping[str, Any]) -> bool:
    """Whether an input has a socket and no widget: types in capitals that are not plain values."""
    values = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "IMAGECOMPARE")
    return isinstance(kind, str) and (kind not in values or bool(settings.get("forceInput")))


def extra_widgets(settings: Mapping[str, Any]) -> list[Any]:
    """Values of widgets that the front end adds behind an input: the seed's control, the upload button."""
    if settings.get("control_after_generate"):
        return ["fixed"]
    return ["image"] if settings.get("image_upload") else []


def _note_size(node: Node) -> tuple[int, int]:
    width = max(node.size[0], 420)
    lines = 0.0
    for paragraph in (node.text or "").split("\n"):
        text = paragraph.strip()
        if text:
            text = ADDRESS.sub("]", text)
            indent = 40 if text[0] in "*123456789" and text[1:2] in ". " else 0
            lines += math.ceil(len(text) * LETTER / (width - 40 - indent)) * (1.6 if text.startswith("#") else 1.0)
        else:
            lines += 0.8
    return width, math.ceil((60 + lines * LINE) / 10) * 10


def _depths(workflow: Workflow) -> dict[str, int]:
    """Longest way from a node without links."""
    by_key = {node.key: node for node in workflow.nodes}
    found: dict[str, int] = {}

    def depth(key: str) -> int:
        if key not in found:
            links = [value.key for value in by_key[key].inputs.values() if isinstance(value, Link)]
            found[key] = 1 + max((depth(source) for source in links), default=-1)
        return found[key]

    for node in workflow.nodes:
        depth(node.key)
    return found


def _style(node: Node) -> Style:
    return NOTE_STYLE if node.type == FRONTEND_NOTE else STYLES[group_of(node)]
