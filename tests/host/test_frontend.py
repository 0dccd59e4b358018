"""The shipped workflows in the real page: dropped on the canvas, looked at, converted, queued from there."""

import itertools
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
frontpage = pytest.importorskip("adaptivesr.tools.env.page")

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("ADAPTIVESR_CHROMIUM", "")
SHRINK = """(smaller) => {
    const changed = [];
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? []) {
            const exact = smaller[`${node.type}.${widget.name}`];
            const most = exact ?? smaller[widget.name];
            if (most === undefined || typeof widget.value !== typeof most) continue;
            if (exact === undefined && typeof most === "number" && widget.value <= most) continue;
            widget.value = most;
            widget.callback?.(most);
            changed.push(`${node.type}.${widget.name}`);
        }
    return changed;
}"""
SMALLER = {
    "steps": 2,
    "tile_size": 64,
    "overlap": 16,
    "patch_size": 64,
    "batch_size": 2,
    "crop_size": 64,
    "generated_pictures": 4,
    "trajectories": 4,
    "calls": 4,
    "AdaptiveSRTrainNoisePredictor.size": "small",
    "AdaptiveSRTrainNoisePredictor.precision": "float32",
    "AdaptiveSRTrainNoisePredictor.adversarial_weight": 0,
    "AdaptiveSRAdaptiveUpscale.preset": "Fast",
    "AdaptiveSRStableSRUpscale.steps": 2,
    "AdaptiveSRStableSRUpscale.tile_size": 64,
    "ImageScale.width": 96,
    "ImageScaleBy.scale_by": 4,
}
"""What a CPU does in seconds: the page's widgets are set to at most these numbers, and to these choices, before a workflow is queued; its graph stays."""
BOXES = """() => app.graph.nodes.map((node) => ({
    name: node.title, box: [...node.boundingRect], size: [...node.size], least: [...node.computeSize()],
}))"""
SET_VUE = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
DRAWN = """() => {
    const {scale, offset} = app.canvas.ds, canvas = app.canvas.canvas.getBoundingClientRect();
    return app.graph.nodes.map((node) => {
        const drawn = document.querySelector(`[data-node-id='${node.id}']`).getBoundingClientRect();
        const place = [(drawn.left - canvas.left) / scale - offset[0], (drawn.top - canvas.top) / scale - offset[1]];
        return {name: node.title, box: [...place, drawn.width / scale, drawn.height / scale].map(Math.round)};
    });
}"""
COMPARERS = """() => app.graph.nodes.filter((node) => node.type === "ImageCompare").map((node) =>
    node.widgets.some((widget) => widget.name === "adaptivesr_comparer" && widget.element.querySelector("img").naturalWidth > 0))"""
"""Whether nodes that compare pictures show them, in the classic renderer by our extension."""
CLIPPED_NOTES = """() => [...document.querySelectorAll(".comfy-markdown-content")]
    .filter((note) => note.clientHeight > 0 && note.scrollHeight > note.clientHeight + 2)
    .map((note) => `${note.innerText.slice(0, 40)}: ${note.scrollHeight} in ${note.clientHeight}`)"""
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="ADAPTIVESR_CHROMIUM does not name a Chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with frontpage.browser(CHROMIUM) as opened:
        yield opened


@pytest.fixture(scope="module")
def frontend(browser, server):
    """The page of the front end; `complaints` collects console errors and exceptions."""
    opened = browser.new_page(viewport={"width": 1900, "height": 1000})
    opened.complaints = []

    def hear(message):
        asks_for_sizes = (
            "missingModelDownload" in f"{message.text} {message.location}"
        )  # of files, online: not allowed here
        if message.type == "error" and not asks_for_sizes:
            opened.complaints.append(f"{message.text} {message.location}")

    opened.on("console", hear)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    frontpage.open_frontend(opened, server.url)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda file: file.stem)
