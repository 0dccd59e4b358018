"""Writes the example workflows: each is described once in `examples`, and becomes a UI file and an API file that agree.

The host's node definitions (`/object_info`) tell the order of sockets and widgets, so a host has to run for this.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from . import thumbnails
from .env import environment as env
from .env.server import running_host
from .env.steps import say
from .examples import WORKFLOWS
from .examples.parts import DOWNLOADS, FRONTEND_NOTE, Link, Node, Workflow
from .layout import GraphLayout, Group, arrange, extra_widgets, is_collapsed, is_socket

FOLDER = env.ROOT / "workflows"
TITLES = env.ROOT / "web" / "template_names.json"
PACK_ID = "adaptivesr"
COMPARES, COMPARED = "ImageCompare", "adaptivesr_comparer"
"""The host's node whose pictures our extension draws in the classic renderer, and its property that asks for it."""
MENU_PARTS = {
    "adaptive_upscale": ("Upscale", "放大"),
    "stablesr": ("Methods of the papers", "论文方法"),
    "image_quality": ("Measure and train", "测量与训练"),
}
"""Parts of our menu in English and Chinese, by the workflow that each begins with."""
MUTED = 2
"""The page's mode of a node that is never run."""
REPOSITORY = "https://github.com/adaptivesr/ComfyUI-AdaptiveSR"


def main(argv: list[str]) -> int:
    """Starts a host, reads its node definitions and writes every workflow anew; or the thumbnails of those there are."""
    parser = argparse.ArgumentParser(prog="dev.py workflows", description="Writes the example workflows anew.")
    parser.add_argument("--thumbnails", action="store_true", help="their pictures instead, with the system's Chromium")
    options = parser.parse_args(argv)
    source = env.host_source(env.ensure_environment())
    if options.thumbnails:
        thumbnails.write(FOLDER, source)
        return 0
    with running_host(source) as server, server.client() as client:
        definitions = client.object_info()
    for path, content in render(definitions).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        say(f"wrote {path.relative_to(env.ROOT)}")
    return 0


def render(definitions: Mapping[str, Any]) -> dict[Path, str]:
    """Contents of every workflow file by path, and of the list of their titles."""
    files: dict[Path, str] = {}
    for workflow in WORKFLOWS:
        files[FOLDER / f"{workflow.name}.json"] = _dump(ui_format(workflow, definitions))
        files[FOLDER / "api" / f"{workflow.name}.json"] = _dump(api_format(workflow, definitions))
    files[TITLES] = _dump(titles())
    return files


def titles() -> dict[str, dict[str, str]]:
    """What our menu in the page shows for every file, in its order, and in which part."""
    found, part = dict[str, dict[str, str]](), ("", "")
    for number, workflow in enumerate(WORKFLOWS, start=1):
        part = MENU_PARTS.get(workflow.name, part)
        names = {"en": f"{number} {workflow.title}", "zh": f"{number} {workflow.title_zh}"}
        found[workflow.name] = {**names, "part": part[0], "part_zh": part[1]}
    return found


