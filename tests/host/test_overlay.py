"""The live region map in the real page, in both renderers: what it shows is what the report says."""

import json
import os
import re
from pathlib import Path

import pytest
from adaptivesr.imaging.heatmap import STOPS
from adaptivesr.tools.overlay_graphs import custom, one_step, tiled
from adaptivesr.tools.small_models.tiny import STUDENT, TEACHER
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = os.environ.get("ADAPTIVESR_CHROMIUM", "")
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader"]
READY = """() => window.app?.vueAppReady && app.graph && app.extensionManager
    && Object.keys(LiteGraph.registered_node_types).length > 100"""
PHOTO = Path(__file__).resolve().parents[2] / "tools" / "demo_photo" / "astronaut.png"
MAP = ".adaptivesr-regions"
LISTEN = """() => {
    window.heard = [];
    app.api.addEventListener("adaptivesr.regions", (event) => {
        const shown = document.querySelector(".adaptivesr-calls");
        heard.push({...event.detail, shown: shown?.textContent});
    });
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
REPORT = "() => app.nodeOutputs['7'].text[0]"
FIXED_SEEDS = """() => {
    for (const node of app.graph.nodes) for (const widget of node.widgets ?? [])
        if (widget.name === "control_after_generate") widget.value = "fixed";
}"""
AS_A_FILE = """async () => {
    app.graph.arrange(60);
    await app.loadGraphData({...app.graph.serialize(), id: crypto.randomUUID()});
}"""
COLOR = """([x, y]) => {
    const canvas = document.querySelector(".adaptivesr-regions canvas");
    const place = [x * canvas.width, y * canvas.height].map(Math.floor);
    return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="ADAPTIVESR_CHROMIUM does not name a Chromium"),
]


litegraph = pytest.mark.parametrize("page", ["litegraph"], indirect=True)
"""For what does not depend on the renderer."""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["litegraph", "vue"])
def page(request, browser, server):
    """The page in one renderer; `complaints` collects exceptions and what the console says of our pack."""
    photo = Image.open(PHOTO).convert("RGB").resize((96, 64))
    for name in ("overlay.png", f"{request.param}.png"):  # the second for runs that the other renderer must not know
        photo.save(server.base / "input" / name)
    opened = browser.new_page(viewport={"width": 1500, "height": 1000}, device_scale_factor=2)
    opened.complaints = []
    opened.renderer = request.param
    opened.on("console", lambda message: hear(opened, message))
    opened.on("pageerror", lambda error: opened.complaints.append(("exception", str(error))))
    visit(opened, server.url)
    opened.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", request.param == "vue")
    opened.wait_for_timeout(1500)
    yield opened
    opened.close()


def hear(page, message):
    """Keeps errors and remarks that name our pack; the host looks for files of its own that are not there."""
    text = f"{message.text} {message.location}"
    if re.search("adaptivesr", text, re.IGNORECASE) and message.type in ("error", "warning", "debug"):
        page.complaints.append((message.type, text))


def visit(page, url):
    page.goto(url)
    page.wait_for_function(READY, timeout=90_000)
    page.wait_for_timeout(2000)
    page.evaluate(LISTEN)


def build(page, prompt):
    """The graph of an API prompt on an empty canvas, laid out and in view."""
    page.evaluate("prompt => app.loadApiJson(prompt, 'overlay')", prompt)
    page.wait_for_function("n => app.graph.nodes.length === n", arg=len(prompt))
    page.evaluate(FIXED_SEEDS)
    page.evaluate(AS_A_FILE)
    page.evaluate("heard.length = 0")
    page.wait_for_timeout(800)


def run(page, seconds=120):
    end = page.evaluate(RUN, seconds)
    assert end["kind"] == "execution_success", end
    page.wait_for_timeout(700)


def look(page, name, node):
    """Brings the node into view; a screenshot of it goes to ADAPTIVESR_OUT, if that names a folder."""
    folder = os.environ.get("ADAPTIVESR_OUT")
    page.evaluate(
        """id => { const node = app.graph.getNodeById(id), ds = app.canvas.ds;
            ds.scale = 1; ds.offset = [120 - node.pos[0], 100 - node.pos[1]]; app.canvas.setDirty(true, true); }""",
        node,
    )
    page.wait_for_timeout(400)
    if folder:
        page.screenshot(path=Path(folder) / f"overlay_{name}_{page.renderer}.png")


