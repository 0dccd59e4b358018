"""What a user meets on the page of the pinned host and on the newest one: the templates, their nodes, the search, a first run."""

import json
import os
import re
from pathlib import Path

import pytest
from adaptivesr.tools import workflows
from adaptivesr.tools.env import chromium
from adaptivesr.tools.env import server as devserver
from PIL import Image

frontpage = pytest.importorskip("adaptivesr.tools.env.page")

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM = os.environ.get("ADAPTIVESR_CHROMIUM", "")
NEWEST = os.environ.get("ADAPTIVESR_NEWEST_FRONTEND", "")
FILES = sorted((ROOT / "workflows").glob("*.json"))
WINDOW = {"width": 1440, "height": 800}
SMALLEST_ZOOM, WIDEST = 0.6, 1900
MOST_WIDGETS = 8
SET_VUE = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
COMMANDS = "app.extensionManager.command.commands.filter((c) => c.id.startsWith('AdaptiveSR.Open.')).map((c) => [c.id, c.label])"
OPEN = "([name, text]) => app.loadGraphData(JSON.parse(text), true, true, name, {openSource: 'template'})"
SEEN = """() => {
    const boxes = app.graph.nodes.map((node) => [...node.boundingRect]);
    const [left, right] = [Math.min(...boxes.map((box) => box[0])), Math.max(...boxes.map((box) => box[0] + box[2]))];
    return [app.canvas.ds.scale, right - left];
}"""
WIDGETS = """async ([types, most]) => {
    const counted = {};
    for (const type of types) {
        for (const other of [...app.graph.nodes]) app.graph.remove(other);
        const node = LiteGraph.createNode(type), widgets = node.widgets ?? [];
        app.graph.add(node);
        counted[type] = widgets.filter((widget) => node.isWidgetVisible(widget) && widget.type !== "button").length;
        if (!LiteGraph.vueNodesMode || widgets.length <= most) continue;
        app.canvas.ds.offset[0] = app.canvas.ds.offset[1] = 200;
        app.canvas.setDirty(true, true);
        const drawn = () => document.querySelectorAll(`[data-node-id='${node.id}'] [data-testid='node-widget']`).length;
        for (let tries = 0; tries < 100 && !drawn(); tries++) await new Promise((resolve) => setTimeout(resolve, 20));
        counted[type] = drawn();
    }
    return counted;
}"""
TOGGLE = """async () => {
    const [node] = app.graph.nodes;
    const shown = () => node.widgets.filter((widget) => node.isWidgetVisible(widget) && widget.type !== "button").length;
    const [before, prompt] = [shown(), JSON.stringify((await app.graphToPrompt()).output)];
    const button = node.widgets.find((widget) => widget.name === "adaptivesr_advanced");
    button.callback();
    const [open, kept] = [shown(), node.serialize().showAdvanced];
    const same = JSON.stringify((await app.graphToPrompt()).output) === prompt;
    button.callback();
    return {before, open, after: shown(), kept, same, values: node.serialize().widgets_values.length};
}"""
FOUND = """() => [...document.querySelectorAll("[role='option']")].map((option) => option.innerText.split("\\n")[0])"""
CONTRASTS = """() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const bright = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const over = ([r, g, b, a = 1], below) => [r, g, b].map((value, i) => a * value + (1 - a) * below[i]);
    const ground = (element) => {
        if (!element) return [0, 0, 0];
        const color = channels(getComputedStyle(element).backgroundColor);
        return color[3] === 0 ? ground(element.parentElement) : over(color, ground(element.parentElement));
    };
    const found = [];
    for (const note of app.graph.nodes.filter((node) => node.type === "MarkdownNote")) {
        const places = document.querySelectorAll(`[data-node-id="${note.id}"] .comfy-markdown-content *, [data-node-id="${note.id}"] .tiptap *`);
        const drawn = places.length ? places : note.widgets.flatMap((w) => [...(w.element?.querySelectorAll("*") ?? [])]);
        for (const element of drawn) {
            const text = [...element.childNodes].filter((child) => child.nodeType === 3).map((child) => child.textContent).join("").trim();
            if (!text || !element.getClientRects().length) continue;
            const behind = ground(element);
            const [light, dark] = [bright(over(channels(getComputedStyle(element).color), behind)), bright(behind)].sort((a, b) => b - a);
            found.push([Math.round(100 * (light + 0.05) / (dark + 0.05)) / 100, text.slice(0, 40)]);
        }
    }
    return found;
}"""
LETTERS = """(letters) => letters.map((letter) => {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d");
    context.font = "40px sans-serif";
    context.fillText(letter, 4, 44);
    return canvas.toDataURL();
})"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="ADAPTIVESR_CHROMIUM does not name a Chromium"),
]


@pytest.fixture(scope="module")
def browser():
    with frontpage.browser(CHROMIUM) as opened:
        yield opened


def prepare(base):
    Image.new("RGB", (48, 32), (200, 120, 40)).save(base / "input" / "example.png")
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"Comfy.TutorialCompleted": true}', encoding="utf-8")


@pytest.fixture(scope="module", params=["pinned", "newest"])
def page(request, browser):
    """The page in a small window; `complaints` collects exceptions and errors that name our pack."""
    if request.param == "newest" and not NEWEST:
        pytest.skip("ADAPTIVESR_NEWEST_FRONTEND does not name a page")
    if request.param == "pinned":
        yield from opened_page(browser, request.getfixturevalue("server"))
        return
    options = ["--front-end-root", NEWEST]
    with devserver.running_host(
        Path(os.environ["ADAPTIVESR_HOST"]), prepare=prepare, options=options, quiet=True
    ) as host:
        yield from opened_page(browser, host)


pinned = pytest.mark.parametrize("page", ["pinned"], indirect=True)
"""For what does not depend on the page's version."""
LEAST_CONTRAST = 4.5
"""Of text on its ground (WCAG 2.1, 1.4.3)."""
UPSCALES = ("Upscale", "One-Step Distilled SR", "Super Resolution (StableSR)", "Super Resolution (InvSR)")


