"""Where the nodes of an example workflow stand: what to read first, groups by what nodes do, other notes; from left to right, in two rows.

Sizes are those of the front end's canvas renderer: a title of 30 above the body, 20 for a row of sockets, 24 for a widget.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .examples.parts import FRONTEND_NOTE, MODELS, PICTURE, PROMPTS, RESULT, UPSCALE, Link, Node, Workflow

TITLE, ROW, WIDGET = 30, 20, 24
GAP, COLUMN_GAP, GROUP_GAP = 14, 22, 20
PADDING, HEADING = 14, 34
"""Room inside a group: at its sides, and for its own title."""
WIDEST, HIGHEST = 1780, 980
"""What the page shows at a zoom of 60 % in a window of 1440 x 800, with the margin that it leaves when it fits a graph."""
SMALLEST = 0.8
"""Share of that zoom below which no arrangement is looked at."""
WIDTH = 280
"""Of nodes that show nothing."""
SHOWS: Mapping[str, tuple[int, int]] = {
    "LoadImage": (280, 326),
    "SaveImage": (280, 160),
    "PreviewImage": (280, 200),
    "ImageCompare": (380, 400),
    "CLIPTextEncode": (280, 80),
    "PreviewAny": (280, 140),
}
"""Width and least height of nodes that show a text or a picture."""
SHORT_PROMPT, LONG_PROMPT = 80, (280, 120)
"""Letters that fit, and the size for more."""
COLLAPSED = (
    "VAEEncode",
    "VAEDecode",
    "GetImageSize",
    "EmptyLatentImage",
    "SamplerCustomAdvanced",
    "AdaptiveSRAdapterMap",
    "AdaptiveSRResShiftConditioning",
    "AdaptiveSRPadOrCrop",
    "AdaptiveSRWaveletColorFix",
    "AdaptiveSREmptyPrompt",
    "AdaptiveSRRegionReport",
)
NOTE_WIDTHS = (340, 400, 480, 560, 660, 780, 900)
ORIGIN = (40, 40)
LETTER, LINE, PARAGRAPH, ITEM, TABLE_ROW, HEADLINE, PAPER = 5.0, 15, 23, 24, 36, 34, 24
"""Of a note in Nodes 2.0, which needs more than the classic renderer: width of a letter on the average, heights of a further line,
of the first lines of paragraphs, items, rows and titles, and of what is around the text."""
ADDRESS = re.compile(r"\]\([^)]*\)")
TEXT = 56
"""Room for the line that nodes of ours grow by when they have run."""
SENTENCES: Mapping[str, int] = {
    "AdaptiveSRMMLEGainEstimator": 86,
    "AdaptiveSRImageQuality": 86,
    "AdaptiveSRTrain": 130,
    "AdaptiveSRDistill": 130,
}
"""The same for nodes that say three lines or more, by the beginning of their types."""
LONG_TEXT = 240
WITH_LONG_TEXT = ("AdaptiveSRRegionReport", "AdaptiveSRUpscalePlan")
"""The same for nodes that say many lines."""
MAP = 400
"""Room for the map that our front end extension puts into nodes that sample: that of a square picture."""
WITH_PICTURE = 300
"""Height of nodes that show a picture after a run: the page gives it 220 at least."""
COMPARED = 460
"""The same for two square pictures to compare."""
TALLER, BADGE, FOOTER = 8, 24, 20
"""What Nodes 2.0 adds to any node, to ours for the pack's name, and to those with widgets: measured in the front end 1.58."""
OURS = "AdaptiveSR"
WITH_MAP = (
    "AdaptiveSRTiledRegionSampler",
    "AdaptiveSRRegionSampler",
    "AdaptiveSROneStepDistilledSR",
    "AdaptiveSRInvSRUpscale",
    "AdaptiveSRStableSRUpscale",
    "AdaptiveSRAdaptiveUpscale",
)

GROWS = (*WITH_MAP, "ImageCompare", "SaveImage", "PreviewImage")
"""Nodes that come last in their column, where they have room."""

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
    """The layout of a workflow, as large as may be when the page fits it; no two nodes overlap, and no two groups."""
    read_me, in_order, others = _choices(workflow, definitions)
    orders = [in_order]
    if _picture_stands_alone(workflow):
        orders.append(sorted(in_order, key=lambda forms: forms[0].title != PICTURE))
    sequences = [
        [*read_me, *order[:place], *others, *order[place:]]
        for order in orders
        for place in (range(len(order) + 1) if others else (0,))
    ]
    areas = [area for sequence in sequences for area in _areas(sequence)]
    boxes: dict[str, Box] = {}
    groups: list[Group] = []
    for x, y, block in max(areas, key=_zoom).parts:
        left, top = ORIGIN[0] + x, ORIGIN[1] + y
        side, heading = (0, 0) if block.title is None else (PADDING, HEADING)
        boxes |= {key: (left + side + x, top + heading + dy, w, h) for key, (x, dy, w, h) in block.inside.items()}
        if block.title is not None:
            title = f"{len(groups) + 1}  {block.title}"
            groups.append(Group(title, (left, top, block.width, block.height), STYLES[block.title]))
    return GraphLayout(boxes, {node.key: _style(node) for node in workflow.nodes}, groups)