def hover(page, region):
    """Puts the mouse on a region; the words that appear."""
    state = page.evaluate("() => heard.at(-1)")
    box = page.locator(f"{MAP} canvas").bounding_box()
    height, width = state["canvas"]
    scale = min(box["width"] / width, box["height"] / height)
    y, x, h, w = state["regions"][region]
    left, top = (box["width"] - width * scale) / 2, (box["height"] - height * scale) / 2
    hint = page.locator(".adaptivesr-hint")
    for _ in range(20):  # a page that is still at work, after a change of its language say, loses the first moves
        page.mouse.move(box["x"] + left + (x + w / 2) * scale, box["y"] + top + (y + h / 2) * scale)
        page.wait_for_timeout(150)
        if hint.text_content():
            break
        page.mouse.move(box["x"] - 2, box["y"] - 2)
    return hint.text_content().split("\n")


def words(page, part):
    return page.locator(f".adaptivesr-{part}").text_content()


def test_the_map_of_a_tiled_run_is_the_reports(page):
    prompt = tiled(f"{page.renderer}.png", TEACHER)
    build(page, prompt)
    before = page.evaluate("app.graphToPrompt()")
    assert page.locator(MAP).count() == 0
    run(page)
    look(page, "tiled", 5)
    report = json.loads(page.evaluate(REPORT))
    heard = page.evaluate("heard")
    assert [heard[0]["phase"], heard[-1]["phase"]] == ["start", "end"]
    assert heard[-1]["counts"] == report["steps_per_region"]
    assert heard[-1]["saved"] == report["skipped"]
    assert page.locator(MAP).count() == 1 and page.locator(MAP).is_visible()
    assert words(page, "calls") == f"{report['calls']} calls"
    assert words(page, "saved") == (f"{round(100 * report['skipped'])} % saved" if report["skipped"] else "")
    for region in (0, len(report["regions"]) - 1):
        which, steps, classes, end = hover(page, region)
        assert which.startswith(f"Region {region + 1} ·")
        assert steps == f"{report['steps_per_region'][0][region]} of 15 steps"
        assert classes.startswith("warm-up") and end == "finished: reached the last step"
    after = page.evaluate("app.graphToPrompt()")
    assert after["output"] == before["output"] and after["output"]["5"]["inputs"].keys() >= prompt["5"]["inputs"].keys()
    assert values(after) == values(before)
    assert page.complaints == []


def values(graph):
    """What a saved file holds of the widgets, by node."""
    return {node["id"]: node.get("widgets_values") for node in graph["workflow"]["nodes"]}


def test_the_map_of_a_one_step_run_is_the_reports(page):
    build(page, one_step("overlay.png", STUDENT))
    run(page)
    look(page, "one_step", 5)
    report = json.loads(page.evaluate(REPORT))
    final = page.evaluate("heard.at(-1)")
    assert (final["calls"], final["region_calls"]) == (report["network_calls"], report["network_rows"])
    assert len(final["regions"]) == report["regions"] and final["counts"] == [[1] * report["regions"]]
    assert words(page, "calls") == f"{report['network_calls']} calls" and words(page, "saved") == ""
    assert hover(page, 1) == ["Region 2 · row 1, column 2", "1 of 1 step", "finished"]
    assert page.complaints == []


@litegraph
def test_a_chinese_page_has_the_maps_words_in_chinese(page):
    build(page, tiled(f"{page.renderer}.png", TEACHER))
    run(page)
    report = json.loads(page.evaluate(REPORT))
    page.evaluate("app.extensionManager.setting.set('Comfy.Locale', 'zh')")
    page.wait_for_timeout(1000)
    try:
        assert hover(page, 0)[:2] == ["区域 1 · 第 1 行，第 1 列", f"{report['steps_per_region'][0][0]} / 15 步"]
        look(page, "chinese", 5)
    finally:
        page.evaluate("app.extensionManager.setting.set('Comfy.Locale', 'en')")
        page.wait_for_timeout(1000)
    assert page.complaints == []


