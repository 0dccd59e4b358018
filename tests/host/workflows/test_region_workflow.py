"""The shipped workflow of Tiled Region Sampler, queued on a server of its own with a small SD-2 checkpoint."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from adaptivesr.tools.env import server as devserver
from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.checkpoints import put_small_checkpoint, with_small_checkpoint
from adaptivesr.tools.small_models.tiny import fetch_pixels
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = ROOT / "workflows" / "api" / "tiled_region_upscale.json"
ADAPTIVE = ROOT / "workflows" / "api" / "adadiffsr_any_model.json"
PHOTO = ROOT / "tools" / "demo_photo" / "astronaut.png"
SAMPLER, SCALE_STRIP = "AdaptiveSRTiledRegionSampler", 64
COUNTED = ("tiles", "calls", "region_calls", "images", "latent_mpx")


@pytest.fixture(scope="module")
def server():
    """A host with the small checkpoint and the demo photo."""

    def prepare(base):
        put_small_checkpoint(base)
        Image.open(PHOTO).convert("RGB").save(base / "input" / "example.png")

    with devserver.running_host(Path(os.environ["ADAPTIVESR_HOST"]), prepare=prepare, quiet=True) as running:
        yield running


@pytest.fixture
def workflow():
    """A function that makes the shipped graph for a target size, with the plan, the report and the map as outputs."""

    def make(width, height, scale=2.0, **settings):
        prompt = with_small_checkpoint(json.loads(WORKFLOW.read_text(encoding="utf-8")))
        for node_id in nodes_of_class(prompt, "ImageScale"):
            prompt[node_id]["inputs"].update(width=width, height=height, crop="center")
        (sampler,) = nodes_of_class(prompt, SAMPLER)
        inputs = prompt[sampler]["inputs"]
        inputs.update(settings)
        shared = {name: inputs[name] for name in ("model", "steps", "cfg", "tile_size", "overlap", "region_batch")}
        plan = {"width": round(width / scale), "height": round(height / scale), "scale": scale, **shared}
        prompt["plan"] = {"class_type": "AdaptiveSRUpscalePlan", "inputs": plan}
        prompt["plan text"] = {"class_type": "PreviewAny", "inputs": {"source": ["plan", 0]}}
        prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [sampler, 2]}}
        prompt["map"] = {"class_type": "PreviewImage", "inputs": {"images": [sampler, 1]}}
        return prompt

    return make


SMALL = {
    "width": 320,
    "height": 192,
    "steps": 3,
    "tile_size": 128,
    "overlap": 32,
    "region_batch": 2,
    "scheduler": "normal",
}


def finished(client, prompt):
    run = client.run(prompt)
    assert run.succeeded, run.error
    return run


def text(run, node_id):
    return json.loads(run.outputs[node_id]["text"][0])


def saved(client, run, prompt, class_type="SaveImage"):
    (node_id,) = nodes_of_class(prompt, class_type)
    return fetch_pixels(client, run.outputs[node_id]["images"][0])


def sampler_progress(run, prompt):
    (sampler,) = nodes_of_class(prompt, SAMPLER)
    return [event.data for event in run.events if event.kind == "progress" and event.data["node"] == sampler]


def test_the_workflow_upscales_and_does_the_work_that_the_plan_forecast(client, workflow):
    prompt = workflow(**SMALL)
    run = finished(client, prompt)
    assert saved(client, run, prompt).shape == (192, 320, 3)
    plan, report = text(run, "plan text"), text(run, "report")
    assert plan["size"] == "320x192"
    assert {name: report[name] for name in COUNTED} == {name: plan[name] for name in COUNTED}
    assert (report["tiles"], report["region_calls"], report["skipped"]) == (6, 18, 0)
    progress = sampler_progress(run, prompt)
    values = [data["value"] for data in progress]
    assert values == sorted(values) and {data["max"] for data in progress} == {18} and values[-1] == 18


def test_the_heat_map_has_the_canvas_aspect_with_a_scale_below(client, workflow):
    run = finished(client, workflow(**SMALL))
    sheet = fetch_pixels(client, run.outputs["map"]["images"][0])
    height, width = sheet.shape[:2]
    assert 0 < height - width * 192 / 320 <= SCALE_STRIP
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 10  # a map with numbers, not a plain sheet


def test_the_picture_stays_the_picture(client, workflow):
    prompt = workflow(**{**SMALL, "steps": 1}, denoise=0.05)
    picture = saved(client, finished(client, prompt), prompt).astype(float)
    photo = Image.open(PHOTO).convert("RGB")
    top = (photo.height - round(photo.width * 192 / 320)) // 2
    fitted = photo.crop((0, top, photo.width, photo.height - top)).resize((320, 192), Image.Resampling.LANCZOS)
    assert np.corrcoef(picture.ravel(), np.asarray(fitted, dtype=float).ravel())[0, 1] > 0.9


@pytest.mark.parametrize("merge_mode", ["aggregate", "final"])
def test_the_other_merge_modes_do_the_same_work(client, workflow, merge_mode):
    run = finished(client, workflow(**{**SMALL, "steps": 2}, merge_mode=merge_mode))
    plan, report = text(run, "plan text"), text(run, "report")
    assert {name: report[name] for name in COUNTED} == {name: plan[name] for name in COUNTED}
    assert report["merge"] == merge_mode


def test_a_budget_map_sends_the_steps_where_it_is_bright(client, workflow):
    prompt = workflow(**{**SMALL, "steps": 4})
    (sampler,) = nodes_of_class(prompt, SAMPLER)
    pixels = np.zeros((24, 40), dtype=np.uint8)
    pixels[:, 12:24], pixels[:, 24:] = 100, 255
    Image.fromarray(pixels).convert("RGB").save(client.log.parent / "input" / "budget.png")
    prompt["budget"] = {"class_type": "LoadImageMask", "inputs": {"image": "budget.png", "channel": "red"}}
    prompt[sampler]["inputs"]["budget"] = ["budget", 0]
    run = finished(client, prompt)
    report = text(run, "report")
    (counts,) = report["steps_per_region"]
    assert counts == [1, 3, 4, 1, 3, 4]
    assert sum(counts) == report["region_calls"] < text(run, "plan text")["region_calls"]
    last = sampler_progress(run, prompt)[-1]
    assert last["value"] == last["max"] == sum(counts)
    out = os.environ.get("ADAPTIVESR_OUT")
    if out:
        Image.fromarray(fetch_pixels(client, run.outputs["map"]["images"][0])).save(Path(out) / "budget_map.png")


def test_a_cancelled_run_stops_within_a_call_and_the_next_one_equals_the_first(client, workflow):
    prompt = workflow(**{**SMALL, "steps": 1})
    first = saved(client, finished(client, prompt), prompt)
    long = workflow(**{**SMALL, "steps": 60, "seed": 1})
    (sampler,) = nodes_of_class(long, SAMPLER)
    asked = []

    def cancel(event):
        at_work = event.kind == "progress" and event.data["node"] == sampler
        if at_work and not asked and event.data["value"] >= 4:
            client.interrupt()
            asked.append((time.monotonic(), event.data["value"]))

    run = client.run(long, on_event=cancel)
    assert run.events[-1].kind == "execution_interrupted"
    (when, done), *_ = asked
    assert time.monotonic() - when < 10.0
    assert max(data["value"] for data in sampler_progress(run, long)) <= done + 3 * SMALL["region_batch"]  # of 360
    client.post("/free", {"unload_models": True, "free_memory": True})  # so that nothing comes out of a cache
    time.sleep(1.0)
    again = finished(client, prompt)
    assert sampler_progress(again, prompt), "the sampler did not run again"
    assert np.array_equal(saved(client, again, prompt), first)


def test_gains_decide_about_the_steps(client):
    """The shipped workflow of AdaDiffSR; its network leaves noise in flat parts, so who gets more steps is tested elsewhere."""
    prompt = with_small_checkpoint(json.loads(ADAPTIVE.read_text(encoding="utf-8")))
    for node_id in nodes_of_class(prompt, "ImageScale"):
        prompt[node_id]["inputs"].update(width=320, height=192, crop="center")
    (sampler,) = nodes_of_class(prompt, SAMPLER)
    prompt[sampler]["inputs"].update(tile_size=128, overlap=32, cfg=1.0, steps=16)
    prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [sampler, 2]}}
    run = finished(client, prompt)
    report = text(run, "report")
    (steps,) = report["steps_per_region"]
    assert report["region_calls"] == sum(steps) < report["fixed_region_calls"] == 16 * len(steps)
    assert [len(word) for word in report["classes"][0]] == steps
    last = sampler_progress(run, prompt)[-1]
    assert last["value"] == last["max"] == sum(steps)
    assert saved(client, run, prompt).shape == (192, 320, 3)
    out = os.environ.get("ADAPTIVESR_OUT")
    if out:
        Image.fromarray(saved(client, run, prompt, "PreviewImage")).save(Path(out) / "gain_map.png")
        Image.fromarray(saved(client, run, prompt)).save(Path(out) / "gain.png")


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ADAPTIVESR_SLOW"), reason="minutes; ADAPTIVESR_SLOW=1 runs it")
def test_the_workflow_runs_at_full_size(client, workflow, tmp_path):
    out = Path(os.environ.get("ADAPTIVESR_OUT", tmp_path))
    prompt = workflow(2048, 2048, scale=4.0, steps=2, cfg=1.0, region_batch=1)
    run = client.run(prompt, timeout=1800)
    assert run.succeeded, run.error
    picture, sheet = saved(client, run, prompt), fetch_pixels(client, run.outputs["map"]["images"][0])
    assert picture.shape == (2048, 2048, 3)
    plan, report = text(run, "plan text"), text(run, "report")
    assert {name: report[name] for name in COUNTED} == {name: plan[name] for name in COUNTED}
    for name, pixels in (("tiled_2048", picture), ("tiled_2048_map", sheet)):
        Image.fromarray(pixels).save(out / f"{name}.png")
    (node_id,) = nodes_of_class(prompt, "AdaptiveSRRegionReport")
    over = next(key for key, node in prompt.items() if [node_id, 0] in node["inputs"].values())
    Image.fromarray(fetch_pixels(client, run.outputs[over]["images"][0])).save(out / "tiled_2048_report.png")