@dataclass(frozen=True)
class _Block:
    """A group or a note before it has a place: node boxes from the corner below its heading. title: None for notes.

    height: of its frame, with room for what nodes grow by when they run; bare: what its nodes take before.
    """

    title: str | None
    inside: Mapping[str, Box]
    width: int
    height: int
    bare: int


@dataclass(frozen=True)
class _Area:
    """Blocks with their places in a rectangle; height and bare as those of a block."""

    width: int
    height: int
    bare: int
    parts: tuple[tuple[int, int, _Block], ...]


Form = TypeVar("Form", _Area, _Block)


def _zoom(area: _Area) -> float:
    return min(WIDEST / area.width, HIGHEST / area.bare)


def _areas(choices: Sequence[Sequence[_Block]]) -> list[_Area]:
    """Rectangles that hold all blocks in reading order, each left of or above the next ones.

    A part of the sequence is one block, or two shorter parts beside or above each other (a slicing floorplan); of its
    rectangles those are kept that no other one fits into.
    """
    found: dict[tuple[int, int], list[_Area]] = {}
    for length in range(1, len(choices) + 1):
        for start in range(len(choices) - length + 1):
            end = start + length
            if length == 1:
                forms = [_Area(b.width, b.height, b.bare, ((0, 0, b),)) for b in choices[start]]
            else:
                forms = [
                    joined
                    for cut in range(start + 1, end)
                    for one in found[start, cut]
                    for other in found[cut, end]
                    for joined in (_beside(one, other), _above(one, other))
                ]
            found[start, end] = _useful([form for form in forms if _zoom(form) > SMALLEST])
    return found[0, len(choices)]


def _beside(one: _Area, other: _Area) -> _Area:
    x = one.width + COLUMN_GAP
    parts = (*one.parts, *((left + x, top, block) for left, top, block in other.parts))
    return _Area(x + other.width, max(one.height, other.height), max(one.bare, other.bare), parts)


def _above(one: _Area, other: _Area) -> _Area:
    y = one.height + GROUP_GAP
    parts = (*one.parts, *((left, top + y, block) for left, top, block in other.parts))
    return _Area(max(one.width, other.width), y + other.height, y + other.bare, parts)


def _useful(forms: list[Form]) -> list[Form]:
    """Those that no other one fits into."""
    useful: list[Form] = []
    for form in sorted(forms, key=lambda form: (form.width, form.height, form.bare)):
        if not any(other.height <= form.height and other.bare <= form.bare for other in useful):
            useful.append(form)
    return useful


Forms = list[list[_Block]]
"""What every block of a sequence may look like."""


def _choices(workflow: Workflow, definitions: Mapping[str, Any]) -> tuple[Forms, Forms, Forms]:
    """What to read first, the groups in reading order, the other notes, which may stand anywhere after the first."""
    depth = _depths(workflow)
    notes = [[_note(node, width) for width in NOTE_WIDTHS] for node in workflow.nodes if node.type == FRONTEND_NOTE]
    groups: list[list[_Block]] = []
    for title in STYLES:
        nodes = [node for node in workflow.nodes if node.type != FRONTEND_NOTE and group_of(node) == title]
        if nodes:
            nodes.sort(key=lambda node: (depth[node.key], node.pos[1]))
            groups.append(_blocks(title, _small_ones_first(nodes), definitions))
    return notes[:1], groups, notes[1:]


def _picture_stands_alone(workflow: Workflow) -> bool:
    """Whether the group of the picture takes nothing from other groups, so that it may come first."""
    groups = {node.key: group_of(node) for node in workflow.nodes if node.type != FRONTEND_NOTE}
    links = [
        (key, value.key)
        for node in workflow.nodes
        for value in node.inputs.values()
        if isinstance(value, Link)
        for key in [node.key]
    ]
    return all(groups[source] == PICTURE for key, source in links if groups[key] == PICTURE)


def _small_ones_first(nodes: Sequence[Node]) -> list[Node]:
    """Nodes in an order in which each follows those of them that it takes its inputs from, collapsed ones as early as that allows."""
    waiting, ordered = list(nodes), list[Node]()
    while waiting:
        keys = {node.key for node in waiting}
        free = [n for n in waiting if not any(isinstance(v, Link) and v.key in keys for v in n.inputs.values())]
        ordered.append(next(filter(is_collapsed, free), free[0]))
        waiting.remove(ordered[-1])
    return ordered


def _note(node: Node, width: int) -> _Block:
    size = _note_size(node, width)
    return _Block(None, {node.key: (0, TITLE, *size)}, size[0], TITLE + size[1], TITLE + size[1])


def group_of(node: Node) -> str:
    """The node's own choice, else by type: loaders are models, what is nowhere listed upscales."""
    if node.group:
        return node.group
    listed = GROUP_OF.get(node.type)
    is_loader = node.type.startswith(("AdaptiveSRLoad", "CheckpointLoader")) or node.type.endswith("Loader")
    return listed or (MODELS if is_loader else UPSCALE)