@litegraph
def test_a_run_of_a_single_tile_shows_its_calls_and_no_map(page):
    build(page, one_step("overlay.png", STUDENT, tile=128))
    run(page)
    look(page, "single", 5)
    assert words(page, "calls") == "1 call" and words(page, "saved") == ""
    assert page.locator(MAP).is_visible() and not page.locator(f"{MAP} canvas").is_visible()
    assert page.complaints == []


def test_the_map_moves_while_the_run_goes_on(page):
    build(page, tiled("overlay.png", TEACHER, seed=1, overlap=64))
    run(page)
    heard = page.evaluate("heard")
    steps = [message for message in heard if message["phase"] == "step"]
    assert len(steps) >= 3
    counts = [sum(message["counts"][0]) for message in heard[1:]]
    assert counts == sorted(counts) and counts[-1] == heard[-1]["report"]["region_calls"]
    # the page hears of a message after the map, which so shows that message's number already
    assert all(message["shown"] == f"{message['calls']} call{'s' * (message['calls'] > 1)}" for message in steps)
    passed = [message["passed"] for message in heard[1:]]
    assert passed == sorted(passed) and passed[-1] == 1
    assert any(set(message["states"][0]) - {".", "a", "c"} for message in steps), "no class of a region was told"
    assert page.complaints == []


@litegraph
def test_regions_have_the_colours_of_the_heat_map(page):
    build(page, tiled("overlay.png", TEACHER, gain=False, seed=2, steps=2))
    run(page)
    report = json.loads(page.evaluate(REPORT))
    assert set(report["steps_per_region"][0]) == {2}
    expected = [round(255 * value) for value in STOPS[-1]]
    assert page.evaluate(COLOR, [0.06, 0.5])[:3] == pytest.approx(expected, abs=2)
    assert words(page, "saved") == ""


@litegraph
def test_every_image_of_a_batch_has_its_map(page):
    prompt = one_step("overlay.png", STUDENT, seed=3)
    prompt["8"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["2", 0], "amount": 3}}
    prompt["5"]["inputs"]["image"] = ["8", 0]
    build(page, prompt)
    run(page)
    assert words(page, "pager") == "image 3 of 3"
    page.locator(".adaptivesr-pager").click()
    assert words(page, "pager") == "image 1 of 3"
    assert page.complaints == []


@litegraph
def test_region_sampler_shows_what_the_hosts_node_samples_with_it(page):
    build(page, custom("overlay.png", TEACHER))
    run(page)
    look(page, "custom", 8)
    final = page.evaluate("heard.at(-1)")
    assert final["node"] == "8" and page.locator(MAP).count() == 1
    assert words(page, "calls") == f"{final['report']['calls']} calls"
    page.evaluate("app.loadGraphData(app.graph.serialize())")  # as undo does, and opening a tab again
    page.wait_for_selector(MAP, timeout=15_000)
    assert words(page, "calls") == f"{final['report']['calls']} calls"
    assert page.complaints == []


@litegraph
@pytest.mark.parametrize("change", ["undefined", "() => { throw new Error('unknown here'); }"])
def test_a_page_without_such_widgets_works_as_before(page, change):
    tile = 24 if "throw" in change else 40  # what was run before would come from the cache
    build(page, one_step("overlay.png", STUDENT, tile=tile))
    page.evaluate(f"() => {{ app.graph.getNodeById(5).addDOMWidget = {change}; }}")
    run(page)
    assert page.evaluate("heard.at(-1).phase") == "end" and page.locator(MAP).count() == 0
    assert all(kind == "debug" for kind, _ in page.complaints) and bool(page.complaints) == ("throw" in change)
    page.complaints.clear()


def test_a_cancelled_run_keeps_what_it_reached(page):
    build(page, tiled("overlay.png", TEACHER, gain=False, seed=4, steps=900))
    page.evaluate("app.queuePrompt(0, 1)")
    page.wait_for_function("() => heard.filter((message) => message.phase === 'step').length > 2", timeout=60_000)
    look(page, "running", 5)
    assert re.fullmatch(r"\d+ of 12 regions done, about \d+ (s|min) left", words(page, "progress"))
    page.evaluate("app.api.interrupt()")
    page.wait_for_function("() => document.querySelector('.adaptivesr-regions').dataset.phase === 'stopped'")
    assert words(page, "time").startswith("stopped at ") and words(page, "progress") == ""
    assert page.evaluate("heard.at(-1).phase") == "step"
    assert page.complaints == []


