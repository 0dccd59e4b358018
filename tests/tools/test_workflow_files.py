"""The shipped workflow files as pictures: boxes that do not overlap, groups around their nodes, notes."""

import itertools
import json
from pathlib import Path
from uuid import UUID

import pytest
from adaptivesr.tools.examples.parts import DOWNLOADS
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.json"))
TITLE = 30
NOTE = "MarkdownNote"
SCHEMAS = json.loads((FOLDER.parent / "tests" / "golden" / "schemas.json").read_text(encoding="utf-8"))
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@pytest.fixture(params=WORKFLOWS, ids=lambda file: file.stem)
def graph(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def box(node):
    """Left, top, right, bottom, the title included; of collapsed nodes the title alone."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + (0 if node["flags"].get("collapsed") else height)


def frame(group):
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


def apart(one, other):
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def name(node):
    return node.get("title", node["type"])


def inside(inner, outer):
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def test_nodes_do_not_overlap(graph):
    for one, other in itertools.combinations(graph["nodes"], 2):
        assert apart(box(one), box(other)), f"{name(one)} and {name(other)} overlap"


def test_every_node_stands_in_one_group_and_groups_are_apart(graph):
    frames = {group["title"]: frame(group) for group in graph["groups"]}
    for (one, its), (other, others) in itertools.combinations(frames.items(), 2):
        assert apart(its, others), f"the groups {one} and {other} overlap"
    for node in graph["nodes"]:
        around = [title for title, its in frames.items() if not apart(box(node), its)]
        if node["type"] == NOTE:
            assert around == [], f"the note {name(node)} lies in {around}"
        else:
            assert len(around) == 1 and inside(box(node), frames[around[0]]), f"{name(node)} stands in {around}"


def test_groups_and_nodes_have_colours_and_titles(graph):
    assert [group["title"][0] for group in graph["groups"]] == [str(n + 1) for n in range(len(graph["groups"]))]
    assert all(group["color"].startswith("#") and len(group["title"]) > 3 for group in graph["groups"])
    for group in graph["groups"]:
        members = [node for node in graph["nodes"] if inside(box(node), frame(group))]
        assert len({(node["color"], node["bgcolor"]) for node in members}) == 1, f"mixed colours in {group['title']}"


def test_data_flows_from_left_to_right_and_from_a_group_to_the_ones_below(graph):
    nodes = {node["id"]: node for node in graph["nodes"]}
    frames = [frame(group) for group in graph["groups"]]
    around = {key: next((its for its in frames if inside(box(node), its)), None) for key, node in nodes.items()}
    for _, source, _, target, *_ in graph["links"]:
        right = nodes[source]["pos"][0] <= nodes[target]["pos"][0]
        below = around[source][3] <= around[target][1]
        assert right or below, f"{name(nodes[source])} stands to the right of {name(nodes[target])}"


def test_what_is_collapsed_has_nothing_that_a_beginner_sets(graph):
    for node in graph["nodes"]:
        if node["flags"].get("collapsed"):
            assert node["type"] not in ("LoadImage", "SaveImage", "KSampler", NOTE), name(node)
            muted = node["mode"] != 0  # stands ready for later
            assert muted or "Load" not in node["type"], f"{name(node)} names a file"


def test_notes_say_what_to_do_what_to_change_and_which_files(graph):
    notes = [node for node in graph["nodes"] if node["type"] == NOTE]
    read_me = notes[0]["widgets_values"][0]
    assert name(notes[0]) == "Read me" and read_me.startswith("## ")
    assert "**Run**" in read_me and ("Change first: " in read_me or len(notes) > 1)
    for node in graph["nodes"]:
        for value in node.get("widgets_values", []):
            if isinstance(value, str) and value.endswith((".safetensors", ".ckpt", ".pth")) and node["type"] != NOTE:
                assert f"**{value}**" in read_me, f"the note does not name {value}"
                assert "**models/" in read_me


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_workflow_has_a_thumbnail_for_a_square_card(file):
    picture = file.with_suffix(".jpg")
    assert picture.is_file(), f"{picture.name} is missing: run `python dev.py workflows --thumbnails`"
    assert picture.stat().st_size < 60_000
    with Image.open(picture) as opened:
        assert (opened.format, opened.size) == ("JPEG", (512, 512))


def test_no_thumbnail_is_of_a_workflow_that_is_gone():
    assert {file.stem for file in FOLDER.glob("*.jpg")} <= {file.stem for file in WORKFLOWS}


def test_a_workflow_has_a_guid_of_its_own():
    ids = [json.loads(file.read_text(encoding="utf-8"))["id"] for file in WORKFLOWS]
    assert [str(UUID(one)) for one in ids] == ids and len(set(ids)) == len(ids)


def test_loaders_say_where_the_files_that_they_name_are_published(graph):
    for node in graph["nodes"]:
        named = [value for value in node["widgets_values"] if isinstance(value, str) and value in DOWNLOADS]
        offered = {model["name"]: (model["url"], model["directory"]) for model in node["properties"].get("models", [])}
        assert offered == {name: DOWNLOADS[name] for name in named}


NOTE_GREYS = ("#ffffff", "#cccccc", "#a0a0a0", "#8a8a8a")
"""Text and links of notes in Nodes 2.0, in the front ends 1.47 and 1.58."""


def luminance(color):
    digits = color.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_notes_can_be_read_in_both_renderers(graph):
    notes = [node for node in graph["nodes"] if node["type"] == NOTE]
    assert notes
    for note in notes:
        below = luminance(note["bgcolor"])
        assert min((luminance(grey) + 0.05) / (below + 0.05) for grey in NOTE_GREYS) >= 4.5
        assert "`" not in note["widgets_values"][0], "code is drawn in colours that are the page's"


@pytest.mark.parametrize("name", [file.stem for file in WORKFLOWS])
def test_prompts_name_every_widget_as_the_page_would(name):
    prompt = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        inputs = SCHEMAS.get(node["class_type"], {"inputs": {}})["inputs"]
        widgets = {key for key, (_, kind, _) in inputs.items() if kind in WIDGETS}
        assert widgets <= node["inputs"].keys(), node["_meta"]["title"]
