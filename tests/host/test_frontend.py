"""The shipped workflows in the real page: dropped on the canvas, looked at, converted, queued from there."""

import itertools
import json
import os
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("ADAPTIVESR_CHROMIUM", "")
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"]
READY = """() => window.app?.vueAppReady && app.graph && app.extensionManager
    && Object.keys(LiteGraph.registered_node_types).length > 100"""
DROP = """({name, text}) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name, {type: "application/json"}));
    const canvas = document.querySelector("#graph-canvas");
    for (const kind of ["dragenter", "dragover", "drop"])
        canvas.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true,
                                                  clientX: 600, clientY: 400}));
}"""
RUN = """async (seconds) => {
    const end = new Promise((resolve) => {
        for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
            app.api.addEventListener(kind, (event) => resolve({kind, detail: event.detail}));
        setTimeout(() => resolve({kind: "timeout"}), seconds * 1000);
    });
    await app.queuePrompt(0, 1);
    return await end;
}"""
SHRINK = """(smaller) => {
    const changed = [];
    for (const node of app.graph.nodes)
        for (const widget of node.widgets ?? []) {
            const most = smaller[`${node.type}.${widget.name}`] ?? smaller[widget.name];
            if (most === undefined || typeof widget.value !== "number" || widget.value <= most) continue;
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
    "ImageScale.width": 96,
    "ImageScaleBy.scale_by": 4,
}
"""What a CPU does in seconds: the page's widgets are set to at most these before a workflow is queued; its graph stays."""
BOXES = """() => app.graph.nodes.map((node) => ({
    name: node.title, box: [...node.boundingRect], size: [...node.size], least: [...node.computeSize()],
}))"""
CLIPPED_NOTES = """() => [...document.querySelectorAll(".comfy-markdown-content")]
    .filter((note) => note.clientHeight > 0 && note.scrollHeight > note.clientHeight + 2)
    .map((note) => `${note.innerText.slice(0, 40)}: ${note.scrollHeight} in ${note.clientHeight}`)"""
SHOW_ALL = """() => {
    const boxes = [...app.graph.nodes, ...app.graph.groups].map((item) => item.boundingRect);
    const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
    const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])));
    app.canvas.ds.fitToBounds([left - 20, top - 20, right - left + 40, bottom - top + 40], {zoom: 0.98});
    app.canvas.setDirty(true, true);
}"""
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="ADAPTIVESR_CHROMIUM does not name a Chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def frontend(browser, server):
    """The page of the front end; `complaints` collects console errors and exceptions."""
    opened = browser.new_page(viewport={"width": 1900, "height": 1000})
    opened.complaints = []

    def hear(message):
        if message.type == "error":
            opened.complaints.append(f"{message.text} {message.location}")

    opened.on("console", hear)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.goto(server.url)
    opened.wait_for_function(READY, timeout=90_000)
    opened.wait_for_timeout(2000)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda file: file.stem)
def page(request, frontend, tmp_path_factory):
    """The page with a shipped workflow dropped on it. Screenshots go to ADAPTIVESR_OUT, if that names a folder."""
    frontend.complaints.clear()
    frontend.workflow = request.param
    drop(frontend, request.param)
    yield frontend
    out = os.environ.get("ADAPTIVESR_OUT") or tmp_path_factory.mktemp("screenshots")
    frontend.screenshot(path=Path(out) / f"{request.param.stem}.png")


def drop(page, file: Path) -> None:
    """Drops a workflow file on the canvas and waits until its nodes are there, all in view."""
    text = file.read_text(encoding="utf-8")
    page.evaluate(DROP, {"name": file.name, "text": text})
    arrived = "([name, count]) => app.extensionManager.workflow.activeWorkflow?.filename === name && app.graph.nodes.length === count"
    page.wait_for_function(arrived, arg=[file.stem, len(json.loads(text)["nodes"])], timeout=20_000)
    page.evaluate(SHOW_ALL)
    page.wait_for_timeout(1000)


def test_no_node_of_the_workflow_is_missing(page):
    missing = page.evaluate("app.graph.nodes.map((n) => n.type).filter((t) => !LiteGraph.registered_node_types[t])")
    assert missing == []
    assert page.complaints == []


def test_nodes_have_room_and_do_not_overlap(page):
    nodes = page.evaluate(BOXES)
    for node in nodes:
        assert node["size"][1] + 0.5 >= node["least"][1], f"{node['name']} needs a height of {node['least'][1]}"
    for one, other in itertools.combinations(nodes, 2):
        (x, y, width, height), (left, top, wide, high) = one["box"], other["box"]
        apart = x + width <= left or left + wide <= x or y + height <= top or top + high <= y
        assert apart, f"{one['name']} and {other['name']} overlap"
    assert page.evaluate(CLIPPED_NOTES) == []


def test_the_page_converts_the_workflow_to_the_shipped_prompt(page):
    prompt = page.evaluate("app.graphToPrompt()")["output"]
    shipped = ROOT / "workflows" / "api" / page.workflow.name
    assert prompt == json.loads(shipped.read_text(encoding="utf-8"))


def test_the_workflow_runs_from_the_page(page):
    page.evaluate(SHRINK, SMALLER)
    end = page.evaluate(RUN, 120)
    assert end["kind"] == "execution_success", end
    page.wait_for_timeout(500)
    assert page.complaints == []
