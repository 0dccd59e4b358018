"""The shipped workflow in the real page: dropped on the canvas, converted, queued."""

import json
import os
import re
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


@pytest.fixture(scope="module", params=WORKFLOWS, ids=lambda file: file.stem)
def page(request, browser, server, tmp_path_factory):
    """The frontend with a shipped workflow dropped on it; `complaints` collects console errors that name our pack."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.complaints = []
    opened.workflow = request.param

    def hear(text: str) -> None:
        if re.search("adaptivesr", text, re.IGNORECASE):
            opened.complaints.append(text)

    opened.on(
        "console", lambda message: hear(f"{message.text} {message.location}") if message.type == "error" else None
    )
    opened.on("pageerror", lambda error: hear(str(error)))
    opened.goto(server.url)
    opened.wait_for_function(READY, timeout=90_000)
    opened.wait_for_timeout(2000)
    drop(opened, request.param)
    yield opened
    opened.screenshot(path=tmp_path_factory.mktemp("screenshots") / f"{request.param.stem}.png")
    opened.close()


def drop(page, file: Path) -> None:
    """Drops a workflow file on the canvas and waits until its nodes are there."""
    text = file.read_text(encoding="utf-8")
    page.evaluate(DROP, {"name": file.name, "text": text})
    page.wait_for_function("n => app.graph.nodes.length === n", arg=len(json.loads(text)["nodes"]), timeout=20_000)
    page.wait_for_timeout(1000)


def test_no_node_of_the_workflow_is_missing(page):
    missing = page.evaluate("app.graph.nodes.map((n) => n.type).filter((t) => !LiteGraph.registered_node_types[t])")
    assert missing == []
    assert page.complaints == []


def test_the_page_converts_the_workflow_to_the_shipped_prompt(page):
    prompt = page.evaluate("app.graphToPrompt()")["output"]
    shipped = ROOT / "workflows" / "api" / page.workflow.name
    assert prompt == json.loads(shipped.read_text(encoding="utf-8"))


def test_the_workflow_runs_from_the_page(page):
    if "CheckpointLoaderSimple" in page.workflow.read_text(encoding="utf-8"):
        pytest.skip("needs a checkpoint with a text encoder; the tests of the API run it with a small one")
    if re.search("AdaptiveSR(Distill|Train)", page.workflow.read_text(encoding="utf-8")):
        pytest.skip("trains for minutes; the tests of the API run it with two steps")
    end = page.evaluate(RUN, 120)
    assert end["kind"] == "execution_success", end
    assert page.complaints == []