def _blocks(title: str, nodes: Sequence[Node], definitions: Mapping[str, Any]) -> list[_Block]:
    """A group in every number of columns that is of use: none of the forms is both wider and higher than another one."""
    forms = [
        _block(title, [nodes[start:end] for start, end in itertools.pairwise((0, *cuts, len(nodes)))], definitions)
        for count in range(len(nodes))
        for cuts in itertools.combinations(range(1, len(nodes)), count)
    ]
    return _useful(forms)


def _block(title: str, columns: Sequence[Sequence[Node]], definitions: Mapping[str, Any]) -> _Block:
    """Nodes from top to bottom in these columns; what grows with its picture comes last, where it has room."""
    inside: dict[str, Box] = {}
    x = tallest = bare = 0
    for column in columns:
        y = width = 0
        for node in sorted(column, key=lambda node: node.type in GROWS):
            w, h = node_size(node, definitions)
            inside[node.key] = (x, y + TITLE, w, h)
            width = max(width, w)
            taken = 0 if is_collapsed(node) else h + _more(node, definitions)
            bare = max(bare, y + TITLE + taken)
            y += TITLE + taken + (0 if is_collapsed(node) else _growth(node, definitions)) + GAP
        x += width + COLUMN_GAP
        tallest = max(tallest, y)
    around = HEADING + PADDING
    return _Block(title, inside, x - COLUMN_GAP + 2 * PADDING, tallest - GAP + around, HEADING + bare)


def node_size(node: Node, definitions: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of a body: what sockets and widgets need, more where a text or a picture is shown."""
    inputs = definitions[node.type]["input"]
    declared = {**inputs.get("required", {}), **inputs.get("optional", {})}
    widgets = sockets = hidden = 0
    for kind, *options in declared.values():
        settings = options[0] if options else {}
        if is_socket(kind, settings):
            sockets += 1
        elif settings.get("advanced") and node.type.startswith(OURS):
            hidden += 1
        else:
            widgets += 1 + len(extra_widgets(settings))
    widgets += bool(hidden)  # the button that shows them
    height = ROW * max(sockets, len(definitions[node.type]["output"])) + 6 + (WIDGET * widgets + 8 if widgets else 0)
    shown = SHOWS.get(node.type)
    if node.type == "CLIPTextEncode" and len(str(node.inputs.get("text", ""))) > SHORT_PROMPT:
        shown = LONG_PROMPT
    return (shown[0], max(height, shown[1])) if shown else (WIDTH, height)


def is_collapsed(node: Node) -> bool:
    """Whether a node is drawn as its title alone: it has nothing to set, or nothing that anyone sets here."""
    return node.collapsed or node.type in COLLAPSED


def _growth(node: Node, definitions: Mapping[str, Any]) -> int:
    """What a node gets taller by when it runs."""
    ours = node.type.startswith(OURS) and "unique_id" in definitions[node.type]["input"].get("hidden", {})
    says = ours or node.type == "GetImageSize"
    text = next((room for start, room in SENTENCES.items() if node.type.startswith(start)), TEXT)
    text = LONG_TEXT if node.type in WITH_LONG_TEXT else text
    grown = {"SaveImage": WITH_PICTURE, "PreviewImage": WITH_PICTURE, "ImageCompare": COMPARED}.get(node.type)
    picture = grown - SHOWS[node.type][1] if grown else 0
    return (text if says else 0) + (MAP if node.type in WITH_MAP else 0) + picture


def _more(node: Node, definitions: Mapping[str, Any]) -> int:
    """What a node is taller by in Nodes 2.0, before it has run."""
    inputs = definitions[node.type]["input"]
    declared = {**inputs.get("required", {}), **inputs.get("optional", {})}
    widgets = any(not is_socket(kind, options[0] if options else {}) for kind, *options in declared.values())
    return TALLER + BADGE * node.type.startswith(OURS) + FOOTER * widgets


def is_socket(kind: Any, settings: Mapping[str, Any]) -> bool:
    """Whether an input has a socket and no widget: types in capitals that are not plain values."""
    values = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "IMAGECOMPARE")
    return isinstance(kind, str) and (kind not in values or bool(settings.get("forceInput")))


def extra_widgets(settings: Mapping[str, Any]) -> list[Any]:
    """Values of widgets that the front end adds behind an input: the seed's control, the upload button."""
    if settings.get("control_after_generate"):
        return ["fixed"]
    return ["image"] if settings.get("image_upload") else []


def _note_size(node: Node, width: int) -> tuple[int, int]:
    height = PAPER
    for paragraph in (node.text or "").split("\n"):
        text = ADDRESS.sub("]", paragraph.strip())
        if not text or text.startswith("|--"):
            continue
        item = text[0] in "*123456789" and text[1:2] in ". "
        lines = math.ceil(len(text) * LETTER / (width - (80 if item else 40)))
        first = HEADLINE if text[0] == "#" else ITEM if item else TABLE_ROW if text[0] == "|" else PARAGRAPH
        height += first + LINE * (lines - 1)
    return width, math.ceil(height / 10) * 10


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