@litegraph
def test_a_node_inside_a_subgraph_shows_its_map(page):
    build(page, one_step("overlay.png", STUDENT, seed=5))
    page.evaluate("() => { app.graph.convertToSubgraph(new Set([app.graph.getNodeById(5)])); }")
    page.wait_for_timeout(500)
    run(page)
    final = page.evaluate("heard.at(-1)")
    outer, inner = final["node"].split(":")
    widgets = page.evaluate(
        """([outer, inner]) => app.graph.getNodeById(Number(outer)).subgraph.getNodeById(Number(inner)).widgets
            .map((widget) => widget.name)""",
        [outer, inner],
    )
    assert "adaptivesr_regions" in widgets
    assert page.complaints == []


def test_lines_of_result_stay_when_the_run_is_over_and_when_the_page_is_reloaded(page, server):
    prompt = tiled("overlay.png", TEACHER, seed=7, steps=2)
    prompt["6"]["inputs"] = {**prompt["6"]["inputs"], "tau": 0.01 if page.renderer == "vue" else 0.02}  # runs, uncached
    build(page, prompt)
    run(page)
    shown = lines(page)
    assert any(line.startswith("proxies: ") for line in shown) and any("model calls" in line for line in shown)
    look(page, "lines", 5)
    assert page.locator(".adaptivesr-result", has_text="model calls").is_visible()
    page.wait_for_timeout(1500)
    visit(page, server.url)
    page.wait_for_selector(".adaptivesr-result", timeout=15_000, state="attached")
    page.wait_for_timeout(500)
    assert lines(page) == shown
    assert page.complaints == []


def test_a_graph_shows_the_map_of_an_earlier_run_only_if_that_had_its_inputs_and_says_so(page):
    build(page, tiled(f"{page.renderer}.png", TEACHER, gain=False, seed=8, steps=2))
    run(page)
    assert page.locator(MAP).count() == 1 and not page.locator(".adaptivesr-earlier").is_visible()
    opened = "steps => app.loadGraphData({...app.graph.serialize(), nodes: app.graph.serialize().nodes.map((node) => \
        node.id === 5 ? {...node, widgets_values: node.widgets_values.with(2, steps)} : node)}, true, true, null)"
    page.evaluate(opened, 3)  # another graph, under the same id
    page.wait_for_timeout(2000)
    assert page.evaluate("app.graph.getNodeById(5).widgets[2].value") == 3
    assert page.locator(MAP).count() == 0
    page.evaluate(opened, 2)
    page.wait_for_selector(MAP, timeout=15_000)
    look(page, "fresh", 5)
    assert page.locator(".adaptivesr-earlier").is_visible()
    run(page)  # out of the server's cache
    page.wait_for_selector(".adaptivesr-earlier", state="hidden", timeout=10_000)
    assert page.complaints == []


@litegraph
def test_what_nodes_show_is_marked_when_a_run_begins_that_does_not_reach_them(page):
    build(page, tiled("overlay.png", TEACHER, gain=False, seed=9, steps=2))
    run(page)
    assert not page.locator(".adaptivesr-earlier").is_visible()
    page.evaluate("() => { app.graph.getNodeById(5).widgets.find((w) => w.name === 'tile_size').value = 7; }")
    end = page.evaluate(RUN, 60)
    assert end["kind"] == "execution_error"
    page.wait_for_selector(".adaptivesr-earlier", timeout=10_000)
    look(page, "failed", 5)
    assert page.locator(".adaptivesr-of-earlier").count() == 1
    page.complaints.clear()  # the error is told


def lines(page):
    """The texts below nodes that have run."""
    return sorted(page.locator(".adaptivesr-result").all_text_contents())


def test_the_last_map_is_there_again_after_the_page_is_reloaded(page, server):
    build(page, tiled("overlay.png", TEACHER, seed=6))
    run(page)
    before = words(page, "calls"), words(page, "saved"), words(page, "time")
    page.wait_for_timeout(1500)  # the page keeps its graph in the browser, now and then
    visit(page, server.url)
    page.wait_for_selector(MAP, timeout=15_000)
    assert (words(page, "calls"), words(page, "saved"), words(page, "time")) == before
    look(page, "reloaded", 5)
    assert page.complaints == []
