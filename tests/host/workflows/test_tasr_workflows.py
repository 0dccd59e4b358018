"""The shipped TASR workflows, queued on a server of their own with small checkpoints that are made here."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from adaptivesr.tools.env import server as devserver
from adaptivesr.tools.env.client import nodes_of_class
from adaptivesr.tools.small_models.checkpoints import SMALL_SD2, put_small_checkpoint, with_small_checkpoint
from adaptivesr.tools.small_models.controls import SMALL_TASR, put_small_controls, with_small_controls
from adaptivesr.tools.small_models.tiny import default_inputs, fetch_pixels
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PHOTO = ROOT / "tools" / "demo_photo" / "astronaut.png"
SIDE = 512
"""Of the demo photo, in pixels."""
ADAPTER, MAP = "AdaptiveSRTimeAwareAdapter", "AdaptiveSRAdapterMap"


@pytest.fixture(scope="module")
def server():
    """A host with the small checkpoint, both small ControlNets and the demo photo."""

    def prepare(base):
        put_small_checkpoint(base)
        put_small_controls(base)
        Image.open(PHOTO).convert("RGB").save(base / "input" / "example.png")

    with devserver.running_host(Path(os.environ["ADAPTIVESR_HOST"]), prepare=prepare, quiet=True) as running:
        yield running


def shipped(name, width, steps=20, **adapter):
    """A shipped graph on the small files, with the report of Adapter Map as an output."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    prompt = with_small_controls(with_small_checkpoint(prompt))
    for node_id in nodes_of_class(prompt, "ImageScale"):
        prompt[node_id]["inputs"].update(width=width)
    for node_id in nodes_of_class(prompt, "ImageScaleBy"):
        prompt[node_id]["inputs"].update(scale_by=width / SIDE)
    (node_id,) = nodes_of_class(prompt, ADAPTER)
    prompt[node_id]["inputs"].update(adapter)
    for node_id in nodes_of_class(prompt, "AdaptiveSRSpacedSigmas"):
        prompt[node_id]["inputs"].update(steps=steps)
    (map_id,) = nodes_of_class(prompt, MAP)
    prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [map_id, 1]}}
    return prompt


def finished(client, prompt):
    run = client.run(prompt)
    assert run.succeeded, run.error
    return run


def report(run):
    return json.loads(run.outputs["report"]["text"][0])


def pixels(client, run, prompt, class_type="SaveImage"):
    (node_id,) = nodes_of_class(prompt, class_type)
    return fetch_pixels(client, run.outputs[node_id]["images"][0])


def keep(name, picture):
    """For looking at, where ADAPTIVESR_OUT names a folder."""
    if os.environ.get("ADAPTIVESR_OUT"):
        Image.fromarray(picture).save(Path(os.environ["ADAPTIVESR_OUT"]) / f"{name}.png")


def test_tasr_runs_its_20_steps_with_gates(client):
    prompt = shipped("tasr", 128)
    run = finished(client, prompt)
    picture, sheet = pixels(client, run, prompt), pixels(client, run, prompt, "PreviewImage")
    assert picture.shape == (128, 128, 3) and picture.std() > 1
    found = report(run)
    assert (found["calls"], found["skipped"]) == (20, 0)
    assert found["timesteps"][:3] == [999, 946, 894] and found["timesteps"][-2:] == [53, 0]
    assert list(found["sites"]) == ["middle", *(f"decoder {number}" for number in range(4))]
    assert sheet.shape[1] == 1024 and len(np.unique(sheet.reshape(-1, 3), axis=0)) > 50
    keep("tasr", picture)
    keep("tasr_map", sheet)


def test_the_gates_matter_and_the_second_run_equals_the_first(client):
    gated = shipped("tasr", 64, 3)
    first = pixels(client, finished(client, gated), gated)
    plain = shipped("tasr", 64, 3, schedule="training-free", preset="constant")
    assert not np.array_equal(pixels(client, finished(client, plain), plain), first)
    client.post("/free", {"unload_models": True, "free_memory": True})  # so that nothing comes out of a cache
    assert np.array_equal(pixels(client, finished(client, gated), gated), first)


def test_gates_and_schedule_together_save_a_fifth(client):
    found = report(finished(client, shipped("tasr", 64, 5, schedule="both")))  # 999, 749, 500, 250, 0
    assert (found["calls"], found["skipped"], found["saved"]) == (4, 1, 0.2)


def test_training_free_follows_the_regions_of_an_ordinary_controlnet(client):
    prompt = shipped("tasr_training_free", 256)
    for node_id in nodes_of_class(prompt, "AdaptiveSRTiledRegionSampler"):
        prompt[node_id]["inputs"].update(steps=6, tile_size=128, overlap=32, region_batch=2, scheduler="normal")
    run = finished(client, prompt)
    picture, sheet = pixels(client, run, prompt), pixels(client, run, prompt, "PreviewImage")
    assert picture.shape == (256, 256, 3)
    found = report(run)
    assert found["calls"] > 0 and found["skipped"] > 0
    assert (found["calls"] + found["skipped"]) % 6 == 0
    assert set(found["sites"]) == {"all sites"}
    keep("tasr_training_free", picture)
    keep("tasr_training_free_map", sheet)


def test_trained_without_adapters_is_a_sentence_on_the_node(client):
    prompt = shipped("tasr_training_free", 64, schedule="trained")
    run = client.run(prompt)
    assert not run.succeeded and "needs trained gates" in str(run.error)


TRAIN, LOAD = "AdaptiveSRTrainTimeAwareAdapter", "AdaptiveSRLoadTimeAwareControlNet"


def training_prompt(client, control_name, **inputs):
    """Load, train on the demo photo, show the losses."""
    info = client.object_info()
    load = {**default_inputs(info, LOAD), "control_name": control_name}
    settings = {"steps": 2, "batch_size": 1, "crop_size": 64, "reward": "gradient energy match (ours, weight-free)"}
    return {
        "base": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": SMALL_SD2}},
        "text": {"class_type": "AdaptiveSREmptyPrompt", "inputs": {"model": ["base", 0]}},
        "control": {"class_type": LOAD, "inputs": load},
        "photo": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "train": {
            "class_type": TRAIN,
            "inputs": {
                **default_inputs(info, TRAIN), **settings, **inputs, "model": ["base", 0], "vae": ["base", 2],
                "positive": ["text", 0], "control_net": ["control", 0], "images": ["photo", 0],
            },
        },
        "losses": {"class_type": "PreviewImage", "inputs": {"images": ["train", 2]}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["train", 3]}},
    }  # fmt: skip


def test_a_training_through_the_api_gives_a_file_that_trains_on(client):
    first = report(run := finished(client, training_prompt(client, SMALL_TASR)))
    keep("losses", fetch_pixels(client, run.outputs["losses"]["images"][0]))
    name = Path(first["file"]).name
    assert name in client.object_info()[LOAD]["input"]["required"]["control_name"][1]["options"]
    assert first["resume"] in client.object_info()[TRAIN]["input"]["required"]["resume"][1]["options"]
    second = report(finished(client, training_prompt(client, name, resume=first["resume"])))
    assert (first["steps"], second["steps"]) == (2, 4)
    refused = client.run(training_prompt(client, name, reward="CLIP-IQA"))
    assert not refused.succeeded and "choose the reward 'gradient energy match" in str(refused.error)