def without_code(text: str) -> str:
    """A note whose file names are bold: Nodes 2.0 draws code blue on grey, which cannot be read."""
    return re.sub(r"`([^`]+)`", lambda found: "**" + found.group(1).replace("\\", r"\\") + "**", text)


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def api_format(workflow: Workflow, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """What the host's API queues: class and inputs by node id; notes, muted nodes and links to these are left out."""
    ids = _ids(workflow)
    muted = {node.key for node in workflow.nodes if node.muted}
    prompt: dict[str, Any] = {}
    for node in workflow.nodes:
        if node.type == FRONTEND_NOTE or node.muted:
            continue
        inputs = {
            name: _api_value(node.inputs[name], ids)
            for name in _declared(node, definitions)
            if name in node.inputs and getattr(node.inputs[name], "key", None) not in muted
        }
        title = node.title or definitions[node.type]["display_name"] or node.type
        prompt[str(ids[node.key])] = {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}
    return prompt


def _api_value(value: Any, ids: Mapping[str, int]) -> Any:
    if isinstance(value, Link):
        return [str(ids[value.key]), value.slot]
    return {"__value__": value} if isinstance(value, list) else value  # a bare list would be read as a link


def _ids(workflow: Workflow) -> dict[str, int]:
    return {node.key: i for i, node in enumerate(workflow.nodes, start=1)}


def _declared(node: Node, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Input definitions by name, in the order in which the front end lists them; unknown inputs of ours are an error."""
    declared = definitions[node.type]["input"]
    inputs = {**declared.get("required", {}), **declared.get("optional", {})}
    unknown = set(node.inputs) - set(inputs)
    if unknown:
        raise ValueError(f"{node.type} has no input {sorted(unknown)}: expected {sorted(inputs)}.")
    return inputs


def ui_format(workflow: Workflow, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """What the front end saves and loads (schema 0.4)."""
    ids = _ids(workflow)
    links: list[list[Any]] = []
    sources = {node.key: definitions[node.type] for node in workflow.nodes if node.type != FRONTEND_NOTE}
    layout = arrange(workflow, definitions)
    nodes = [
        _ui_node(node, order, ids, sources, definitions, links) | _look(node, layout)
        for order, node in enumerate(workflow.nodes)
    ]
    for node, raw in zip(workflow.nodes, nodes):
        for slot, output in enumerate(raw["outputs"]):
            output["links"] = [link[0] for link in links if link[1] == ids[node.key] and link[2] == slot] or None
    return {
        "id": str(uuid5(NAMESPACE_URL, f"{REPOSITORY}/workflows/{workflow.name}.json")),  # the page wants a GUID
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [_ui_group(number, group) for number, group in enumerate(layout.groups, start=1)],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _ui_node(
    node: Node,
    order: int,
    ids: Mapping[str, int],
    sources: Mapping[str, Any],
    definitions: Mapping[str, Any],
    links: list[list[Any]],
) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "id": ids[node.key],
        "type": node.type,
        "flags": {"collapsed": True} if is_collapsed(node) else {},
        "order": order,
        "mode": MUTED if node.muted else 0,
        "inputs": [],
        "outputs": [],
        "properties": {"Node name for S&R": node.type},
        "widgets_values": [without_code(node.text)] if node.text is not None else [],
    }
    if node.title:
        raw["title"] = node.title
    if node.type == FRONTEND_NOTE:
        return raw
    if node.type == COMPARES:
        raw["properties"][COMPARED] = True
    if node.type.startswith("AdaptiveSR"):
        raw["properties"]["cnr_id"] = PACK_ID
    models = [
        {"name": name, "url": DOWNLOADS[name][0], "directory": DOWNLOADS[name][1]}
        for name in node.inputs.values()
        if isinstance(name, str) and name in DOWNLOADS
    ]
    if models:
        raw["properties"]["models"] = models
    for name, (kind, *options) in _declared(node, definitions).items():
        value = node.inputs.get(name)
        if isinstance(value, Link):
            output_type = sources[value.key]["output"][value.slot]
            links.append([len(links) + 1, ids[value.key], value.slot, ids[node.key], len(raw["inputs"]), output_type])
            raw["inputs"].append({"name": name, "type": kind, "link": len(links)})
        elif is_socket(kind, options[0] if options else {}):
            raw["inputs"].append({"name": name, "type": kind, "link": None})
        elif name in node.inputs:
            raw["widgets_values"] += [value, *extra_widgets(options[0] if options else {})]
    definition = definitions[node.type]
    raw["outputs"] = [
        {"name": name, "type": kind, "links": None, "slot_index": slot}
        for slot, (name, kind) in enumerate(zip(definition["output_name"], definition["output"]))
    ]
    return raw


def _look(node: Node, layout: GraphLayout) -> dict[str, Any]:
    x, y, width, height = layout.boxes[node.key]
    style = layout.styles[node.key]
    return {"pos": [x, y], "size": [width, height], "color": style.title, "bgcolor": style.body}


def _ui_group(number: int, group: Group) -> dict[str, Any]:
    look = {"color": group.style.frame, "font_size": 24, "flags": {}}
    return {"id": number, "title": group.title, "bounding": list(group.box), **look}
