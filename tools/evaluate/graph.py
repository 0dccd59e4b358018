"""A workflow file as a prompt that reads one picture and gives one back; what else the workflow shows or saves is not computed."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..env.client import Prompt
from ..env.steps import StepError

MUTED, BYPASSED = 2, 4
"""The page's modes of nodes that are not run, and of nodes that pass on what comes in."""
CONTROLS = ("fixed", "increment", "decrement", "randomize")
"""What the page puts behind a seed."""
VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SEEDS = ("seed", "noise_seed")
RESULTS = ("SaveImage", "PreviewImage")
EXPORT = "save it with Workflow > Export (API) in ComfyUI's page"


def read_workflow(path: Path) -> dict[str, Any]:
    """The JSON of a workflow file, in either form; a StepError says what else it is."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StepError(f"{path} cannot be read as a workflow: {error}.") from error
    if not isinstance(found, dict) or not (is_api_form(found) or isinstance(found.get("nodes"), list)):
        raise StepError(f"{path} is no workflow of ComfyUI: expected a file that its page saved or exported.")
    return found


def is_api_form(workflow: Mapping[str, Any]) -> bool:
    """Whether every entry is a node with its class."""
    return bool(workflow) and all(isinstance(node, dict) and "class_type" in node for node in workflow.values())


def digest(workflow: Mapping[str, Any]) -> str:
    """Names a workflow by its content."""
    return hashlib.sha256(json.dumps(workflow, sort_keys=True).encode()).hexdigest()[:16]


def to_prompt(workflow: Mapping[str, Any], definitions: Mapping[str, Any]) -> Prompt:
    """The API form of a workflow in either form. definitions: the host's `/object_info`, which tells what widgets a node has.

    Raises StepError for what only the page itself can convert.
    """
    if is_api_form(workflow):
        return {str(key): copy.deepcopy(node) for key, node in workflow.items()}
    return PageGraph(workflow, definitions).prompt()


class PageGraph:
    """A workflow as the page saves it: nodes with positional widget values, and links by number."""

    def __init__(self, workflow: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._nodes = {node["id"]: node for node in workflow["nodes"]}
        self._links = {link[0]: (link[1], link[2]) for link in workflow.get("links", []) if isinstance(link, list)}
        if workflow.get("definitions", {}).get("subgraphs"):
            raise StepError(f"The workflow holds subgraphs, which only the page can unfold: {EXPORT}.")

    def prompt(self) -> Prompt:
        """Class and inputs by node id."""
        return {
            str(node["id"]): {"class_type": node["type"], "inputs": self._inputs(node)}
            for node in self._nodes.values()
            if node.get("mode", 0) not in (MUTED, BYPASSED) and self._runs(node)
        }

    def _runs(self, node: Mapping[str, Any]) -> bool:
        if node["type"] in self._definitions:
            return True
        if node.get("outputs") or node.get("inputs"):
            if node["type"] in ("Reroute", "PrimitiveNode"):
                return False
            raise StepError(
                f"The workflow has the node {node['type']!r}, which this ComfyUI does not know: install its pack, or attach to a ComfyUI "
                "that has it with --url."
            )
        return False  # a note

    def _inputs(self, node: Mapping[str, Any]) -> dict[str, Any]:
        declared = self._definitions[node["type"]]["input"]
        declared = {**declared.get("required", {}), **declared.get("optional", {})}
        values = self._widgets(node, declared)
        for socket in node.get("inputs", []):
            name = (socket.get("widget") or {}).get("name", socket["name"])
            source = self._source(socket.get("link"), str(socket.get("type")))
            if source is not None and name in declared:
                values[name] = source
        return {name: values[name] for name in declared if name in values}

    def _widgets(self, node: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
        values = node.get("widgets_values") or []
        if isinstance(values, dict):
            return {name: values[name] for name in declared if name in values}
        rest, found = list(values), dict[str, Any]()
        for name, (kind, *options) in declared.items():
            settings = options[0] if options else {}
            if isinstance(kind, str) and kind.startswith("COMFY_"):
                raise StepError(
                    f"The node {node['type']!r} has widgets that change with others, which only the page can read: {EXPORT}."
                )
            if not rest or not _has_widget(kind, settings):
                continue
            value = rest.pop(0)
            found[name] = {"__value__": value} if isinstance(value, list) else value
            is_control = rest and rest[0] in CONTROLS and (settings.get("control_after_generate") or name in SEEDS)
            if is_control or (settings.get("image_upload") and rest and rest[0] == "image"):
                rest.pop(0)
        return found

    def _source(self, link: int | None, kind: str) -> list[Any] | Any | None:
        """[node id, output] behind a link, through reroutes and bypassed nodes; the value of a primitive; None: nothing."""
        if link is None or link not in self._links:
            return None
        number, slot = self._links[link]
        node = self._nodes[number]
        if node["type"] == "PrimitiveNode":
            return (node.get("widgets_values") or [None])[0]
        if node.get("mode", 0) == MUTED:
            return None
        if node["type"] == "Reroute" or node.get("mode", 0) == BYPASSED:
            given = node.get("inputs", [])
            wanted = node["outputs"][slot]["type"] if node["type"] != "Reroute" else kind
            fits = [socket for socket in given if node["type"] == "Reroute" or socket.get("type") == wanted]
            return self._source(fits[0].get("link"), kind) if fits else None
        return [str(number), slot]


def _has_widget(kind: Any, settings: Mapping[str, Any]) -> bool:
    if isinstance(kind, list):  # the older way to say what a list offers
        return True
    return (kind in VALUES or kind == "IMAGECOMPARE") and not settings.get("forceInput")


@dataclass(frozen=True)
class PromptPlan:
    """What is queued for every picture: the prompt, the nodes that read the picture, that give it back and that show reports, seeds."""

    prompt: Prompt
    pictures: tuple[str, ...]
    result: str
    reports: tuple[str, ...]
    seeds: tuple[tuple[str, str], ...]

    def for_picture(self, name: str, seed: int) -> Prompt:
        """The prompt that reads the picture which the host knows under that name, with every seed of the workflow at this value."""
        prompt = copy.deepcopy(self.prompt)
        for node in self.pictures:
            prompt[node]["inputs"]["image"] = name
        for node, key in self.seeds:
            prompt[node]["inputs"][key] = seed
        return prompt


def cut_down(prompt: Prompt, changes: Mapping[str, Any]) -> tuple[Prompt, str]:
    """A prompt without what its one result does not need, with changed inputs, and the result's node id.

    changes: values by the name of an input, wherever the workflow has it. Raises StepError where it is not clear what gives the picture.
    """
    result = _result_node(prompt)
    kept = _needed(prompt, result)
    cut = {key: copy.deepcopy(node) for key, node in prompt.items() if key in kept}
    _apply(cut, changes)
    return cut, result


def make_plan(prompt: Prompt, definitions: Mapping[str, Any], changes: Mapping[str, Any]) -> PromptPlan:
    """What is queued for a prompt: `cut_down`, with every report shown. definitions: the host's `/object_info`.

    Raises StepError where it is not clear what reads or what gives the picture, and for nodes that the host lacks.
    """
    cut, result = cut_down(prompt, changes)
    cut[result]["class_type"] = "PreviewImage"  # into the folder that the host empties, not among the user's pictures
    cut[result]["inputs"] = {"images": cut[result]["inputs"]["images"]}
    pictures = tuple(key for key, node in cut.items() if node["class_type"] == "LoadImage")
    if not pictures:
        raise StepError(
            "Nothing in the workflow reads a picture for the result: expected a node Load Image (LoadImage) before it."
        )
    reports: list[str] = []
    for key, node in list(cut.items()):
        definition = definitions.get(node["class_type"])
        if definition is None:
            raise StepError(f"This ComfyUI has no node {node['class_type']!r}, which the workflow needs.")
        if "report" in definition["output_name"]:
            place = f"report of {key}"
            source = [key, definition["output_name"].index("report")]
            cut[place] = {"class_type": "PreviewAny", "inputs": {"source": source}}
            reports.append(place)
    seeds = tuple(
        (key, name)
        for key, node in cut.items()
        for name, value in node["inputs"].items()
        if name in SEEDS and isinstance(value, int)
    )
    return PromptPlan(cut, pictures, result, tuple(reports), seeds)


def _result_node(prompt: Prompt) -> str:
    for kind in RESULTS:
        found = [key for key, node in prompt.items() if node["class_type"] == kind]
        if len(found) > 1:
            raise StepError(
                f"The workflow has {len(found)} nodes {kind} ({', '.join(found)}): expected one, the result; remove or mute the others."
            )
        if found:
            return found[0]
    raise StepError("The workflow saves no picture: expected one node Save Image (SaveImage) for the result.")


def _needed(prompt: Prompt, result: str) -> set[str]:
    found, waiting = set[str](), [result]
    while waiting:
        key = waiting.pop()
        if key in found:
            continue
        found.add(key)
        for value in prompt[key]["inputs"].values():
            if isinstance(value, list) and len(value) == 2 and str(value[0]) in prompt:
                waiting.append(str(value[0]))
    return found


def _apply(prompt: Prompt, changes: Mapping[str, Any]) -> None:
    known = {name for node in prompt.values() for name in node["inputs"]}
    for name, value in changes.items():
        if name not in known:
            raise StepError(f"The workflow has no input {name!r}: expected one of {', '.join(sorted(known))}.")
        for node in prompt.values():
            if name in node["inputs"]:
                node["inputs"][name] = value


def read_changes(words: Sequence[str]) -> dict[str, Any]:
    """What --set NAME=VALUE says; values are JSON, or text where they are not."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise StepError(f"Expected --set NAME=VALUE, got {word!r}.")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def work_in(reports: Sequence[str]) -> tuple[int | None, float | None]:
    """Model calls and TFLOP that reports of our nodes name, summed; None where none does."""
    calls, tflop = list[int](), list[float]()
    for text in reports:
        try:
            report = json.loads(text)
        except ValueError:
            continue
        if not isinstance(report, dict):
            continue
        calls += [report[key] for key in ("calls", "network_calls", "model_calls") if isinstance(report.get(key), int)]
        tflop += [report["tflop"]] if isinstance(report.get("tflop"), (int, float)) else []
    return (sum(calls) if calls else None), (sum(tflop) if tflop else None)