def page(request, frontend, tmp_path_factory):
    """The page with a shipped workflow dropped on it. Screenshots go to ADAPTIVESR_OUT, if that names a folder."""
    frontend.complaints.clear()
    frontend.workflow = request.param
    frontpage.drop(frontend, request.param)
    yield frontend
    out = os.environ.get("ADAPTIVESR_OUT") or tmp_path_factory.mktemp("screenshots")
    frontend.screenshot(path=Path(out) / f"{request.param.stem}.png")


def overlapping(nodes):
    """Names of nodes that touch, titles included."""
    found = []
    for one, other in itertools.combinations(nodes, 2):
        (x, y, width, height), (left, top, wide, high) = one["box"], other["box"]
        if not (x + width <= left or left + wide <= x or y + height <= top or top + high <= y):
            found.append(f"{one['name']} and {other['name']} overlap")
    return found


def crosses(box, groups):
    """Whether a node lies on the frame of a group: it touches the group and is not inside."""
    x, y, width, height = box
    for left, top, wide, high in groups:
        touches = x < left + wide and left < x + width and y < top + high and top < y + height
        inside = left <= x and top <= y and x + width <= left + wide and y + height <= top + high
        if touches and not inside:
            return True
    return False


def test_no_node_of_the_workflow_is_missing(page):
    missing = page.evaluate("app.graph.nodes.map((n) => n.type).filter((t) => !LiteGraph.registered_node_types[t])")
    assert missing == []
    assert page.complaints == []


def test_nodes_have_room_and_do_not_overlap(page):
    nodes = page.evaluate(BOXES)
    for node in nodes:
        assert node["size"][1] + 0.5 >= node["least"][1], f"{node['name']} needs a height of {node['least'][1]}"
    assert overlapping(nodes) == []
    assert page.evaluate(CLIPPED_NOTES) == []


def test_the_page_converts_the_workflow_to_the_shipped_prompt(page):
    prompt = page.evaluate("app.graphToPrompt()")["output"]
    shipped = ROOT / "workflows" / "api" / page.workflow.name
    assert prompt == json.loads(shipped.read_text(encoding="utf-8"))


def test_the_workflow_runs_from_the_page(page):
    page.evaluate(SHRINK, SMALLER)
    end = frontpage.run(page)
    assert end["kind"] == "execution_success", end
    page.wait_for_function(f"() => ({COMPARERS})().every(Boolean)")  # large pictures take their time to load
    page.wait_for_timeout(500)
    assert page.complaints == []
    assert overlapping(page.evaluate(BOXES)) == []  # with the maps, texts and pictures of the run


def test_nodes_2_draws_nodes_apart_and_inside_their_groups(page):
    page.evaluate(SET_VUE, True)
    page.wait_for_function("() => document.querySelectorAll('[data-node-id]').length === app.graph.nodes.length")
    page.wait_for_timeout(1500)
    nodes, groups = page.evaluate(DRAWN), page.evaluate("app.graph.groups.map((group) => [...group.boundingRect])")
    page.evaluate(SET_VUE, False)
    page.wait_for_timeout(500)
    assert overlapping(nodes) == []
    assert [node["name"] for node in nodes if crosses(node["box"], groups)] == []


def test_the_template_browser_lists_every_workflow_with_its_picture(browser, server, tmp_path):
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    answers = {}
    opened.on("response", lambda answer: answers.update({answer.url.rpartition("/")[2]: answer.status}))
    frontpage.open_frontend(opened, server.url)
    opened.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    opened.get_by_text("ComfyUI-AdaptiveSR", exact=True).first.click(timeout=30_000)
    opened.wait_for_timeout(2000)
    opened.screenshot(path=Path(os.environ.get("ADAPTIVESR_OUT") or tmp_path) / "template_browser.png")
    wanted = {f"{file.stem}.jpg" for file in WORKFLOWS}
    opened.mouse.move(1000, 700)
    for _ in range(20):  # pictures are fetched as they come into view
        if wanted <= set(answers):
            break
        opened.mouse.wheel(0, 400)
        opened.wait_for_timeout(500)
    shown = opened.evaluate("[...document.images].filter((image) => image.naturalWidth === 512).length")
    opened.close()
    assert {name: answers.get(name) for name in wanted} == dict.fromkeys(wanted, 200)
    assert shown > 0
