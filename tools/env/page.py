"""The real front end in a headless Chromium: workflow files dropped on its canvas, queued there, looked at."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader")
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
ARRIVED = """([name, count]) => app.extensionManager.workflow.activeWorkflow?.filename === name
    && app.graph.nodes.length === count"""
RUN = """async (seconds) => {
    const end = new Promise((resolve) => {
        for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
            app.api.addEventListener(kind, (event) => resolve({kind, detail: event.detail}));
        setTimeout(() => resolve({kind: "timeout"}), seconds * 1000);
    });
    await app.queuePrompt(0, 1);
    return await end;
}"""
SHOW = """([titles, frame]) => {
    const frames = app.graph.groups.filter((group) => titles.some((title) => group.title.endsWith(title))).map((group) => group.boundingRect);
    const isInside = ([x, y]) => frames.some(([left, top, wide, high]) => left < x && x < left + wide && top < y && y < top + high);
    const members = app.graph.nodes.filter((node) => isInside(node.boundingRect));
    const boxes = (titles.length ? members : [...app.graph.nodes, ...app.graph.groups]).map((item) => item.boundingRect);
    const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
    const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])));
    const canvas = app.canvas.canvas.getBoundingClientRect();
    const [x, y, width, height] = frame;
    const {ds} = app.canvas;
    ds.scale = Math.min(width / (right - left), height / (bottom - top));
    ds.offset[0] = (x + width / 2 - canvas.left) / ds.scale - (left + right) / 2;
    ds.offset[1] = (y + height / 2 - canvas.top) / ds.scale - (top + bottom) / 2;
    app.canvas.setDirty(true, true);
}"""

Frame = tuple[int, int, int, int]


@contextlib.contextmanager
def browser(executable: Path | str) -> Iterator[Browser]:
    """A headless Chromium, closed at the end of the block."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(executable), args=list(FLAGS))
        yield opened
        opened.close()


def open_frontend(page: Page, url: str) -> None:
    """Loads the page of a host and waits until it can be used."""
    page.goto(url)
    page.wait_for_function(READY, timeout=90_000)
    page.wait_for_timeout(2000)


def drop(page: Page, file: Path) -> None:
    """Drops a workflow file on the canvas and waits until its nodes are there, all in view."""
    text = file.read_text(encoding="utf-8")
    page.evaluate(DROP, {"name": file.name, "text": text})
    page.wait_for_function(ARRIVED, arg=[file.stem, len(json.loads(text)["nodes"])], timeout=20_000)
    show(page)


def show(page: Page, groups: Sequence[str] = (), frame: Frame | None = None) -> None:
    """Moves the canvas so that groups (by the end of their titles; none: everything) fill a part of the page.

    frame: left, top, width and height in pixels of the page; None leaves room for the page's menus.
    """
    size = page.viewport_size or {"width": 1280, "height": 720}
    free = (90, 130, size["width"] - 120, size["height"] - 160)
    page.evaluate(SHOW, [list(groups), list(frame or free)])
    page.wait_for_timeout(1000)


def run(page: Page, seconds: int = 120) -> dict[str, Any]:
    """Queues what is on the canvas, as the Run button does; how it ended: kind, and detail as the host tells it."""
    return page.evaluate(RUN, seconds)
