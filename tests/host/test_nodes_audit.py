"""What every node owes its users: words on every socket, a help page, names to be found by, experts' widgets set apart."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "web" / "docs"
PLAIN_VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
EXPERT = re.compile(
    r"_batch$|^levels$|^prediction$|^chain$|^per_site$|^alpha_max$|_share$|^t_|_guard$|^learning_rate$|^betas?$"
)
MOST_PLAIN = 9
"""Widgets that a node shows without its advanced ones."""
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def nodes(server):
    """Our nodes as the host describes them."""
    return {name: node for name, node in server.client().object_info().items() if name.startswith("AdaptiveSR")}


def inputs_of(node):
    """(name, kind, settings) of every input."""
    for section in ("required", "optional"):
        for name, (kind, *options) in node["input"].get(section, {}).items():
            yield name, kind, options[0] if options else {}


def complaints(found):
    return "\n".join(found)


def test_every_node_says_what_it_does_and_can_be_found(nodes):
    missing = []
    for name, node in nodes.items():
        if len(node["description"].split()) < 5:
            missing.append(f"{name}: description {node['description']!r}")
        aliases = node.get("search_aliases") or []
        if len(aliases) < 2 or any(alias != alias.strip() or not alias for alias in aliases):
            missing.append(f"{name}: search_aliases {aliases}")
        if not node["category"].startswith("image/upscaling/AdaptiveSR"):
            missing.append(f"{name}: category {node['category']}")
    assert not missing, complaints(missing)


def test_every_input_has_a_tooltip(nodes):
    missing = [
        f"{name}.{socket}: {settings.get('tooltip')!r}"
        for name, node in nodes.items()
        for socket, _, settings in inputs_of(node)
        if len((settings.get("tooltip") or "").split()) < 2
    ]
    assert not missing, complaints(missing)


def test_every_output_has_a_tooltip(nodes):
    missing = [
        f"{name}.{output}"
        for name, node in nodes.items()
        for output, tooltip in zip(node["output_name"], node.get("output_tooltips") or [None] * len(node["output"]))
        if not tooltip
    ]
    assert not missing, complaints(missing)


def test_widgets_have_defaults_that_their_ranges_allow(nodes):
    wrong = []
    for name, node in nodes.items():
        for widget, kind, settings in inputs_of(node):
            if kind in ("INT", "FLOAT") and not settings.get("forceInput"):
                default = settings.get("default")
                if default is None or not settings["min"] <= default <= settings["max"]:
                    wrong.append(f"{name}.{widget}: default {default}")
            elif kind == "COMBO" and "default" in settings and settings["default"] not in settings["options"]:
                wrong.append(f"{name}.{widget}: default {settings['default']!r} is no option")
    assert not wrong, complaints(wrong)


def test_experts_widgets_are_advanced_and_the_others_few(nodes):
    wrong = []
    for name, node in nodes.items():
        widgets = [(w, s) for w, kind, s in inputs_of(node) if kind in PLAIN_VALUES and not s.get("forceInput")]
        plain = [widget for widget, settings in widgets if not settings.get("advanced")]
        if len(plain) > MOST_PLAIN:
            wrong.append(f"{name}: {len(plain)} widgets are not advanced: {plain}")
        if len(widgets) > 4:
            wrong += [f"{name}.{widget} is for experts" for widget in plain if EXPERT.search(widget)]
    assert not wrong, complaints(wrong)


def test_every_help_page_says_when_to_use_the_node(nodes):
    wrong = []
    for name, node in nodes.items():
        page = DOCS / f"{name}.md"
        if not page.is_file():
            wrong.append(f"{page.name} is missing")
            continue
        text = page.read_text(encoding="utf-8")
        section = text.partition("\n## When to use\n")[2].partition("\n## ")[0]
        if not text.startswith(f"# {node['display_name']}\n"):
            wrong.append(f"{page.name} does not begin with '# {node['display_name']}'")
        if len(section.split()) < 8:
            wrong.append(f"{page.name} has no section 'When to use'")
        if f"({name}.png)" not in text:
            wrong.append(f"{page.name} has no picture of its node: run `python dev.py tour` and name {name}.png in it")
    assert not wrong, complaints(wrong)


def test_help_pages_name_every_input(nodes):
    wrong = []
    for name, node in nodes.items():
        text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        names = [re.escape(socket) for socket, *_ in inputs_of(node)]
        if len(names) > 3:
            wrong += [f"{name}.md does not name {socket}" for socket in names if not re.search(rf"\b{socket}\b", text)]
    assert not wrong, complaints(wrong)


def test_pictures_of_help_pages_exist(nodes):
    wrong = []
    for page in sorted(DOCS.rglob("*.md")):
        for words, address in PICTURE.findall(page.read_text(encoding="utf-8")):
            if not words:
                wrong.append(f"{page.name}: {address} has no words for those who cannot see it")
            if not address.startswith("http") and not (DOCS / address).is_file():
                wrong.append(f"{page.name}: there is no {address}")
    assert not wrong, complaints(wrong)


def test_no_help_page_is_of_a_node_that_is_gone(nodes):
    assert {page.stem for page in DOCS.glob("*.md")} <= set(nodes)


def test_the_host_serves_the_help_pages(nodes, client):
    for name in nodes:
        text = client.request(f"/extensions/ComfyUI-AdaptiveSR/docs/{name}.md").decode("utf-8")
        assert text == (DOCS / f"{name}.md").read_text(encoding="utf-8")