def opened_page(browser, host):
    opened = browser.new_page(viewport=WINDOW)
    opened.complaints = []
    info = host.client().object_info()
    opened.ours = sorted(name for name in info if name.startswith("AdaptiveSR"))
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("console", lambda message: hear(opened, message))
    frontpage.open_frontend(opened, host.url)
    opened.evaluate(SET_VUE, False)  # the shared host keeps the settings of other tests
    opened.wait_for_timeout(500)
    yield opened
    opened.close()


def hear(opened, message):
    if "AdaptiveSR:" in message.text:
        opened.complaints.append(message.text)


@pytest.fixture(params=["classic", "nodes 2.0"])
def renderer(page, request):
    page.evaluate(SET_VUE, request.param == "nodes 2.0")
    page.wait_for_timeout(700)
    yield request.param
    page.evaluate(SET_VUE, False)
    page.wait_for_timeout(300)


def look(page, name):
    """A screenshot goes to ADAPTIVESR_OUT, if that names a folder."""
    if os.environ.get("ADAPTIVESR_OUT"):
        page.screenshot(path=Path(os.environ["ADAPTIVESR_OUT"]) / f"{name}.png")


def test_the_menu_opens_templates_by_names_for_people_in_their_order(page):
    expected = workflows.titles()
    assert page.evaluate(COMMANDS) == [[f"AdaptiveSR.Open.{name}", names["en"]] for name, names in expected.items()]
    page.locator(
        ".comfy-menu-button-wrapper, .comfyui-logo-menu-wrapper, [data-testid='comfy-menu-button']"
    ).first.click()
    name, first = next(iter(expected.items()))
    title = first["en"]
    for part in ("AdaptiveSR", first["part"]):
        page.locator("[role='menuitem']").get_by_text(part, exact=True).first.hover()
        page.wait_for_timeout(500)
    look(page, "menu")
    page.get_by_text(title, exact=True).first.click()
    page.wait_for_function(
        "name => app.extensionManager.workflow.activeWorkflow?.filename === name", arg=title, timeout=20_000
    )
    shipped = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    assert page.evaluate("app.graph.nodes.map((node) => node.type)") == [node["type"] for node in shipped["nodes"]]
    assert page.complaints == []


def test_a_template_opens_by_click_without_a_complaint_about_its_file(page):
    heard = []
    page.on("console", lambda message: heard.append(message.text) if message.type in ("warning", "error") else None)
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("ComfyUI-AdaptiveSR", exact=True).first.click(timeout=30_000)
    card = page.get_by_text("adaptive_upscale", exact=True).first
    card.scroll_into_view_if_needed()
    heard.clear()
    card.click()
    page.wait_for_function(
        "app.extensionManager.workflow.activeWorkflow?.filename === 'adaptive_upscale'", timeout=20_000
    )
    shipped = json.loads((ROOT / "workflows" / "adaptive_upscale.json").read_text(encoding="utf-8"))
    assert page.evaluate("app.graph.nodes.map((node) => node.type)") == [node["type"] for node in shipped["nodes"]]
    assert [text for text in heard if re.search("guid|invalid|validat|schema", text, re.IGNORECASE)] == []


