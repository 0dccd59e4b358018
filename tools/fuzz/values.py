"""Odd values in graphs, as widgets and through links, on a running host: each is refused by the host, runs, or is a sentence."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from ..env import server as devserver
from ..env.client import Client, HostError, Prompt, PromptRejectedError, PromptRun
from ..env.environment import ROOT
from ..small_models.stand_ins import put_stand_ins
from .outcomes import HostWork, Outcomes

WORKFLOWS = (
    "one_step_sr",
    "adaptive_upscale",
    "adadiffsr_embedded",
    "tiled_region_upscale",
    "image_quality",
    "stablesr",
    "tasr",
    "invsr",
)
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
ODD: tuple[Any, ...] = (
    float("nan"), float("inf"), float("-inf"), -1, 0, 1, 2.5, -1e9, 1e30, 10**30, 2**64 - 1, 2**64, "", "5", "x", "nan", "../../x",
    "/etc/passwd", "\0", "<img src=x onerror=alert(1)>", "x" * 20000, None, True, [], {}, [None], {"a": 1}, [[1]],
)  # fmt: skip
SMALLER = {"tile_size": 64, "overlap": 16, "tile": 64, "patch_size": 32}
FEW_STEPS = 2
"""So that a graph takes a moment."""
ANY_VALUE = '''
"""A node whose output may be anything, as those of other packs are."""
import json


class AnyType(str):
    def __ne__(self, other):
        return False


class AnyValue:
    RETURN_TYPES, FUNCTION, CATEGORY = (AnyType("*"),), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "1"})}}

    def run(self, text):
        return (json.loads(text),)


NODE_CLASS_MAPPINGS = {"FuzzAnyValue": AnyValue}
'''


def small_workflow(name: str) -> Prompt:
    """A shipped workflow on a small picture with few steps."""
    prompt: Prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        inputs = node["inputs"]
        inputs.update({key: value for key, value in SMALLER.items() if isinstance(inputs.get(key), int)})
        if isinstance(inputs.get("steps"), int):
            inputs["steps"] = min(inputs["steps"], 4 if "gain" in inputs else FEW_STEPS)
        if node["class_type"] == "ImageScale":
            inputs.update(width=96, height=0)
        if node["class_type"] == "AdaptiveSRStableSRUpscale":
            inputs.update(steps=1, tile_size=64)
        if node["class_type"] == "AdaptiveSRAdaptiveUpscale" and "model" in inputs:
            inputs["preset"] = "Fast"
    return prompt


def prepare(base: Path) -> None:
    """Pictures, stand-ins for model files, and the node of any value."""
    folder = base / "custom_nodes" / "fuzz_any_value"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(ANY_VALUE, encoding="utf-8")
    Image.linear_gradient("L").resize((48, 32)).convert("RGB").save(base / "input" / "example.png")
    put_stand_ins((small_workflow(name) for name in WORKFLOWS), base)


def places(info: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Workflow, node id and input of every value of ours that the workflows have."""
    found: list[tuple[str, str, str]] = []
    for name in WORKFLOWS:
        for node_id, node in small_workflow(name).items():
            if not node["class_type"].startswith("AdaptiveSR"):
                continue
            sections = info[node["class_type"]]["input"]
            found += [
                (name, node_id, entry)
                for section in ("required", "optional")
                for entry, (kind, *_) in sections.get(section, {}).items()
                if isinstance(kind, list) or kind in WIDGETS
            ]
    return found


def judged(run: PromptRun) -> str:
    """How a graph with an odd value ended."""
    last = run.events[-1]
    if run.succeeded or last.kind != "execution_error":
        return "ran" if run.succeeded else last.kind
    data = last.data
    if not str(data.get("node_type", "")).startswith("AdaptiveSR"):
        return "another node's error"
    frames = [line for line in data["traceback"] if "File " in line]
    ours = bool(frames) and ("AdaptiveSR" in frames[-1] or str(ROOT) in frames[-1])
    kind = str(data["exception_type"]).rpartition(".")[2]
    if ours and kind in ("ValueError", "UnsupportedModelError", "FileNotFoundError") and len(run.error) > 30:
        return "a sentence"
    return f"BAD {kind}: {run.error[:200]}"


def run(source: Path, count: int, seed: int, case: int | None = None) -> Outcomes:
    """Queues so many graphs, or the one of a case, on a host of its own."""
    outcomes = Outcomes("values", seed)
    with devserver.running_host(source, prepare=prepare, quiet=True) as host, host.client() as client:
        watch, where = HostWork(host.process.pid), places(client.object_info())
        for name in WORKFLOWS if case is None else ():  # as it is: it must run, and its networks are in memory then
            whole = client.run(small_workflow(name), timeout=120)
            if not whole.succeeded:
                outcomes.add(-1, f"{name} as it is", f"BAD workflow: {whole.error}", 0.0)
        for number in range(count) if case is None else [case]:
            rng = random.Random(f"{seed} {number}")
            name, node_id, entry = rng.choice(where)
            prompt, value, linked = copy.deepcopy(small_workflow(name)), rng.choice(ODD), rng.random() < 0.6
            what = f"{prompt[node_id]['class_type']}.{entry} = {str(value)[:40]!r}{' by link' if linked else ''}"
            prompt[node_id]["inputs"][entry] = ["any", 0] if linked else value
            if linked:
                prompt["any"] = {"class_type": "FuzzAnyValue", "inputs": {"text": json.dumps(value)}}
            watch.restart()
            outcomes.add(number, what, _outcome(client, prompt), watch.seconds())
    return outcomes


def _outcome(client: Client, prompt: Prompt) -> str:
    try:
        return judged(client.run(prompt, timeout=60))
    except PromptRejectedError:
        return "refused by the host"
    except HostError as error:
        if "said nothing" in str(error):
            client.interrupt()
            return "BAD hang: nothing for a minute"
        return "refused by the host"
