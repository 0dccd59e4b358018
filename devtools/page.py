"""Drives ComfyUI's real page in a headless Chromium: open, drop a workflow file, queue, screenshot."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
RUN = """async (seconds) => {
    const end = new Promise((resolve) => {
        for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
            app.api.addEventListener(kind, (event) => resolve({kind, detail: event.detail}));
        setTimeout(() => resolve({kind: "timeout"}), seconds * 1000);
    });
    await app.queuePrompt(0, 1);
    return await end;
}"""
SETTLE_MS = 2000
"""The page goes on arranging itself after it says that it is ready."""


@contextlib.contextmanager
def chromium(executable: Path | str) -> Iterator[Any]:
    """A headless browser (playwright's Browser)."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  only these commands need it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(executable), args=list(FLAGS))
        yield browser
        browser.close()


def open_page(browser: Any, url: str, width: int = 1400, height: int = 900) -> Any:
    """The host's page, ready to be used."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(url)
    page.wait_for_function(READY, timeout=90_000)
    page.wait_for_timeout(SETTLE_MS)
    return page


def drop(page: Any, file: Path) -> None:
    """Drops a workflow file on the canvas and waits until its nodes are there."""
    text = file.read_text(encoding="utf-8")
    page.evaluate(DROP, {"name": file.name, "text": text})
    page.wait_for_function("n => app.graph.nodes.length === n", arg=len(json.loads(text)["nodes"]), timeout=20_000)
    page.wait_for_timeout(SETTLE_MS // 2)


def run(page: Any, seconds: float) -> dict[str, Any]:
    """Queues what is on the canvas; {kind, detail} of the event that ended it."""
    return page.evaluate(RUN, seconds)