def test_notes_can_be_read(page, renderer):
    file = (
        ROOT / "workflows" / "adaptive_upscale_checkpoint.json"
    )  # its notes have headings, lists, a table, links and file names
    page.evaluate(OPEN, [f"notes {renderer}", file.read_text(encoding="utf-8")])
    page.wait_for_timeout(1500)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 10, found
    assert [entry for entry in found if entry[0] < LEAST_CONTRAST] == []


@pinned
def test_templates_open_large_enough_to_be_read(page):
    seen = {}
    for file in FILES:
        page.evaluate(OPEN, [file.stem, file.read_text(encoding="utf-8")])
        page.wait_for_timeout(350)
        seen[file.stem] = page.evaluate(SEEN)
        look(page, f"open_{file.stem}")
    small = {name: zoom for name, (zoom, _) in seen.items() if zoom < SMALLEST_ZOOM - 0.0005}
    wide = {name: width for name, (_, width) in seen.items() if width > WIDEST}
    assert (small, wide) == ({}, {})
    assert page.complaints == []


def test_no_node_shows_more_than_eight_widgets_at_first(page, renderer):
    counted = page.evaluate(WIDGETS, [page.ours, MOST_WIDGETS])
    assert {name: count for name, count in counted.items() if count > MOST_WIDGETS} == {}
    assert counted["AdaptiveSRTiledRegionSampler"] >= 7, "nothing was counted"


def test_a_button_shows_the_other_settings_and_files_and_prompts_stay_as_they_are(page):
    page.evaluate(WIDGETS, [["AdaptiveSRTiledRegionSampler"], MOST_WIDGETS])
    assert page.evaluate(TOGGLE) == {"before": 8, "open": 13, "after": 8, "kept": True, "same": True, "values": 13}
    page.evaluate("() => { app.graph.nodes[0].widgets.find((w) => w.name === 'adaptivesr_advanced').callback(); }")
    page.evaluate("app.loadGraphData(app.graph.serialize())")
    page.wait_for_timeout(400)
    again = (
        "app.graph.nodes[0].widgets.filter((w) => app.graph.nodes[0].isWidgetVisible(w) && w.type !== 'button').length"
    )
    assert page.evaluate(again) == 13, "what was opened is open after loading"
    assert page.complaints == []


def test_the_first_node_that_a_search_finds_is_one_that_upscales(page):
    found = {}
    page.evaluate("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.wait_for_timeout(800)
    for word in ("upscale", "super resolution", "放大"):
        page.keyboard.press("Control+A")
        page.keyboard.type(word)
        page.wait_for_timeout(1200)
        look(page, f"search_{len(word)}")
        found[word] = list(dict.fromkeys(page.evaluate(FOUND)))
    page.evaluate("app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.wait_for_timeout(300)
    # The page ranks by names before aliases, then by its own list of how often nodes are used, in which the host's lead.
    first = {word: names[0] if names else None for word, names in found.items()}
    assert first == {"upscale": "Upscale", "super resolution": "Super Resolution (InvSR)", "放大": first["放大"]}, found
    assert first["放大"] in UPSCALES, found


@pytest.mark.skipif(not chromium.can_install(), reason="fonts are installed on Debian as root only")
@pinned
def test_screenshots_show_chinese_letters(page):
    drawn = page.evaluate(LETTERS, list("放大图像"))
    assert len(set(drawn)) == len(drawn), "missing letters are all drawn as the same box"


def test_a_first_run_leaves_its_line_and_both_pictures(page, renderer):
    file = ROOT / "workflows" / "adaptive_upscale.json"
    page.evaluate(OPEN, [f"run {renderer}", file.read_text(encoding="utf-8")])
    page.wait_for_timeout(600)
    waiting = page.locator(".adaptivesr-waiting").count()
    assert waiting == (1 if renderer == "classic" else 0), "an empty comparer says what it is for"
    end = frontpage.run(page, 60)
    assert end["kind"] == "execution_success", end
    page.wait_for_selector(".adaptivesr-result", timeout=10_000)
    page.wait_for_timeout(1500)  # newer pages clear progress texts when a run ends
    look(page, f"first_run_{renderer}")
    assert "network call" in page.locator(".adaptivesr-result").first.text_content()
    if renderer == "classic":
        shown = "() => [...document.querySelectorAll('.adaptivesr-comparer img')].map((picture) => picture.naturalWidth > 0)"
        page.wait_for_function(f"() => ({shown})().every(Boolean)")
        dead = "app.graph.nodes.filter((n) => n.type === 'ImageCompare').map((n) => n.isWidgetVisible(n.widgets.find((w) => w.name === 'compare_view')))"
        assert page.evaluate(dead) == [False]
    assert page.complaints == []
