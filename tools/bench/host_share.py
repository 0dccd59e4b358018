"""`dev.py bench host_share`: how much of a workflow's time in the host lies outside of its networks, on one CPU thread.

The shipped `adadiffsr_embedded`: the 1.3 M network of the embedded teacher, the injection network (PFJ) and the gain regressor
(MMLE), 25 regions of 128 pixels at 40 steps. All nodes run in one process as the host runs them, networks are timed where they are
entered, and shares are those of one turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from ..demo import PHOTO
from ..env import environment as env
from ..env.server import PACK_NAME, link_pack
from ..env.steps import StepError
from .parts.report import write_report

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / "workflows" / "api" / "adadiffsr_embedded.json"
GOAL = 0.10
LOADERS = ("AdaptiveSRLoadOneStepSR", "AdaptiveSRLoadMMLEPFJ", "LoadImage")
SKIPPED = ("SaveImage", "PreviewImage", "ImageCompare")
SAMPLER = "AdaptiveSRTiledRegionSampler"
SHOWN = 100

# Runs in a process of its own, where the host's modules are importable; networks are the modules that hold weights.
PROBE = """
import asyncio, cProfile, io, json, pstats, sys
from time import perf_counter
settings = json.loads(sys.argv[1])
from comfy.cli_args import args
args.cpu, args.base_directory = True, settings["base"]
import torch
torch.set_num_threads(1)
import nodes
assert asyncio.run(nodes.load_custom_node(settings["pack"]))
prompt = json.load(open(settings["workflow"]))
seconds, inside = {}, []

def hooked(name, module):
    def before(*_):
        inside.append(perf_counter())
    def after(*_):
        start = inside.pop()
        if not inside:
            seconds[name] = seconds.get(name, 0.0) + perf_counter() - start
    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)

def value(results, given):
    return results[given[0]][given[1]] if isinstance(given, list) and len(given) == 2 and given[0] in results else given

def run(number, results):
    entry = prompt[number]
    node = nodes.NODE_CLASS_MAPPINGS[entry["class_type"]]
    given = {name: value(results, one) for name, one in entry["inputs"].items()}
    start = perf_counter()
    output = node.execute(**given) if hasattr(node, "define_schema") else getattr(node(), node.FUNCTION)(**given)
    spent = perf_counter() - start
    output = output.args if hasattr(output, "args") else output.get("result", ()) if isinstance(output, dict) else output
    return output, spent

order = []
results, times = {}, {}
while len(order) < len(prompt):
    for number, entry in prompt.items():
        needed = {one[0] for one in entry["inputs"].values() if isinstance(one, list) and len(one) == 2}
        if number not in order and needed <= set(order):
            order.append(number)
skipped = {number for number in order if prompt[number]["class_type"] in settings["skip"]}
with torch.inference_mode():
    for number in order:
        if prompt[number]["class_type"] in settings["loaders"]:
            results[number] = run(number, results)[0]
    one_step, gain_models = (results[next(n for n in order if prompt[n]["class_type"] == kind)][0] for kind in settings["loaders"][:2])
    hooked("network", one_step.patcher.model.diffusion_model.network)
    for name, module in gain_models.patcher.model.named_children():
        hooked(name, module)
    found = []
    for turn in range(settings["turns"] + 1):
        seconds.clear()
        times = {}
        profile = cProfile.Profile() if turn == settings["turns"] else None
        sampler = next(entry for entry in prompt.values() if entry["class_type"] == settings["sampler"])
        sampler["inputs"]["steps"] = settings["steps"]
        for number in order:
            if number in skipped or prompt[number]["class_type"] in settings["loaders"]:
                continue
            kind = prompt[number]["class_type"]
            if profile and kind == settings["sampler"]:
                profile.enable()
            results[number], times[kind] = run(number, results)
            if profile:
                profile.disable()
        found.append({"nodes": times, "networks": dict(seconds)})
        print("turn", turn, sum(times.values()), dict(seconds), file=sys.stderr, flush=True)
words = io.StringIO()
pstats.Stats(profile, stream=words).strip_dirs().sort_stats("cumtime").print_stats(settings["shown"])
print(json.dumps({"turns": found[:-1], "profile": words.getvalue().splitlines()}))
"""


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """What the probe has found."""
    source = env.host_source(env.ensure_environment())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", PACK_NAME)
        (base / "input").mkdir(exist_ok=True)
        small = Image.open(PHOTO).convert("RGB").resize((options.size, options.size), Image.Resampling.BICUBIC)
        small.save(base / "input" / "example.png")
        settings = {
            "base": folder,
            "pack": str(base / "custom_nodes" / PACK_NAME),
            "workflow": str(WORKFLOW),
            "skip": SKIPPED,
            "loaders": LOADERS,
            "sampler": SAMPLER,
            "turns": options.turns,
            "steps": options.steps,
            "shown": SHOWN,
        }
        command = [sys.executable, "-c", PROBE, json.dumps(settings)]
        done = subprocess.run(command, cwd=source, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise StepError("The measurement in the host failed; its own words stand above.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench host_share", description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="side of the small picture (128)")
    parser.add_argument("--steps", type=int, default=40, help="steps of the sampler (40)")
    parser.add_argument("--turns", type=int, default=4, help="turns of the workflow, of which the first warms up (4)")
    options = parser.parse_args(argv)
    found = measured(options)
    turns = found["turns"][1:] or found["turns"]
    best = min(turns, key=lambda turn: sum(turn["nodes"].values()))
    whole = sum(best["nodes"].values())
    shares = {name: seconds / whole for name, seconds in best["networks"].items()}
    outside = [1 - sum(turn["networks"].values()) / sum(turn["nodes"].values()) for turn in turns]
    result = {**vars(options), "shares": shares, "outside": outside, "turns": turns, "profile": found["profile"]}
    names = {"network": "network of the base", "pfj": "network of PFJ", "mmle": "network of MMLE"}
    lines = ["| part | share of the workflow's seconds, quickest turn |", "|---|---|"]
    lines += [f"| {names.get(name, name)} | {100 * share:.1f} % |" for name, share in shares.items()]
    lines.append(
        f"| everything else | {100 * (1 - sum(shares.values())):.1f} % ({', '.join(f'{100 * s:.1f}' for s in outside)}) |"
    )
    write_report("host_share", result, lines)
    return 0 if min(outside) < GOAL else 1
